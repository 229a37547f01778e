// One model version: what it can do, and where it comes from.
import { type Items, type Loop, paths, useResource, type Version } from "../api";
import { anything, grouped, metricName, number, shortDigest, signed, words } from "../format";
import { Badge, Facts, Head, Loading, Nothing, otherFacts, Panel, Problem, Table, Time } from "../parts";
import { toLoop, toRun, toVersion } from "../route";
import { ApiError } from "../api";

export function VersionPage({ loop, number: wanted }: { loop: string; number: string }) {
  const versions = useResource<Items<Version>>(paths.versions(loop), 10_000);
  const owner = useResource<Loop>(paths.loop(loop));
  const all = versions.data?.items;
  const version = all?.find((candidate) => String(candidate.number) === wanted);
  const error = versions.error && !all ? versions.error : undefined;
  const missing = all && !version ? new ApiError(`Loop ${loop} has no version ${wanted}; it has ${all.length}.`, 404) : undefined;
  const champion = all?.find((candidate) => String(candidate.number) === owner.data?.status?.champion);
  const other = champion?.number === version?.number ? undefined : champion;
  const problem = error ?? missing;
  return (
    <>
      <Head
        trail={[["#/", "Loops"], [toLoop(loop), loop]]}
        name={`Version ${wanted}`}
        badges={version && <Badge state={version.state} />}
      >
        {version && <span>Trained on data until <Time at={version.trainedUntil} recorded={version.created ?? null} /></span>}
      </Head>
      {problem && <Problem error={problem} what="version" />}
      {!all && !error && <Loading />}
      {version && (
        <div class="pair">
          <div class="stack">
          <Panel title="Metrics">
            <Metrics version={version} other={other} />
          </Panel>
          <Origin version={version} />
          </div>
          <div class="stack">
          <Panel title="Evaluation" side={version.evaluation?.verdict && <Badge state={version.evaluation.verdict} />}>
            {version.evaluation ? (
              <>
                <p class="lead">{version.evaluation.reason ?? "No reason was given."}</p>
                <p><a href={paths.card(loop, version.number)}>Model card</a>: metrics by slice, every check, who decided.</p>
                <Facts facts={otherFacts(version.evaluation, ["verdict", "reason", "evidence"])} />
              </>
            ) : (
              <Nothing>Not evaluated.</Nothing>
            )}
          </Panel>
          <Panel title="Neighbours">
            <Facts
              facts={[
                ["Champion now", champion ? <a href={toVersion(loop, champion.number)}>v{champion.number}</a> : "none"],
                ["Before", neighbour(loop, all, version.number - 1)],
                ["After", neighbour(loop, all, version.number + 1)],
                ["Created", <Time at={version.created} />],
                ["Digest", <span class="code" title={version.digest}>{shortDigest(version.digest)}</span>],
              ]}
            />
          </Panel>
          </div>
        </div>
      )}
    </>
  );
}

function neighbour(loop: string, versions: Version[] | undefined, wanted: number) {
  const found = versions?.find((candidate) => candidate.number === wanted);
  return found ? (
    <>
      <a href={toVersion(loop, found.number)}>v{found.number}</a> <span class="muted">{words(found.state)}</span>
    </>
  ) : (
    "–"
  );
}

function Metrics({ version, other }: { version: Version; other: Version | undefined }) {
  const metrics = Object.entries(version.metrics ?? {});
  if (metrics.length === 0) return <Nothing>None were recorded.</Nothing>;
  return (
    <Table
      caption="Metrics"
      heads={[["Metric"], [`v${version.number}`, "right"], ...(other ? [[`v${other.number}, champion`, "right"], ["Difference", "right"]] as [string, "right"][] : [])]}
    >
      {metrics.map(([name, value]) => {
        const reference = other?.metrics?.[name];
        return (
          <tr key={name}>
            <td>{metricName(name)}</td>
            <td class="right figure strong">{number(value)}</td>
            {other && <td class="right figure">{number(reference)}</td>}
            {other && <td class="right figure muted">{reference === undefined ? "–" : signed(value - reference)}</td>}
          </tr>
        );
      })}
    </Table>
  );
}

/** Data, code and run behind a version; used by the trace as well. */
export function Origin({ version }: { version: Pick<Version, "data" | "code" | "run"> }) {
  const { data, code, run } = version;
  return (
    <Panel title="Where it comes from">
      <ol class="chain">
        <li>
          <span class="label">Data</span>
          {data ? (
            <>
              <strong>{data.rows === undefined ? "rows unknown" : `${grouped(data.rows)} rows`}</strong>
              <span class="code" title={data.digest}>{shortDigest(data.digest)}</span>
              <Facts facts={otherFacts(data, ["rows", "digest"])} />
            </>
          ) : (
            <span class="muted">not recorded</span>
          )}
        </li>
        <li>
          <span class="label">Code</span>
          {code ? (
            <>
              <strong class="code" title={anything(code.commit)}>{code.commit ? code.commit.slice(0, 12) : "no commit"}</strong>
              {code.dirty && <span class="badge warn">with uncommitted changes</span>}
              <span class="code" title={code.digest}>{shortDigest(code.digest)}</span>
              <Facts facts={otherFacts(code, ["commit", "dirty", "digest"])} />
            </>
          ) : (
            <span class="muted">not recorded</span>
          )}
        </li>
        <li>
          <span class="label">Run</span>
          {run ? <a class="code" href={toRun(run)}>{run.slice(0, 13)}</a> : <span class="muted">not recorded</span>}
        </li>
      </ol>
    </Panel>
  );
}
