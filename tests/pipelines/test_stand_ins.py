"""What stands in for Kubernetes on one machine: secrets, config maps, volumes, the workspace, facts about pods."""

# Without `from __future__ import annotations`: kfp reads the annotations of components themselves.
import pytest
from compiled import Ran, compiled, run, say
from kfp import dsl
from small_pipelines import World, pipeline, step

from goldenloop.core.errors import InvalidSpecError
from goldenloop.core.json import JsonObject
from goldenloop.pipelines.launching import quantity
from goldenloop.standards.kubernetes_platform import read_platform

SPEAKS = step(
    'echo "$PASSWORD $SETTING $LABEL" > "$0"',
    gives={"said": "STRING"},
    words=("{{$.outputs.parameters['said'].output_file}}",),
)


def with_settings(settings: JsonObject, name: str = "speaks") -> JsonObject:
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {f"exec-{name}": settings}}}}}


def go(world: World, document: JsonObject, settings: JsonObject, **parameters: str) -> Ran:
    return Ran(world, world.go(document, platform=with_settings(settings), parameters=parameters))


def secret(name: JsonObject | str, *, optional: bool = False) -> JsonObject:
    named = {"secretName": name} if isinstance(name, str) else {"secretNameParameter": name}
    return {"secretAsEnv": [{**named, "keyToEnv": [{"secretKey": "key", "envVar": "PASSWORD"}], "optional": optional}]}


def test_secrets_and_config_maps_are_files_of_the_installation(world: World) -> None:
    for path, value in (("secrets/db/key", "s3cret"), ("configmaps/app/level", "high")):
        (world.folder / path).parent.mkdir(parents=True)
        (world.folder / path).write_text(value)
    document = pipeline({"speaks": SPEAKS}, parameters={"which": {"parameterType": "STRING"}})
    settings = {
        **secret({"componentInputParameter": "which"}),
        "configMapAsEnv": [{"configMapName": "app", "keyToEnv": [{"configMapKey": "level", "envVar": "SETTING"}]}],
        "podMetadata": {"labels": {"team": "blue"}},
        "fieldPathAsEnv": [{"name": "LABEL", "fieldPath": "metadata.labels['team']"}],
    }
    ran = go(world, document, settings, which="db")
    assert ran.given("speaks") == "s3cret high blue\n"
    assert ran.warnings == [
        "comp-speaks: pod labels and annotations are for a cluster and have no effect here",
        "comp-speaks: of what a pod can tell, its name, namespace, labels and annotations are given here",
    ]


def test_what_is_missing_is_named_with_the_file_to_make(world: World) -> None:
    ran = go(world, pipeline({"speaks": SPEAKS}), secret("db"))
    assert ran.state == "FAILED"
    assert f"Write its value to {world.folder / 'secrets/db/key'}" in ran.error
    assert go(world, pipeline({"speaks": SPEAKS}), secret("db", optional=True)).state == "SUCCEEDED"


def test_names_do_not_lead_out_of_the_installation(world: World) -> None:
    (world.folder / "key").write_text("not for you")
    ran = go(world, pipeline({"speaks": SPEAKS}), secret("../"))
    assert ran.state == "FAILED"
    assert "leads elsewhere" in ran.error


def test_volumes_are_there_at_their_paths_and_stay(world: World) -> None:
    writes = step("echo kept > /somewhere/new/file; cat /etc/hostname > /dev/null")
    reads = step(
        'cp /somewhere/new/file "$0"', gives={"got": "STRING"}, words=("{{$.outputs.parameters['got'].output_file}}",)
    )
    mount: JsonObject = {"pvcMount": [{"mountPath": "/somewhere/new", "constant": "shared", "subPath": "part"}]}
    assert Ran(world, world.go(pipeline({"writes": writes}), platform=with_settings(mount, "writes"))).error is None
    ran = Ran(world, world.go(pipeline({"reads": reads}), platform=with_settings(mount, "reads")))
    assert ran.given("reads") == "kept\n"
    assert (world.folder / "volumes/shared/part/file").read_text() == "kept\n"


def test_secrets_as_folders_for_python_components(world: World) -> None:
    @dsl.component
    def look() -> str:
        with open("/vault/db/key") as file:
            return file.read()

    @dsl.pipeline
    def looking() -> str:
        return look().output

    (world.folder / "secrets/db").mkdir(parents=True)
    (world.folder / "secrets/db/key").write_text("s3cret")
    settings: JsonObject = {"secretAsVolume": [{"secretName": "db", "mountPath": "/vault/db"}]}
    run_id = world.go(compiled(looking).pipeline, platform=with_settings(settings, "look"))
    assert Ran(world, run_id).outputs == {"Output": "s3cret"}


def test_volumes_are_made_and_removed_by_name(world: World) -> None:
    def operation(
        image: str, takes: dict[str, JsonObject], gives: dict[str, str], after: tuple[str, ...]
    ) -> JsonObject:
        document = step("", takes=takes, gives=gives, after=after)
        return {**document, "image": image}

    constant = {"runtimeValue": {"constant": "-data"}}
    steps = {
        "make": operation("argostub/createpvc", {"pvc_name_suffix": constant}, {"name": "STRING"}, ()),
        "remove": operation(
            "argostub/deletepvc",
            {"pvc_name": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "name"}}},
            {},
            (),
        ),
    }
    document = pipeline(steps)
    for name, content in steps.items():
        document["deploymentSpec"]["executors"][f"exec-{name}"] = {"container": {"image": content["image"]}}
    ran = Ran(world, world.go(document))
    assert ran.state == "SUCCEEDED", ran.error
    name = str(ran.given("make"))
    assert name.endswith("-data")
    assert (world.folder / "volumes").is_dir()
    assert not (world.folder / "volumes" / name).exists()


def test_the_workspace_is_shared_by_a_run_and_goes_with_it(world: World) -> None:
    @dsl.component
    def leave(folder: str) -> str:
        import os

        with open(os.path.join(folder, "note"), "w") as file:
            file.write("left")
        return os.path.join(folder, "note")

    @dsl.component
    def find(path: str) -> str:
        with open(path) as file:
            return file.read()

    @dsl.pipeline(pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
    def sharing() -> str:
        return find(path=leave(folder=dsl.WORKSPACE_PATH_PLACEHOLDER).output).output

    ran = run(world, sharing)
    assert ran.outputs == {"Output": "left"}, ran.error
    world.engine._sweeper.shutdown()
    assert not (world.folder / "runs" / ran.id / "workspace").exists()


def test_names_of_the_job_are_told(world: World) -> None:
    @dsl.pipeline(name="named-pipeline")
    def naming() -> str:
        say(word=dsl.PIPELINE_TASK_NAME_PLACEHOLDER)
        return say(word=f"{dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER} {dsl.PIPELINE_JOB_ID_PLACEHOLDER}").output

    ran = run(world, naming)
    resource, _, identity = str(ran.outputs["Output"]).partition(" ")
    assert resource.startswith("named-pipeline-")
    assert identity == ran.id
    assert ran.given("say") == "say"


def test_a_deadline_ends_a_step(world: World) -> None:
    ran = Ran(
        world,
        world.go(pipeline({"slow": step("sleep 30")}), platform=with_settings({"activeDeadlineSeconds": "1"}, "slow")),
    )
    assert ran.state == "FAILED"
    assert "time limit" in ran.error


def test_what_is_for_a_cluster_is_said(world: World) -> None:
    document = with_settings({"tolerations": [{"key": "x"}], "nodeSelector": {"labels": {"a": "b"}}})
    document["platforms"]["google_cloud"] = {}
    run_id = world.go(pipeline({"speaks": SPEAKS}), platform=document)
    assert Ran(world, run_id).warnings == [
        "the settings for the platform 'google_cloud' are not read",
        "comp-speaks: node selectors are for a cluster and have no effect here",
        "comp-speaks: tolerations are for a cluster and have no effect here",
    ]


@pytest.mark.parametrize("settings", [{"secretAsEnv": {}}, {"pvcMount": [{"constant": "x"}]}, {"podMetadata": []}])
def test_broken_settings_are_refused_with_their_place(world: World, settings: JsonObject) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read_platform(with_settings(settings))
    assert caught.value.where.startswith("platform.platforms.kubernetes.deploymentSpec.executors.exec-speaks")
    with pytest.raises(InvalidSpecError):
        world.ask(pipeline({"speaks": SPEAKS}), platform=with_settings(settings))


def test_quantities() -> None:
    assert [quantity(text, where="t") for text in ("1", "250m", "1Ki", "1k", "2e3", "1.5Gi")] == [
        1, 0.25, 1024, 1000, 2000, 1.5 * 2**30,
    ]  # fmt: skip
    for text in ("", "lots", "1 Gi", "-1"):
        with pytest.raises(InvalidSpecError, match="no quantity"):
            quantity(text, where="t")
