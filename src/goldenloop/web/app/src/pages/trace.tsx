// Why this answer: from one prediction back to the data and the code.
import { type Attribution, paths, type Trace, useResource } from "../api";
import { anything, metricName, number, signed } from "../format";
import { Badge, Facts, Head, Loading, Nothing, otherFacts, Panel, Problem, Table, Time } from "../parts";
import { toLoop, toRun, toVersion } from "../route";
import { Origin } from "./version";

export function TracePage({ id }: { id: string }) {
  const { data: trace, error } = useResource<Trace>(paths.trace(id));
  const loop = trace?.run?.loop ?? trace?.prediction.service;
  return (
    <>
      <Head trail={[["#/", "Loops"], ...(loop ? [[toLoop(loop), loop] as [string, string]] : [])]} name="Why this answer">
        <span class="code">{id}</span>
      </Head>
      {error && !trace && <Problem error={error} what="prediction" />}
      {!trace && !error && <Loading />}
      {trace && <Answer trace={trace} loop={loop ?? undefined} />}
    </>
  );
}

function Answer({ trace, loop }: { trace: Trace; loop: string | undefined }) {
  const { prediction, answer, version, run, evaluation } = trace;
  const chances = Object.entries(answer.probabilities ?? {}).sort(([, a], [, b]) => b - a);
  const number_ = version?.number ?? prediction.version;
  return (
    <>
      <div class="pair">
        <Panel title="Answer">
          <p class="answer">{anything(answer.value)}</p>
          {chances.length > 0 && (
            <ul class="chances">
              {chances.map(([name, chance]) => (
                <li key={name}>
                  <span>{name}</span>
                  <div class="meter info"><i style={{ width: `${Math.min(1, Math.max(0, chance)) * 100}%` }} /></div>
                  <span class="figure">{(chance * 100).toFixed(1)} %</span>
                </li>
              ))}
            </ul>
          )}
          {trace.label ? (
            <p class="lead">
              The label came: <strong>{anything(trace.label.label ?? trace.label.value ?? trace.label)}</strong>
            </p>
          ) : (
            <p class="muted">No label has come yet.</p>
          )}
        </Panel>
        <Panel title="Prediction">
          <Facts
            facts={[
              ["When", <Time at={prediction.at} />],
              ["Service", prediction.service ?? "–"],
              ["Version", number_ !== undefined && loop ? <a href={toVersion(loop, number_)}>v{number_}</a> : anything(number_)],
              ["Answered as", anything(prediction.reason)],
              ["Took", prediction.latencyMs === undefined ? "–" : `${number(prediction.latencyMs)} ms`],
            ]}
          />
        </Panel>
      </div>
      <Panel title="What counted">
        <Contributions attributions={trace.attributions ?? []} />
      </Panel>
      <div class="pair">
        <Panel title="Payload">
          <Table caption="Payload" heads={[["Column"], ["Value", "right"]]}>
            {Object.entries(trace.payload).map(([name, value]) => (
              <tr key={name}>
                <td>{name}</td>
                <td class="right figure">{anything(value)}</td>
              </tr>
            ))}
          </Table>
        </Panel>
        <div class="stack">
          <Panel
            title="Version and evaluation"
            side={evaluation?.verdict ? <Badge state={evaluation.verdict} /> : undefined}
          >
            {version ? (
              <p class="lead">
                {loop ? <a href={toVersion(loop, version.number)}>Version {version.number}</a> : `Version ${version.number}`}{" "}
                <Badge state={version.state} />
              </p>
            ) : (
              <Nothing>The version is not recorded.</Nothing>
            )}
            {evaluation?.reason && <p class="lead">{evaluation.reason}</p>}
            <Facts
              facts={[
                ...Object.entries(version?.metrics ?? {}).map(([name, value]): [string, string] => [metricName(name), number(value)]),
                ...otherFacts(evaluation, ["verdict", "reason", "metrics"]),
                ...(run ? [["made by", <a href={toRun(run.id)}>{run.name || run.id}</a>] as [string, preact.JSX.Element]] : []),
              ]}
            />
          </Panel>
          <Origin version={{ data: trace.data ?? version?.data ?? null, code: trace.code ?? version?.code ?? null, run: run?.id ?? version?.run ?? null }} />
        </div>
      </div>
    </>
  );
}

/** Bars to the right raised the answer, bars to the left lowered it; the longest fills its side. */
function Contributions({ attributions }: { attributions: Attribution[] }) {
  const sorted = [...attributions].sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution));
  if (sorted.length === 0) return <Nothing>No attributions were made for this answer.</Nothing>;
  const largest = Math.max(...sorted.map(({ contribution }) => Math.abs(contribution))) || 1;
  return (
    <ul class="contributions">
      {sorted.map(({ feature, value, contribution, text }) => (
        <li key={feature}>
          <div class="what">
            <span class="strong">{feature}</span> <span class="muted">{anything(value)}</span>
          </div>
          <div class="diverging" aria-hidden="true">
            <i
              class={contribution < 0 ? "down" : "up"}
              style={{ width: `${(Math.abs(contribution) / largest) * 50}%`, [contribution < 0 ? "right" : "left"]: "50%" }}
            />
          </div>
          <span class="figure right">{signed(contribution)}</span>
          {text && <p>{text}</p>}
        </li>
      ))}
    </ul>
  );
}
