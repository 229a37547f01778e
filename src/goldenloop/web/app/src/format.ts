// How numbers, times and digests are written. Times are UTC: the platform counts in it, and so do logs.

const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
const precise = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", hour12: false });

export const MISSING = "–";

export function dateTime(iso: string | null | undefined, toTheSecond = false): string {
  const at = new Date(iso ?? "");
  return Number.isNaN(at.getTime()) ? MISSING : `${day.format(at)}, ${(toTheSecond ? precise : clock).format(at)}`;
}

/** A duration between two instants: `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function between(from: string | null | undefined, to: string | null | undefined): string {
  const ms = new Date(to ?? "").getTime() - new Date(from ?? "").getTime();
  return Number.isNaN(ms) ? MISSING : duration(Math.max(0, ms));
}

export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 1) return `${Math.round(ms)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A length in minutes as people say it: `0.5 min`, `12 min`, `3 h 20 min`. */
export function minutes(value: number): string {
  if (value < 90) return `${number(Number(value.toPrecision(2)))} min`;
  return `${grouped(Math.floor(value / 60))} h ${Math.round(value % 60)} min`;
}

/** Three significant digits below a thousand, whole numbers with thin spaces above. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return MISSING;
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return grouped(Math.round(value));
  const size = Math.abs(value);
  if (size > 0 && size < 0.001) return value.toExponential(1).replace("-", "−");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3).replace("-", "−");
}

export function grouped(value: number): string {
  const digits = String(Math.abs(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
  return value < 0 ? `−${digits}` : digits;
}

export function signed(value: number): string {
  return value > 0 ? `+${number(value)}` : number(value);
}

/** The odds that a natural logarithm of an e-value stands for: `22 : 1`. Beyond a million, as a power of ten. */
export function odds(logarithm: number): string {
  if (logarithm <= 0) return "below 1 : 1";
  if (logarithm > Math.log(1e6)) return `10^${(logarithm / Math.LN10).toFixed(1)} : 1`;
  const value = Math.exp(logarithm);
  return `${value < 10 ? value.toFixed(1) : grouped(Math.round(value))} : 1`;
}

export function anything(value: unknown): string {
  if (value === null || value === undefined || value === "") return MISSING;
  if (typeof value === "number") return String(Number(value.toPrecision(6))).replace("-", "−");
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

/** `trainedUntil` and `trained_until` → `trained until`. */
export function words(name: string): string {
  return name
    .replace(/_/g, " ")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase();
}

const ACRONYMS = /\b(auc|roc|pr|rmse|mae|mape|mse|f1|r2)\b/g;

/** What a metric is called: `balanced_accuracy` → `Balanced accuracy`, `roc_auc` → `ROC AUC`. */
export function metricName(name: string): string {
  const text = words(name).replace(ACRONYMS, (found) => found.toUpperCase());
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** What a phase or state is called in a sentence: `RolledBack` → `Rolled back`, `SUCCEEDED` → `Succeeded`. */
export function title(name: string): string {
  const text = /[a-z]/.test(name) ? words(name) : name.toLowerCase().replace(/_/g, " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export const shortDigest = (digest: string | null | undefined) => digest?.replace(/^sha256:/, "").slice(0, 12) ?? MISSING;
