"""What a person does with `kfp.kubeflow_client.PipelinesClient`, in the environment that has it: `PROGRAM ADDRESS FOLDER`.

Prints one JSON object of what the client answered. The environment is not the platform's, so nothing of the platform is imported.
"""

import json
import sys
from pathlib import Path

from kfp import compiler, dsl


@dsl.component(base_image="python:3.11")
def add(a: int, b: int) -> int:
    return a + b


@dsl.pipeline(name="adding")
def adding(a: int = 1, b: int = 2) -> int:
    return add(a=a, b=b).output


def main() -> None:
    from kfp.kubeflow_client import KubernetesBackendConfig, PipelinesClient

    address, folder = sys.argv[1], Path(sys.argv[2])
    client = PipelinesClient(KubernetesBackendConfig(base_url=address, user_token="any"))
    seen: dict[str, object] = {}

    first = client.upload_pipeline(adding, name="adding", version="v1", description="adds")
    second = client.upload_pipeline(adding, name="adding", version="v2")
    seen["versions"] = [first.display_name, second.display_name]
    seen["listed"] = [each.display_name for each in client.list_pipeline_versions("adding").pipeline_versions]
    seen["v1"] = client.get_pipeline_version("adding", "v1").display_name
    seen["pipelines"] = [each.display_name for each in client.list_pipelines(page_size=100).pipelines]

    client.create_experiment("sums")
    again = client.create_experiment("sums")
    seen["experiment"] = [again.display_name, client.get_experiment("sums").experiment_id == again.experiment_id]
    seen["experiments"] = sorted(each.display_name for each in client.list_experiments(page_size=100).experiments)

    file = folder / "adding.yaml"
    compiler.Compiler().compile(adding, str(file))
    asked = {
        "by name": lambda: client.run("adding", params={"a": 5}, experiment="sums"),
        "by version name": lambda: client.run("adding", version="v1", params={"a": 5}),
        "by pipeline": lambda: client.run(client.get_pipeline("adding"), params={"a": 5}),
        "by version": lambda: client.run(second, params={"a": 5}),
        "by function": lambda: client.run(adding, params={"a": 5}),
        "by file": lambda: client.run(str(file), params={"a": 5}),
    }
    states = {}
    for how, start in asked.items():
        ended = client.wait_for_run_status(start(), timeout=60, polling_interval=1)
        states[how] = [ended.state, ended.runtime_config.parameters]
    seen["runs"] = states
    seen["succeeded"] = len(client.list_runs(status="succeeded", page_size=100).runs)
    seen["of the pipeline"] = len(client.list_runs(pipeline="adding", page_size=100).runs)
    seen["of the experiment"] = len(client.list_runs(experiment="sums").runs)

    try:
        client.delete_pipeline("adding")
    except ValueError as error:
        seen["refused"] = str(error)
    client.delete_pipeline("adding", version="v1")
    client.delete_pipeline("adding", force=True)
    client.delete_experiment("sums")
    for what, ask in (("pipeline", client.get_pipeline), ("experiment", client.get_experiment)):
        try:
            ask("adding" if what == "pipeline" else "sums")
        except ValueError:
            seen[f"{what} is gone"] = True
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
