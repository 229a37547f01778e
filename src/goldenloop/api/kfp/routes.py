"""KFP's API as one application under its prefix, with errors in KFP's form."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from goldenloop.api.kfp.artifacts import ArtifactRoutes
from goldenloop.api.kfp.calls import Answer, Call, route
from goldenloop.api.kfp.errors import answer_error
from goldenloop.api.kfp.experiments import ExperimentRoutes
from goldenloop.api.kfp.pipelines import PipelineRoutes
from goldenloop.api.kfp.recurring import RecurringRunRoutes
from goldenloop.api.kfp.runs import RunRoutes
from goldenloop.control.platform import Platform
from goldenloop.core.errors import GoldenloopError

PREFIX = "/apis/v2beta1"


def kfp_api(platform: Platform) -> Mount:
    """What to mount, before whatever else begins with `/apis`."""
    routes = [
        route("/healthz", _health),
        *ExperimentRoutes(platform).routes(),
        *PipelineRoutes(platform).routes(),
        *RunRoutes(platform).routes(),
        *RecurringRunRoutes(platform).routes(),
        *ArtifactRoutes(platform).routes(),
    ]
    handlers = {GoldenloopError: answer_error, HTTPException: answer_error, Exception: answer_error}
    return Mount(PREFIX, app=Starlette(routes=routes, exception_handlers=handlers))


def _health(_call: Call) -> Answer:
    """One installation is one user's: nobody has to say which namespace is theirs."""
    return {"multi_user": False, "pipeline_store": "database"}
