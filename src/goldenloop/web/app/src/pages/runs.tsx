// All runs, and those of a KFP or MLflow experiment.
import { type Items, paths, type Run, useResource } from "../api";
import { Head, Problem } from "../parts";
import { RunsPanel } from "./loop";

export function RunsPage() {
  const runs = useResource<Items<Run>>(paths.runs(), 5_000);
  return (
    <>
      <Head trail={[["#/", "Loops"]]} name="Runs" />
      {runs.error && !runs.data ? <Problem error={runs.error} what="list of runs" /> : <RunsPanel runs={runs.data?.items} name="All runs" />}
    </>
  );
}

type KfpExperiment = { display_name?: string; description?: string };
type KfpRuns = { runs?: { run_id: string; display_name?: string; state?: string; created_at?: string; scheduled_at?: string; finished_at?: string }[] };

/** KFP zeroes what has not happened: an instant of 1970 is none. */
const instant = (at: string | undefined) => (at && !at.startsWith("1970-") && !at.startsWith("0001-") ? at : null);

export function ExperimentPage({ id }: { id: string }) {
  const experiment = useResource<KfpExperiment>(paths.experiment(id));
  const listed = useResource<KfpRuns>(paths.experimentRuns(id), 5_000);
  const runs = listed.data && (listed.data.runs ?? []).map(
    (run): Run => ({
      id: run.run_id,
      name: run.display_name ?? "",
      state: run.state ?? "PENDING",
      created: run.created_at ?? "",
      started: instant(run.scheduled_at) ?? instant(run.created_at),
      finished: instant(run.finished_at),
    }),
  );
  const problem = experiment.error ?? (listed.data ? undefined : listed.error);
  return (
    <>
      <Head trail={[["#/", "Loops"], ["#/runs", "Runs"]]} name={experiment.data?.display_name ?? `Experiment ${id}`}>
        {experiment.data?.description && <span>{experiment.data.description}</span>}
      </Head>
      {problem ? <Problem error={problem} what="experiment" /> : <RunsPanel runs={runs} name="Runs of this experiment" />}
    </>
  );
}
