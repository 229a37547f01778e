// The pictures: a sparkline (SVG), and uPlot for whatever has axes.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { aligned, type DriftWindow, type Evidence, type Quality, type QualityWindow, type RolloutPoint, type TimelineItem } from "./api";
import { dateTime, grouped, metricName, number, odds } from "./format";
import { Sign } from "./parts";

const seconds = (iso: string) => new Date(iso).getTime() / 1000;
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

/** Quality per window in the space of a word. */
export function Spark({ windows, metric }: { windows: QualityWindow[]; metric: string }) {
  const shown = windows.filter((window) => isNumber(window.loop)).slice(-120);
  const values = shown.map((window) => window.loop as number);
  const latest = values.at(-1);
  if (latest === undefined || shown.length < 2) return <div class="spark none">No labelled window yet</div>;
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const points = values.map((value, at) => [(at / (values.length - 1)) * 300, 46 - ((value - low) / span) * 40] as const);
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  return (
    <svg
      class="spark"
      viewBox="0 0 300 52"
      preserveAspectRatio="none"
      role="img"
      aria-label={`${metric} over the last ${shown.length} windows: latest ${number(latest)}, lowest ${number(low)}, highest ${number(low + span)}`}
    >
      <polygon points={`0,52 ${line} 300,52`} />
      <polyline points={line} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

type Palette = (name: string) => string;

/** Colours come from the style sheet, so that charts follow light and dark. */
function palette(): Palette {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function useScheme(): boolean {
  const [isDark, setDark] = useState(dark.matches);
  useEffect(() => {
    const change = () => setDark(dark.matches);
    dark.addEventListener("change", change);
    return () => dark.removeEventListener("change", change);
  }, []);
  return isDark;
}

type Made = { options: Omit<uPlot.Options, "width" | "height">; data: uPlot.AlignedData };

/**
 * Keep a uPlot in a box: made anew when `shape` or the colour scheme changes, given new data otherwise, so that a live
 * update neither flickers nor loses the zoom.
 */
function usePlot(make: (colour: Palette) => Made, shape: string, height: number) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const scheme = useScheme();
  const latest = useRef(make);
  latest.current = make;
  const made = make(palette());
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const { options, data } = latest.current(palette());
    const own = new uPlot({ ...options, width: Math.max(120, element.clientWidth), height }, data, element);
    plot.current = own;
    const resize = new ResizeObserver(() => own.setSize({ width: Math.max(120, element.clientWidth), height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      own.destroy();
      plot.current = null;
    };
  }, [shape, scheme, height]);
  const signature = JSON.stringify(made.data);
  const drawn = useRef({ signature, shape });
  useLayoutEffect(() => {
    if (drawn.current.signature !== signature && drawn.current.shape === shape) {
      const own = plot.current;
      const zoomed = own !== null && isZoomed(own);
      own?.setData(made.data, !zoomed);
      if (zoomed) own.redraw();
    }
    drawn.current = { signature, shape };
  }, [signature, shape]);
  return { box, plot };
}

function isZoomed(plot: uPlot): boolean {
  const times = plot.data[0];
  const { min, max } = plot.scales.x ?? {};
  const [first, last] = [times[0], times.at(-1)];
  return isNumber(min) && isNumber(max) && isNumber(first) && isNumber(last) && (min > first || max < last);
}

const FONT = "11px Inter, system-ui, sans-serif";

function axis(colour: Palette, extra: uPlot.Axis): uPlot.Axis {
  return {
    stroke: colour("ink-3"),
    font: FONT,
    labelFont: FONT,
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
    ...extra,
  };
}

const utc = (timestamp: number) => uPlot.tzDate(new Date(timestamp * 1000), "Etc/UTC");
// Ticks in the order people here write dates; uPlot's own puts the month first.
const TIME_TICKS: uPlot.Axis["values"] = [
  [31_536_000, "{YYYY}", null, null, null, null, null, null, 1],
  [2_419_200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86_400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [3_600, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, ":{ss}", "\n{D} {MMM} {HH}:{mm}", null, "\n{D} {MMM} {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
];

type Span = { version: string; from: number; to: number };

/** The stretches of windows answered by one version. */
function champions(windows: QualityWindow[]): Span[] {
  const spans: Span[] = [];
  for (const { version, start, end } of windows) {
    if (version === null || version === undefined) continue;
    const current = spans.at(-1);
    if (current?.version === String(version)) current.to = seconds(end);
    else spans.push({ version: String(version), from: current ? current.to : seconds(start), to: seconds(end) });
  }
  return spans;
}

const MARKED = ["Alarm", "Trigger", "Promoted", "RolledBack"];
const BANDS = 6; // colours of champions, taken in turn
const LANE = 26; // px above the plot, for the marks

const bandOf = (version: string) => `band-${(Math.max(1, Number(version) || 1) - 1) % BANDS}`;

type Cluster = { left: number; items: TimelineItem[] };
type Tip = { left: number; window?: number; items?: TimelineItem[] };

export function QualityChart({ quality, items }: { quality: Quality; items: TimelineItem[] }) {
  const windows = [...quality.windows].sort((a, b) => seconds(a.end) - seconds(b.end));
  const never = aligned(quality.never, windows);
  const periodic = aligned(quality.periodic, windows);
  const spans = champions(windows);
  const marks = items.filter(({ kind }) => MARKED.includes(kind));
  const [clusters, setClusters] = useState<Cluster[]>([]);
  const [tip, setTip] = useState<Tip | null>(null);
  const drawn = useRef({ spans, marks });
  drawn.current = { spans, marks };

  const { box, plot } = usePlot(
    (colour) => ({
      data: [
        windows.map(({ end }) => seconds(end)),
        windows.map(({ high }) => high),
        windows.map(({ low }) => low),
        ...(never ? [never] : []),
        ...(periodic ? [periodic] : []),
        windows.map(({ loop }) => loop),
      ] as uPlot.AlignedData,
      options: {
        tzDate: utc,
        padding: [LANE + 8, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false }, sync: { key: "loop" } },
        scales: { x: { time: true } },
        axes: [axis(colour, { values: TIME_TICKS, space: 80, size: 36 }), axis(colour, { size: 46, values: (_, ticks) => ticks.map(number) })],
        series: [
          {},
          { width: 0, points: { show: false } },
          { width: 0, points: { show: false } },
          ...(never ? [{ stroke: colour("never"), width: 1.25, dash: [3, 3], points: { show: false } }] : []),
          ...(periodic ? [{ stroke: colour("periodic"), width: 1.25, points: { show: false } }] : []),
          { stroke: colour("line-loop"), width: 2, points: { show: windows.length < 3 } },
        ],
        bands: [{ series: [1, 2], fill: colour("interval") }],
        hooks: {
          drawClear: [(own) => paintSpans(own, drawn.current.spans, palette())],
          draw: [
            (own) => {
              paintMarks(own, drawn.current.marks, palette());
              paintNames(own, drawn.current.spans, palette());
              setClusters(cluster(own, drawn.current.marks));
            },
          ],
          setCursor: [
            (own) => {
              const { idx, left } = own.cursor;
              setTip(isNumber(idx) && isNumber(left) && left >= 0 ? { left: left + own.over.offsetLeft, window: idx } : null);
            },
          ],
        },
      },
    }),
    `${never !== null}${periodic !== null}${windows.length < 3}`,
    300,
  );
  const signature = marks.map(({ sequence }) => sequence).join() + spans.map(({ version, to }) => version + to).join();
  useEffect(() => plot.current?.redraw(), [signature]);

  const latest = windows.findLast(({ loop }) => isNumber(loop));
  const summary =
    `${quality.metric} per window over event time, ${windows.length} windows` +
    (latest ? `; latest ${number(latest.loop)} by version ${latest.version ?? "?"}` : "") +
    `. ${spans.length} stretches of champions; ${marks.length} marks.`;
  const width = box.current?.clientWidth ?? 0;
  const at = tip?.window === undefined ? undefined : windows[tip.window];
  return (
    <div class="chart" onMouseLeave={() => setTip(null)}>
      <div class="plot" ref={box} role="img" aria-label={summary} data-chart="quality" />
      <div class="lane">
        {clusters.map(({ left, items: group }) => (
          <button
            key={group[0]?.sequence}
            type="button"
            style={{ left: `${left}px` }}
            aria-label={group.map(({ kind, text }) => `${kind}: ${text}`).join("; ")}
            onMouseEnter={() => setTip({ left, items: group })}
            onFocus={() => setTip({ left, items: group })}
            onBlur={() => setTip(null)}
            onMouseLeave={() => setTip(null)}
          >
            {MARKED.filter((kind) => group.some((item) => item.kind === kind)).map((kind) => (
              <Sign key={kind} kind={kind} />
            ))}
            {group.length > 2 && <b>{group.length}</b>}
          </button>
        ))}
      </div>
      {tip && (
        <div class="tip" style={tip.left > width / 2 ? { right: `${width - tip.left + 14}px` } : { left: `${tip.left + 14}px` }}>
          {tip.items
            ? tip.items.map((item) => (
                <p key={item.sequence}>
                  <Sign kind={item.kind} /> <strong>{item.text}</strong>
                  <span>{dateTime(item.at)}</span>
                </p>
              ))
            : at && (
                <WindowTip
                  window={at}
                  metric={quality.metric}
                  never={never?.[tip.window ?? -1]}
                  periodic={periodic?.[tip.window ?? -1]}
                />
              )}
        </div>
      )}
      <ul class="legend">
        <li><i class="key loop" />This loop, with its interval</li>
        {never && <li><i class="key never" />Never retrained</li>}
        {periodic && <li><i class="key periodic" />Retrained every period</li>}
        <li><Sign kind="Alarm" />Alarm</li>
        <li><Sign kind="Trigger" />Trigger</li>
        <li><Sign kind="Promoted" />Promotion</li>
        <li><Sign kind="RolledBack" />Rollback</li>
      </ul>
    </div>
  );
}

function WindowTip(props: { window: QualityWindow; metric: string; never?: number | null | undefined; periodic?: number | null | undefined }) {
  const { window } = props;
  return (
    <>
      <p>
        <strong>Window {window.index}</strong>
        <span>
          {dateTime(window.start)} to {dateTime(window.end)}
        </span>
      </p>
      <table>
        <tbody>
          <tr><th scope="row">{metricName(props.metric)}</th><td>{number(window.loop)}</td></tr>
          <tr><th scope="row">interval</th><td>{number(window.low)} to {number(window.high)}</td></tr>
          {isNumber(props.never) && <tr><th scope="row">never retrained</th><td>{number(props.never)}</td></tr>}
          {isNumber(props.periodic) && <tr><th scope="row">every period</th><td>{number(props.periodic)}</td></tr>}
          <tr><th scope="row">champion</th><td>version {window.version ?? "–"}</td></tr>
          <tr><th scope="row">rows</th><td>{number(window.rows)}</td></tr>
        </tbody>
      </table>
    </>
  );
}

function paintSpans(own: uPlot, spans: Span[], colour: Palette) {
  const { ctx, bbox } = own;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
  ctx.clip();
  for (const { version, from, to } of spans) {
    const left = own.valToPos(from, "x", true);
    const right = own.valToPos(to, "x", true);
    const hue = colour(bandOf(version));
    ctx.fillStyle = hue;
    ctx.globalAlpha = 0.1;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.globalAlpha = 0.9;
    ctx.fillRect(left + ratio, bbox.top + bbox.height - 3 * ratio, Math.max(ratio, right - left - 2 * ratio), 3 * ratio);
  }
  ctx.restore();
}

/** The names of the stretches, above the grid and only where there is room. */
function paintNames(own: uPlot, spans: Span[], colour: Palette) {
  const { ctx, bbox } = own;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.font = `600 ${11 * ratio}px Inter, system-ui, sans-serif`;
  ctx.lineWidth = 3 * ratio;
  ctx.lineJoin = "round";
  ctx.strokeStyle = colour("surface");
  for (const { version, from, to } of spans) {
    const left = Math.max(bbox.left, own.valToPos(from, "x", true));
    const right = Math.min(bbox.left + bbox.width, own.valToPos(to, "x", true));
    const name = `v${version}`;
    if (ctx.measureText(name).width + 10 * ratio > right - left) continue;
    ctx.fillStyle = colour(bandOf(version));
    ctx.strokeText(name, left + 6 * ratio, bbox.top + bbox.height - 10 * ratio);
    ctx.fillText(name, left + 6 * ratio, bbox.top + bbox.height - 10 * ratio);
  }
  ctx.restore();
}

function paintMarks(own: uPlot, marks: TimelineItem[], colour: Palette) {
  const { ctx, bbox } = own;
  ctx.save();
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.lineWidth = devicePixelRatio;
  for (const { kind, at } of marks) {
    const left = Math.round(own.valToPos(seconds(at), "x", true)) + 0.5;
    if (left < bbox.left || left > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour(kind === "Promoted" ? "gold" : kind === "Trigger" ? "warn" : "bad");
    ctx.globalAlpha = kind === "Promoted" || kind === "RolledBack" ? 0.9 : 0.45;
    ctx.beginPath();
    ctx.moveTo(left, bbox.top - 6 * devicePixelRatio);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** Marks that would lie upon each other become one with a number. */
function cluster(own: uPlot, marks: TimelineItem[]): Cluster[] {
  const clusters: Cluster[] = [];
  const width = own.over.clientWidth;
  const placed = marks
    .map((item) => ({ item, left: own.valToPos(seconds(item.at), "x") }))
    .filter(({ left }) => left >= -1 && left <= width + 1)
    .sort((a, b) => a.left - b.left);
  for (const { item, left } of placed) {
    const near = clusters.at(-1);
    if (near && left + own.over.offsetLeft - near.left < 30) near.items.push(item);
    else clusters.push({ left: left + own.over.offsetLeft, items: [item] });
  }
  return clusters;
}

/** When a drift window ended: its own word, else the quality window of that index, else on the line through those. */
function driftTimes(drift: DriftWindow[], windows: QualityWindow[]): number[] {
  const ends = new Map(windows.map((window) => [window.index, seconds(window.end)]));
  const first = windows[0];
  const last = windows.at(-1);
  return drift.map(({ index, end }) => {
    const known = end === undefined ? ends.get(index) : seconds(end);
    if (known !== undefined) return known;
    if (!first || !last) return index;
    const each = (seconds(last.end) - seconds(first.start)) / Math.max(1, last.index - first.index + 1);
    return seconds(last.end) + (index - last.index) * each;
  });
}

export function DriftChart({ quality }: { quality: Quality }) {
  const windows = [...quality.windows].sort((a, b) => a.index - b.index);
  const drift = [...(quality.drift ?? [])].sort((a, b) => a.index - b.index);
  const [tip, setTip] = useState<{ left: number; at: number } | null>(null);
  const { box } = usePlot(
    (colour) => ({
      data: [
        driftTimes(drift, windows),
        drift.map(({ statistic }) => statistic),
        drift.map(({ threshold }) => threshold),
        drift.map(({ statistic, verdict }) => (verdict === "fail" ? statistic : null)),
      ] as uPlot.AlignedData,
      options: {
        tzDate: utc,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false }, sync: { key: "loop" } },
        scales: { x: { time: windows.length > 0 } },
        axes: [
          axis(colour, { ...(windows.length > 0 ? { values: TIME_TICKS } : {}), space: 80, size: 36 }),
          axis(colour, { size: 46, space: 26, values: (_, ticks) => ticks.map(number) }),
        ],
        series: [
          {},
          { stroke: colour("drift"), width: 1.75, points: { show: false }, fill: colour("drift-fill") },
          { stroke: colour("bad"), width: 1.25, dash: [5, 4], points: { show: false } },
          { width: 0, stroke: colour("bad"), points: { show: true, size: 6, fill: colour("bad"), stroke: colour("bad") } },
        ],
        hooks: {
          setCursor: [
            ({ cursor, over }) =>
              setTip(isNumber(cursor.idx) && isNumber(cursor.left) && cursor.left >= 0 ? { left: cursor.left + over.offsetLeft, at: cursor.idx } : null),
          ],
        },
      },
    }),
    String(windows.length > 0),
    132,
  );
  const failed = drift.filter(({ verdict }) => verdict === "fail").length;
  const width = box.current?.clientWidth ?? 0;
  const at = tip && drift[tip.at];
  return (
    <div class="chart" onMouseLeave={() => setTip(null)}>
      <div
        class="plot"
        ref={box}
        role="img"
        aria-label={`Drift statistic per window, ${drift.length} windows, ${failed} above the threshold`}
        data-chart="drift"
      />
      {tip && at && (
        <div class="tip low" style={tip.left > width / 2 ? { right: `${width - tip.left + 14}px` } : { left: `${tip.left + 14}px` }}>
          <p>
            <strong>Window {at.index}</strong> <span>{at.verdict}</span>
          </p>
          <table>
            <tbody>
              <tr><th scope="row">statistic</th><td>{number(at.statistic)}</td></tr>
              <tr><th scope="row">threshold</th><td>{number(at.threshold)}</td></tr>
              <tr><th scope="row">score</th><td>{number(at.score)}</td></tr>
            </tbody>
          </table>
        </div>
      )}
      <ul class="legend">
        <li><i class="key drift" />Drift statistic</li>
        <li><i class="key threshold" />Threshold</li>
        <li class="hint">Drag to zoom, double-click to see all</li>
      </ul>
    </div>
  );
}

/** Even odds, and the powers of ten within reach: at most six. */
function decades(low: number, high: number): number[] {
  const reach = Math.floor(high / Math.LN10);
  const step = Math.max(1, Math.ceil(reach / 5));
  const found = [];
  for (let power = low < -Math.LN10 ? -step : 0; power <= reach; power += step) found.push(power * Math.LN10);
  return found;
}

function power(logarithm: number): string {
  const exponent = Math.round(logarithm / Math.LN10);
  if (exponent < 0) return `1 : ${grouped(10 ** -exponent)}`;
  return exponent > 5 ? `10^${exponent} : 1` : `${grouped(10 ** exponent)} : 1`;
}

/** Evidence of one rollout against the labels it has seen, with both thresholds. Logarithms: a step up is a factor. */
export function EvidenceChart({ history, evidence }: { history: RolloutPoint[]; evidence: Evidence }) {
  const points = [...history].sort((a, b) => a.labelled - b.labelled);
  const top = Math.max(evidence.threshold, evidence.harmThreshold, ...points.map(({ benefit, harm }) => Math.max(benefit, harm)));
  const bottom = Math.min(0, ...points.map(({ benefit, harm }) => Math.min(benefit, harm)));
  const range = useRef<[number, number]>([0, 1]);
  range.current = [Math.max(bottom, -top), top * 1.1];
  const limits = useRef(evidence);
  limits.current = evidence;
  const { box, plot } = usePlot(
    (colour) => ({
      data: [points.map(({ labelled }) => labelled), points.map(({ benefit }) => benefit), points.map(({ harm }) => harm)],
      options: {
        padding: [10, 12, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: false }, y: { range: () => range.current } },
        axes: [
          axis(colour, { label: "labels seen", size: 24, labelSize: 18, space: 60 }),
          axis(colour, { size: 72, splits: (_own, _axis, low, high) => decades(low, high), values: (_, ticks) => ticks.map(power) }),
        ],
        series: [
          {},
          { stroke: colour("good"), width: 2, points: { show: points.length < 3 } },
          { stroke: colour("bad"), width: 1.5, points: { show: points.length < 3 } },
        ],
        hooks: {
          draw: [
            (own) => {
              const { ctx, bbox } = own;
              const { threshold, harmThreshold } = limits.current;
              const now = palette();
              ctx.save();
              ctx.lineWidth = devicePixelRatio;
              ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
              for (const [value, hue] of [[threshold, "good"], [harmThreshold, "bad"]] as const) {
                const y = Math.round(own.valToPos(value, "y", true)) + 0.5;
                ctx.strokeStyle = now(hue);
                ctx.beginPath();
                ctx.moveTo(bbox.left, y);
                ctx.lineTo(bbox.left + bbox.width, y);
                ctx.stroke();
              }
              ctx.restore();
            },
          ],
        },
      },
    }),
    String(points.length < 3),
    190,
  );
  useEffect(() => plot.current?.redraw(), [evidence.threshold, evidence.harmThreshold]);
  const last = points.at(-1);
  return (
    <div class="chart">
      <div
        class="plot"
        ref={box}
        role="img"
        aria-label={
          last
            ? `Evidence after ${last.labelled} labels: better ${odds(last.benefit)} of ${odds(evidence.threshold)}, worse ${odds(last.harm)} of ${odds(evidence.harmThreshold)}`
            : "No evidence yet"
        }
        data-chart="evidence"
      />
      <ul class="legend">
        <li><i class="key better" />Better: promotes at {odds(evidence.threshold)}</li>
        <li><i class="key worse" />Worse: rolls back at {odds(evidence.harmThreshold)}</li>
      </ul>
    </div>
  );
}
