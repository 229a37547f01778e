// Addresses. The page has its own (`#/loops/loan`), and resolves those that KFP and MLflow clients print.
import { computed, signal } from "@preact/signals";

export type Route =
  | { page: "loops" }
  | { page: "loop"; loop: string }
  | { page: "version"; loop: string; version: string }
  | { page: "runs" }
  | { page: "experiment"; id: string }
  | { page: "run"; id: string }
  | { page: "trace"; id: string }
  | { page: "unknown"; address: string };

/** MLflow writes run ids as 32 hexadecimal digits; ours are the same number with dashes. */
function runId(id: string): string {
  const hex = /^([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/i.exec(id);
  return hex ? hex.slice(1).join("-").toLowerCase() : id;
}

/** One part of an address; a stray percent sign is taken as it stands. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Resolve what stands behind `#`. Rules are tried in order; anything else is `unknown`. */
export function parseRoute(hash: string): Route {
  const address = hash.replace(/^#/, "").split("?")[0] ?? "";
  const parts = address.split("/").filter(Boolean).map(decode);
  const [head, a, b, c] = parts;
  if (head === undefined) return { page: "loops" };
  if (head === "loops" || head === "models") {
    if (a === undefined) return { page: "loops" };
    if (b === undefined) return { page: "loop", loop: a };
    if (b === "versions" && c !== undefined) return { page: "version", loop: a, version: c };
    if (b === "versions" || b === "runs") return { page: "loop", loop: a };
  }
  if (head === "runs") {
    if (a === undefined) return { page: "runs" };
    if (a === "details" && b !== undefined) return { page: "run", id: runId(b) }; // KFP
    return { page: "run", id: runId(a) };
  }
  if (head === "experiments") {
    if (a === undefined) return { page: "runs" };
    if (a === "details" && b !== undefined) return { page: "experiment", id: b }; // KFP
    if (b === "runs" && c !== undefined) return { page: "run", id: runId(c) }; // MLflow
    return { page: "experiment", id: a };
  }
  if ((head === "traces" || head === "trace") && a !== undefined) return { page: "trace", id: a };
  return { page: "unknown", address };
}

const hash = signal(location.hash);
addEventListener("hashchange", () => {
  hash.value = location.hash;
});

export const route = computed(() => parseRoute(hash.value));

const part = encodeURIComponent;
export const toLoop = (loop: string) => `#/loops/${part(loop)}`;
export const toVersion = (loop: string, version: string | number) => `#/loops/${part(loop)}/versions/${part(String(version))}`;
export const toRun = (id: string) => `#/runs/${part(id)}`;
export const toTrace = (id: string) => `#/traces/${part(id)}`;
