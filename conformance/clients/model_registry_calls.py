"""Calls of Kubeflow's Model Registry client, in an environment that has it; prints one JSON line for each."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version as version_of
from urllib.parse import urlsplit

from model_registry import ModelRegistry

warnings.simplefilter("ignore")

place = urlsplit(sys.argv[1])
registry = ModelRegistry(f"http://{place.hostname}", place.port, author="ann", is_secure=False, user_token="none")
failures = 0


def call(name: str) -> Callable[[Callable[[], object]], None]:
    """Run the function at once, and print what came of it."""

    def run(function: Callable[[], object]) -> None:
        global failures
        try:
            function()
            ok, told = True, ""
        except Exception as error:
            ok, told = False, f"{type(error).__name__}: {error}"[:500]
            failures += 1
        shown = {"client": f"model-registry {version_of('model-registry')}", "call": name, "ok": ok, "told": told}
        print(json.dumps(shown), flush=True)

    return run


PROPERTIES = {"accuracy": 0.9, "rows": 3, "checked": True, "team": "x"}


def register(name: str, version: str) -> None:
    registry.register_model(
        name,
        f"s3://bucket/{name}",
        version=version,
        model_format_name="onnx",
        model_format_version="1",
        metadata=PROPERTIES,
    )


@call("register_model with metadata, get_registered_model, get_model_version, get_model_artifact")
def registers() -> None:
    register("tree", "v1")
    assert registry.get_registered_model("tree").name == "tree"
    version = registry.get_model_version("tree", "v1")
    assert (version.author, version.custom_properties) == ("ann", PROPERTIES)
    assert registry.get_model_artifact("tree", "v1").uri == "s3://bucket/tree"
    assert registry.get_registered_model("nobody") is None


@call("update of models, versions and artifacts")
def updates() -> None:
    model, version, artifact = (
        registry.get_registered_model("tree"), registry.get_model_version("tree", "v1"), registry.get_model_artifact("tree", "v1")
    )  # fmt: skip
    model.description, version.description, artifact.uri = "a model", "a version", "s3://bucket/moved"
    for each in (model, version, artifact):
        registry.update(each)
    assert registry.get_registered_model("tree").description == "a model"
    assert registry.get_model_version("tree", "v1").description == "a version"
    assert registry.get_model_artifact("tree", "v1").uri == "s3://bucket/moved"


@call("lists in pages, by id, creation and update, up and down")
def lists() -> None:
    for number in range(2, 6):
        register("tree", f"v{number}")
    names = [
        each.name for each in registry.get_model_versions("tree").page_size(2).order_by_creation_time().descending()
    ]
    assert names == ["v5", "v4", "v3", "v2", "v1"], names
    assert [each.name for each in registry.get_registered_models().order_by_id()] == ["tree"]


@call("a version is there once")
def once() -> None:
    try:
        register("tree", "v1")
    except Exception as error:
        assert "already exists" in str(error)
    else:
        raise AssertionError("it was registered twice")


sys.exit(1 if failures else 0)
