// What the owner of a loop asks: is it fit, how much budget is left, what did it do and what did it cost, what waits for me.
import type { ComponentChildren } from "preact";
import { type Budget, type MonitorVerdict, type Owner } from "../api";
import { anything, grouped, metricName, minutes, number, title } from "../format";
import { Badge, Command, Loading, Nothing, Panel, Table, Time, type Tone } from "../parts";

const FITNESS: Record<Owner["fit"]["state"], [string, Tone]> = {
  Fit: ["Yes", "good"], AtRisk: ["At risk", "warn"], NotFit: ["No", "bad"], Unknown: ["Not known", "quiet"],
};

/** The four answers at the head of a loop's page. */
export function OwnerCards({ owner }: { owner: Owner | undefined }) {
  if (!owner) return null;
  const [word, tone] = FITNESS[owner.fit.state];
  return (
    <ul class="owner" aria-label="What the owner asks">
      <Answer question="Fit for use now?" answer={word} tone={tone}>
        {sentence(owner.fit.text)}
      </Answer>
      <BudgetAnswer owner={owner} />
      <DoneAnswer did={owner.did} />
      <Answer question="What waits for me?" answer={owner.waits.length === 0 ? "Nothing" : grouped(owner.waits.length)} tone={owner.waits.length === 0 ? "good" : "warn"}>
        {owner.waits.length === 0 ? "Everything goes on by itself." : sentence(owner.waits[0]?.text ?? "")}
      </Answer>
    </ul>
  );
}

function Answer(props: { question: string; answer: string; tone: Tone; children: ComponentChildren }) {
  return (
    <li class={`question ${props.tone}`}>
      <span class="label">{props.question}</span>
      <strong>{props.answer}</strong>
      <span class="text">{props.children}</span>
    </li>
  );
}

function BudgetAnswer({ owner }: { owner: Owner }) {
  const counted = owner.budgets.filter(({ budgetRemaining }) => budgetRemaining !== null && budgetRemaining !== undefined);
  const worst = counted.reduce<Budget | undefined>(
    (least, each) => (least === undefined || (each.budgetRemaining ?? 1) < (least.budgetRemaining ?? 1) ? each : least),
    undefined,
  );
  if (worst === undefined) {
    return (
      <Answer question="How much budget is left?" answer={owner.budgets.length === 0 ? "None set" : "Not known"} tone="quiet">
        {owner.budgets.length === 0 ? "The loop promises nothing: write objectives into it." : "Nothing has been counted yet."}
      </Answer>
    );
  }
  const left = worst.budgetRemaining ?? 0;
  return (
    <Answer question="How much budget is left?" answer={percent(Math.max(0, left))} tone={left <= 0 ? "bad" : left < 0.25 ? "warn" : "good"}>
      {owner.budgets.length > 1 ? "The least of all objectives: " : ""}{worst.promise}.
    </Answer>
  );
}

function DoneAnswer({ did }: { did: Owner["did"] }) {
  const parts = [
    `${grouped(did.promotions)} promoted`,
    `${grouped(did.rolledBack)} rolled back`,
    `${grouped(did.alarms)} ${did.alarms === 1 ? "alarm" : "alarms"}`,
  ];
  return (
    <Answer question="What did it do, and what did it cost?" answer={`${grouped(did.runs)} ${did.runs === 1 ? "run" : "runs"}, ${minutes(did.minutes)}`} tone="quiet">
      In 28 days: {parts.join(", ")}{did.failed > 0 ? `, ${grouped(did.failed)} failed` : ""}; {grouped(did.windows)} windows judged in all.
    </Answer>
  );
}

/** What only a person can do, each with the words to type. */
export function WaitsPanel({ owner }: { owner: Owner | undefined }) {
  if (!owner || owner.waits.length === 0) return null;
  return (
    <Panel title="Waits for you" side={<span class="muted">{owner.waits.length}</span>}>
      <ul class="asked">
        {owner.waits.map((wait) => (
          <li key={wait.text}>
            <p>{sentence(wait.text)}</p>
            <Command text={wait.command} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}

export function BudgetsPanel({ owner }: { owner: Owner | undefined }) {
  const spent = owner?.promotionError;
  return (
    <Panel title="Objectives" side={owner && <span class="muted">{owner.budgets.length}</span>}>
      {!owner ? (
        <Loading />
      ) : owner.budgets.length === 0 ? (
        <Nothing>None. Write `objectives` into the Loop, and say what it has to keep.</Nothing>
      ) : (
        <ul class="budgets">
          {owner.budgets.map((budget) => (
            <BudgetRow key={`${budget.slo} ${budget.name}`} budget={budget} />
          ))}
        </ul>
      )}
      {spent && (
        <p class="promotions">
          Promotions: {number(spent.spent)} of {number(spent.alpha)} that a promotion may ever be wrong is spent; {percent(spent.remaining)} is left.
        </p>
      )}
    </Panel>
  );
}

function BudgetRow({ budget }: { budget: Budget }) {
  const left = budget.budgetRemaining;
  const share = Math.min(1, Math.max(0, left ?? 0));
  const firing = (budget.alerts ?? []).filter((alert) => alert.firing);
  const tone: Tone = left === null || left === undefined ? "quiet" : left <= 0 ? "bad" : left < 0.25 || firing.length > 0 ? "warn" : "good";
  return (
    <li>
      <div class="promise">
        <span class="strong">{budget.promise}</span>
        <Badge state={budget.state} />
      </div>
      <div
        class={`meter ${tone}`}
        role="meter"
        aria-label={`Error budget of ${budget.promise}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share * 100)}
        aria-valuetext={left === null || left === undefined ? "nothing counted" : `${percent(left)} left`}
      >
        <i style={{ width: `${share * 100}%` }} />
      </div>
      <p class="muted">
        {left === null || left === undefined
          ? budget.text
          : budget.indicator === "promotion error"
            ? budget.text
            : `${percent(budget.attainment ?? 0)} good of ${grouped(Math.round(budget.total ?? 0))}, ${percent(budget.target ?? 0)} promised; ${
                left > 0 ? `${percent(left)} of the budget is left` : "the budget is spent"
              }`}
        {budget.note ? ` (${budget.note})` : ""}
      </p>
      {firing.map((alert) => (
        <p class="burning" key={alert.text}>
          Burning {number(alert.burnRate)} times faster than evenly ({alert.severity}): {alert.text}
        </p>
      ))}
    </li>
  );
}

/** What each monitor said of the last window that it judged. */
export function MonitorsPanel({ owner }: { owner: Owner | undefined }) {
  const monitors = owner?.monitors ?? [];
  const wrong = monitors.filter(({ verdict }) => verdict === "fail" || verdict === "error").length;
  return (
    <Panel title="Monitors" side={owner && monitors.length > 0 && <span class="muted">{wrong === 0 ? "all quiet" : `${wrong} of ${monitors.length}`}</span>}>
      {!owner ? (
        <Loading />
      ) : monitors.length === 0 ? (
        <Nothing>No window has been measured yet.</Nothing>
      ) : (
        <Table caption="Monitors" heads={[["Monitor"], ["Verdict"], ["Measurement"], ["Value", "right"], ["Threshold", "right"], ["Window"]]}>
          {monitors.map((each) => (
            <MonitorRow key={each.monitor} said={each} />
          ))}
        </Table>
      )}
    </Panel>
  );
}

function MonitorRow({ said }: { said: MonitorVerdict }) {
  return (
    <tr>
      <td class="nowrap">{title(said.monitor)}</td>
      <td><Badge state={said.verdict} /></td>
      <td class="wide" title={said.note || undefined}>
        {metricName(said.metric)}{said.of ? ` of ${anything(said.of)}` : ""}
        {said.note && said.verdict !== "pass" && <span class="muted"> {said.note}</span>}
      </td>
      <td class="right figure">{number(said.value)}</td>
      <td class="right figure">{number(said.threshold)}</td>
      <td class="nowrap" title={`window ${said.window}`}><Time at={said.at} /></td>
    </tr>
  );
}

const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** `0.9953` → `99.5 %`; never rounded up to all. */
function percent(share: number): string {
  const value = 100 * share;
  const text = value > 99 && value < 100 ? (Math.floor(value * 100) / 100).toString() : number(Number(value.toPrecision(3)));
  return `${text} %`;
}

