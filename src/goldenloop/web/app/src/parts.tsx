// Small pieces that every page uses.
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { type ApiError, type Condition, type Evidence, type Rollout } from "./api";
import { anything, dateTime, MISSING, number, odds, title, words } from "./format";

export type Tone = "gold" | "good" | "info" | "warn" | "bad" | "quiet";

const TONES: Record<string, Tone> = {
  Serving: "good", Training: "info", Waiting: "warn", Blocked: "bad",
  Golden: "gold", Blessed: "info", AwaitingApproval: "warn", Registered: "quiet", Refused: "bad", Retired: "quiet", Quarantined: "bad",
  Met: "good", Missed: "warn", Burning: "warn", Spent: "bad",
  Superseded: "quiet", Shadow: "info", Canary: "warn", Promoted: "gold", RolledBack: "bad", Inconclusive: "quiet",
  PENDING: "quiet", RUNNING: "info", SUCCEEDED: "good", SKIPPED: "quiet", FAILED: "bad", CANCELED: "quiet",
  pass: "good", fail: "bad", inconclusive: "quiet", error: "bad",
};

export const toneOf = (state: string | undefined): Tone => TONES[state ?? ""] ?? "quiet";

/** A state as a word with a colour; the word alone says it all. */
export function Badge({ state, text }: { state: string | undefined; text?: string }) {
  return <span class={`badge ${toneOf(state)}`}>{text ?? title(state ?? "unknown")}</span>;
}

/** An instant: event time to read, the wall clock's when pointed at. */
export function Time(props: { at: string | null | undefined; recorded?: string | null; toTheSecond?: boolean }) {
  const { at, recorded } = props;
  if (!at) return <span class="muted">{MISSING}</span>;
  const hint = recorded ? `event time ${at} · recorded ${recorded} (wall clock)` : at;
  return (
    <time dateTime={at} title={hint}>
      {dateTime(at, props.toTheSecond)}
    </time>
  );
}

const SHAPES: Record<string, [Tone, JSX.Element]> = {
  Alarm: ["bad", <path d="M8 2 14.5 13.5H1.5Z" />],
  Warning: ["warn", <path d="M8 2 14.5 13.5H1.5Z" />],
  Trigger: ["warn", <path d="M9.5 1 3 9h4l-1 6 7-8.5H8.5Z" />],
  NotTriggered: ["quiet", <path d="M3 7h10v2H3Z" />],
  Promoted: ["gold", <path d="M8 1.5 14 8h-3.5v6h-5V8H2Z" />],
  RolledBack: ["bad", <path d="M8 14.5 2 8h3.5V2h5v6H14Z" />],
  Inconclusive: ["quiet", <path d="M3 5h10v2H3ZM3 9h10v2H3Z" />],
  Golden: ["gold", <path d="m8 1 2 4.7 5 .4-3.8 3.3 1.2 5L8 11.7l-4.4 2.7 1.2-5L1 6.1l5-.4Z" />],
  Blessed: ["good", <path d="m2 8.5 2-2 2.5 2.5 5.5-6 2 2-7.5 8Z" />],
  Refused: ["bad", <path d="m3 5 2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3Z" />],
  RunFailed: ["bad", <path d="m3 5 2-2 3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3Z" />],
  Run: ["info", <path d="M4 2.5 13 8l-9 5.5Z" />],
  Rollout: ["info", <path d="M2 11h3V8h3V5h3V2h3v12H2Z" />],
  Canary: ["warn", <path d="M2 11h3V8h3V5h3V2h3v12H2Z" />],
  BurnRate: ["warn", <path d="M8 1c1 3 4.5 4.5 4.5 8.5a4.5 4.5 0 0 1-9 0C3.5 7.5 5 6.5 5.5 5 7 5.5 8 3.5 8 1Z" />],
  BudgetSpent: ["bad", <path d="M2 2h12v12H2ZM4 7v2h8V7Z" fill-rule="evenodd" />],
  BudgetLeft: ["good", <path d="M2 2h12v12H2ZM4 7v2h3v3h2V9h3V7H9V4H7v3Z" fill-rule="evenodd" />],
};

/** The sign of a kind of event, the same in the list and above the chart. */
export function Sign({ kind }: { kind: string }) {
  const [tone, shape] = SHAPES[kind] ?? ["quiet", <circle cx="8" cy="8" r="3.5" />];
  return (
    <svg class={`sign ${tone}`} viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
      {shape}
    </svg>
  );
}

export function Panel(props: { title: string; side?: ComponentChildren; class?: string; children: ComponentChildren }) {
  const id = `panel-${props.title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return (
    <section class={`panel ${props.class ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{props.title}</h2>
        {props.side && <div class="side">{props.side}</div>}
      </header>
      {props.children}
    </section>
  );
}

/** The head of a page below the loops: where it lies, what it is, its state. */
export function Head(props: { trail: [string, string][]; name: string; badges?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="head">
      <nav aria-label="Where you are">
        {props.trail.map(([href, text]) => (
          <span key={href}>
            <a href={href}>{text}</a>
            <i aria-hidden="true">/</i>
          </span>
        ))}
      </nav>
      <div class="name">
        <h1 tabIndex={-1}>{props.name}</h1>
        {props.badges}
      </div>
      {props.children && <div class="under">{props.children}</div>}
    </div>
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Whatever else a record holds, so that nothing the server says is hidden. */
export function otherFacts(record: Record<string, unknown> | null | undefined, shown: string[]): [string, ComponentChildren][] {
  return Object.entries(record ?? {})
    .filter(([name]) => !shown.includes(name))
    .map(([name, value]) => [words(name), <span class={typeof value === "object" ? "code" : ""}>{anything(value)}</span>]);
}

export function Problem({ error, what }: { error: ApiError; what: string }) {
  return (
    <div class="problem" role="alert">
      <strong>{error.code === 404 ? `No such ${what}` : `This ${what} cannot be shown`}</strong>
      <p>{error.message}</p>
    </div>
  );
}

export const Loading = () => <p class="loading" role="status">Reading …</p>;
export const Nothing = ({ children }: { children: ComponentChildren }) => <p class="nothing">{children}</p>;

/** A command to type, with a button that copies it. */
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => {
        setCopied(true);
        setTimeout(() => setCopied(false), 1500);
      },
      () => undefined, // not allowed: the text can still be selected
    );
  return (
    <div class="command">
      <code>{text}</code>
      {"clipboard" in navigator && (
        <button type="button" onClick={() => void copy()} aria-label={`Copy: ${text}`}>
          {copied ? "Copied" : "Copy"}
        </button>
      )}
    </div>
  );
}

export function Conditions({ conditions }: { conditions: Condition[] }) {
  if (conditions.length === 0) return null;
  return (
    <ul class="waits">
      {conditions.map((condition) => (
        <li key={condition.type}>
          <strong>{title(condition.reason || `not${condition.type}`)}</strong>
          <span>{condition.message || `${condition.type} is ${condition.status.toLowerCase()}`}</span>
        </li>
      ))}
    </ul>
  );
}

export const waiting = (conditions: Condition[] | undefined) => (conditions ?? []).filter(({ status }) => status === "False");

/** How far a sum of evidence has come on its way to its threshold, 0 to 1. */
const progress = (value: number, threshold: number) => (threshold > 0 ? Math.min(1, Math.max(0, value / threshold)) : 0);

function Meter(props: { name: string; tone: Tone; value: number; threshold: number }) {
  const share = progress(props.value, props.threshold);
  const text = `${odds(props.value)} of ${odds(props.threshold)}`;
  return (
    <div class="meter-row" title={`${props.name}: e^${number(props.value)} of e^${number(props.threshold)} needed`}>
      <span>{props.name}</span>
      <div
        class={`meter ${props.tone}`}
        role="meter"
        aria-label={`Evidence ${props.name.toLowerCase()}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share * 100)}
        aria-valuetext={text}
      >
        <i style={{ width: `${share * 100}%` }} />
      </div>
      <span class="figure">{text}</span>
    </div>
  );
}

/** Both sums of evidence of a rollout as bars towards their thresholds. */
export function EvidenceBars({ evidence }: { evidence: Evidence }) {
  return (
    <div class="meters">
      <Meter name="Better" tone="good" value={evidence.benefit} threshold={evidence.threshold} />
      <Meter name="Worse" tone="bad" value={evidence.harm} threshold={evidence.harmThreshold} />
    </div>
  );
}

/** One sentence on where a rollout stands. */
export function rolloutSentence({ status }: Rollout): string {
  if (!status) return "Not started yet.";
  const pair = `Version ${status.challenger ?? "?"} against ${status.champion ?? "?"}`;
  switch (status.phase) {
    case "Shadow":
      return `${pair}, in shadow: it answers nobody yet.`;
    case "Canary":
      return `${pair}: it answers ${number(status.share ?? 0)} % of the requests.`;
    case "Promoted":
      return `Version ${status.challenger ?? "?"} took over from ${status.champion ?? "?"}.`;
    case "RolledBack":
      return `Version ${status.challenger ?? "?"} was rolled back; ${status.champion ?? "?"} stays.`;
    case "Inconclusive":
      return `The evidence did not suffice; version ${status.champion ?? "?"} stays.`;
    default:
      return `${pair}.`;
  }
}

/** A table that scrolls inside its panel on a narrow screen. */
export function Table({ caption, heads, children }: { caption: string; heads: [string, ("right" | "")?][]; children: ComponentChildren }) {
  return (
    <div class="table" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption class="hidden">{caption}</caption>
        <thead>
          <tr>
            {heads.map(([head, side]) => (
              <th key={head} scope="col" class={side ?? ""}>
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
