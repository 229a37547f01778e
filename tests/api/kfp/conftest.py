"""KFP's API over HTTP, with no engine behind it."""

from __future__ import annotations

import httpx
import pytest

from goldenloop.core.json import JsonObject

_STEP = {"container": {"image": "python:3.11", "command": ["true"], "args": []}}
PIPELINE: JsonObject = {
    "schemaVersion": "2.1.0",
    "pipelineInfo": {"name": "train"},
    "root": {
        "dag": {"tasks": {"fit": {"taskInfo": {"name": "fit"}, "componentRef": {"name": "comp-fit"}}}},
        "inputDefinitions": {
            "parameters": {"rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1, "isOptional": True}}
        },
    },
    "components": {"comp-fit": {"executorLabel": "exec-fit"}},
    "deploymentSpec": {"executors": {"exec-fit": _STEP}},
}


@pytest.fixture
def api(address: str) -> httpx.Client:
    """A client whose paths begin behind KFP's prefix."""
    return httpx.Client(base_url=f"{address}/apis/v2beta1", timeout=10)


@pytest.fixture
def pipeline() -> JsonObject:
    """A pipeline that may run."""
    return PIPELINE
