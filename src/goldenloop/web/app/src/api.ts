// The public API of the same origin: its shapes, and how the page reads and re-reads it.
import { signal } from "@preact/signals";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export const NAMESPACE = "default";

export type Condition = {
  type: string;
  status: "True" | "False" | "Unknown";
  reason?: string;
  message?: string;
  lastTransitionTime?: string;
};
export type Choice = { value: unknown; why?: string };
export type Metadata = {
  name: string;
  namespace?: string;
  generation?: number;
  creationTimestamp?: string;
  ownerReferences?: { kind: string; name: string }[];
};
export type Loop = {
  metadata: Metadata;
  spec: Record<string, unknown>;
  status?: {
    champion?: string | null;
    phase?: string;
    watermark?: string | null;
    conditions?: Condition[];
    choices?: Record<string, Choice>;
  };
};
/** Evidence values and thresholds are natural logarithms of e-values. */
export type Evidence = { benefit: number; harm: number; threshold: number; harmThreshold: number };
export type RolloutPoint = { at: string; labelled: number; benefit: number; harm: number; phase: string; share: number };
export type Rollout = {
  metadata: Metadata;
  spec?: { loop?: string; service?: string };
  status?: {
    phase: string;
    champion?: string;
    challenger?: string;
    share?: number;
    labelled?: number;
    evidence?: Evidence | null;
    history?: RolloutPoint[];
    reason?: string;
    labelsUntilDecision?: number | null;
  };
};
export type TimelineItem = {
  sequence: number;
  kind: string;
  text: string;
  at: string;
  recorded?: string;
  facts?: Record<string, unknown>;
};
export type QualityWindow = {
  index: number;
  start: string;
  end: string;
  rows: number;
  loop: number | null;
  low: number | null;
  high: number | null;
  version: string | null;
};
/** A baseline: values in the order of the windows, or each with the index of its window. */
export type Baseline = ({ index: number; value: number | null } | number | null)[] | null;
export type DriftWindow = {
  index: number;
  end?: string;
  score: number | null;
  statistic: number | null;
  threshold: number | null;
  verdict: string;
};
export type Quality = {
  metric: string;
  windows: QualityWindow[];
  never?: Baseline;
  periodic?: Baseline;
  drift?: DriftWindow[];
};
export type DataVersion = { rows?: number; digest?: string; [fact: string]: unknown };
export type CodeVersion = { commit?: string | null; dirty?: boolean; digest?: string; [fact: string]: unknown };
export type EvaluationRecord = { verdict?: string; reason?: string; [fact: string]: unknown };
export type Version = {
  number: number;
  state: string;
  metrics?: Record<string, number>;
  created?: string;
  trainedUntil?: string | null;
  run?: string | null;
  digest?: string;
  evaluation?: EvaluationRecord | null;
  data?: DataVersion | null;
  code?: CodeVersion | null;
};
export type Task = {
  name: string;
  state: string;
  started?: string | null;
  finished?: string | null;
  error?: string | null;
  cached?: boolean;
  dependsOn?: string[];
};
export type Run = {
  id: string;
  name?: string;
  loop?: string | null;
  state: string;
  cause?: { kind?: string; text?: string } | null;
  created?: string;
  started?: string | null;
  finished?: string | null;
  error?: string | null;
  tasks?: Task[];
};
export type Attribution = { feature: string; value: unknown; contribution: number; text?: string };
export type Trace = {
  prediction: { id: string; at: string; service?: string; version?: string | number; reason?: string; latencyMs?: number };
  payload: Record<string, unknown>;
  answer: { value: unknown; probabilities?: Record<string, number> | null };
  label?: Record<string, unknown> | null;
  attributions?: Attribution[] | null;
  evaluation?: EvaluationRecord | null;
  version?: Version | null;
  run?: Run | null;
  data?: DataVersion | null;
  code?: CodeVersion | null;
};
export type Items<T> = { items: T[] };
export type BurnAlert = { text: string; severity: string; factor: number; burnRate: number | null; firing: boolean };
/** An objective and where it stands; what is not counted yet has its sentence only. */
export type Budget = {
  slo: string;
  name: string;
  promise: string;
  state: string;
  text: string;
  indicator?: string;
  target?: number;
  window?: string;
  total?: number;
  attainment?: number | null;
  budgetRemaining?: number | null;
  note?: string;
  alerts?: BurnAlert[];
};
export type MonitorVerdict = {
  monitor: string;
  metric: string;
  of: string;
  verdict: string;
  value: number | null;
  threshold: number | null;
  window: number;
  at: string;
  note: string;
};
export type Owner = {
  fit: { state: "Fit" | "AtRisk" | "NotFit" | "Unknown"; text: string };
  budgets: Budget[];
  promotionError: { alpha: number; spent: number; remaining: number };
  did: { since: string; runs: number; failed: number; minutes: number; promotions: number; rolledBack: number; alarms: number; windows: number };
  waits: { kind: string; text: string; command: string }[];
  monitors: MonitorVerdict[];
};

const part = encodeURIComponent;
const group = "/apis/goldenloop.dev/v1alpha1";
const ours = "/goldenloop/v1alpha1";
export const paths = {
  loops: `${group}/namespaces/${NAMESPACE}/loops`,
  loop: (name: string) => `${group}/namespaces/${NAMESPACE}/loops/${part(name)}`,
  rollouts: `${group}/rollouts`,
  view: (name: string) => `${ours}/namespaces/${NAMESPACE}/loops/${part(name)}`,
  owner: (name: string) => `${ours}/namespaces/${NAMESPACE}/loops/${part(name)}/owner`,
  quality: (name: string) => `${ours}/namespaces/${NAMESPACE}/loops/${part(name)}/quality`,
  versions: (name: string) => `${ours}/namespaces/${NAMESPACE}/loops/${part(name)}/versions`,
  card: (name: string, number: number) => `${ours}/namespaces/${NAMESPACE}/loops/${part(name)}/versions/${number}/card?format=html`,
  runs: (loop?: string) => `${ours}/runs${loop === undefined ? "" : `?loop=${part(loop)}&namespace=${NAMESPACE}`}`,
  run: (id: string) => `${ours}/runs/${part(id)}`,
  log: (id: string, task: string) => `${ours}/runs/${part(id)}/tasks/${part(task)}/log`,
  trace: (id: string) => `${ours}/trace/${part(id)}`,
  experiment: (id: string) => `/apis/v2beta1/experiments/${part(id)}`,
  experimentRuns: (id: string) => `/apis/v2beta1/runs?experiment_id=${part(id)}&page_size=100`,
};

/** The server answered with an error (its Status message), or did not answer (`code` 0). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/** When the server last failed to answer at all; null while it answers. */
export const unreachableSince = signal<Date | null>(null);

const PATIENCE_MS = 15_000;

async function read(path: string, signalOfCaller: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      headers: { accept: "application/json, text/plain;q=0.9" },
      signal: AbortSignal.any([signalOfCaller, AbortSignal.timeout(PATIENCE_MS)]),
    });
  } catch (cause) {
    if (signalOfCaller.aborted) throw cause;
    unreachableSince.value ??= new Date();
    throw new ApiError("The control process is not answering.", 0);
  }
  unreachableSince.value = null;
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    const status = (await response.json()) as { message?: string; error?: { message?: string } | string };
    message = status.message ?? (typeof status.error === "string" ? status.error : status.error?.message) ?? message;
  } catch {
    // Not a Status object: the code and its name have to do.
  }
  throw new ApiError(message, response.status);
}

export type Resource<T> = { data: T | undefined; error: ApiError | undefined; refresh: () => void };

/**
 * Read `path` now, again every `every` ms (0: never), and when `refresh` is called. A failed re-read keeps the last data.
 * A hidden tab does not poll. A null path reads nothing.
 */
export function useResource<T>(path: string | null, every = 0, as: "json" | "text" = "json"): Resource<T> {
  const [state, setState] = useState<{ path: string | null; data?: T; error?: ApiError; text?: string }>({ path });
  const again = useRef<() => void>(() => undefined);
  useEffect(() => {
    if (path === null) return undefined;
    const caller = new AbortController();
    let busy = false;
    let wanted = false;
    const load = async () => {
      if (busy) {
        wanted = true;
        return;
      }
      busy = true;
      try {
        // Compared as text, so that an unchanged answer repaints nothing.
        const text = await (await read(path, caller.signal)).text();
        setState((was) =>
          was.path === path && was.text === text && was.error === undefined
            ? was
            : { path, text, data: as === "json" ? (JSON.parse(text) as T) : (text as T) },
        );
      } catch (cause) {
        if (caller.signal.aborted) return;
        const error = cause instanceof ApiError ? cause : new ApiError(`Unreadable answer from ${path}: ${String(cause)}`, 0);
        setState((was) => ({ ...(was.path === path ? was : {}), path, error }));
      } finally {
        busy = false;
      }
      if (wanted && !caller.signal.aborted) {
        wanted = false;
        void load();
      }
    };
    again.current = () => void load();
    void load();
    const tick = () => {
      if (!document.hidden) void load();
    };
    const timer = every > 0 ? setInterval(tick, every) : undefined;
    if (every > 0) document.addEventListener("visibilitychange", tick);
    return () => {
      caller.abort();
      again.current = () => undefined;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", tick);
    };
  }, [path, every, as]);
  const refresh = useCallback(() => again.current(), []);
  const current = state.path === path;
  return { data: current ? state.data : undefined, error: current ? state.error : undefined, refresh };
}

/** The rollouts of one loop, the latest first. A Rollout names its loop, or is owned by it. */
export function rolloutsOf(loop: string, rollouts: Rollout[]): Rollout[] {
  const mine = rollouts.filter(
    ({ metadata, spec }) =>
      (metadata.namespace ?? NAMESPACE) === NAMESPACE &&
      (spec?.loop === loop ||
        spec?.service === loop ||
        (metadata.ownerReferences ?? []).some((owner) => owner.kind === "Loop" && owner.name === loop) ||
        metadata.name.replace(/-v?\d+$/, "") === loop),
  );
  const order = (rollout: Rollout) => Number(rollout.status?.challenger ?? 0);
  return mine.sort(
    (a, b) =>
      order(b) - order(a) || (b.metadata.creationTimestamp ?? "").localeCompare(a.metadata.creationTimestamp ?? ""),
  );
}

export const isOpen = (rollout: Rollout) => ["Shadow", "Canary"].includes(rollout.status?.phase ?? "");

/** A baseline's value for each window, null where it has none. */
export function aligned(baseline: Baseline | undefined, windows: QualityWindow[]): (number | null)[] | null {
  if (!baseline || baseline.length === 0) return null;
  const byIndex = new Map<number, number | null>();
  baseline.forEach((entry, position) => {
    if (entry !== null && typeof entry === "object") byIndex.set(entry.index, entry.value);
    else byIndex.set(windows[position]?.index ?? -1, entry);
  });
  return windows.map((window) => byIndex.get(window.index) ?? null);
}
