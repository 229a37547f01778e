"""What is expected of each pipeline of the corpus: what upstream's tests assert, read from the checkout, and for the
rest a reading of the source.
"""

from __future__ import annotations

import ast
import os
import socket
from functools import lru_cache
from pathlib import Path

import msgspec

from goldenloop.core.json import Json, JsonObject

_VALID = "test_data.sdk_compiled_pipelines.valid."
_LOCAL_TESTS = Path("sdk/python/test/local_execution/local_execution_test.py")
_END_TO_END = Path("backend/test/end2end/pipeline_e2e_test.go")
_SUCCEEDING = (
    "essential",
    "critical",
    "parallel_and_nested",
)  # folders that the end-to-end tests run and want to succeed
_FAILING = ("failing",)  # and to fail

# What the end-to-end tests put into the cluster before they run.
SECRETS = {
    "test-secret-1": {"username": "user1"},
    "test-secret-2": {"password": "psw1"},
    "test-secret-3": {"password": "psw2"},
}


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome; the values one of which the only output parameter has (none: any), if the pipeline has one; tasks
    that succeed also where the whole fails; and a host without which it fails.
    """

    why: str
    outcome: str = "SUCCEEDED"
    arguments: JsonObject = {}
    outputs: tuple[Json, ...] = ()
    succeeded: tuple[str, ...] = ()
    needs_host: str = ""

    def here(self) -> Expectation:
        """What is expected on this machine."""
        if self.needs_host and not _answers(self.needs_host):
            return msgspec.structs.replace(self, outcome="FAILED", why=f"{self.why}; {self.needs_host} does not answer")
        return self


_GOOGLE_STORAGE = "storage.googleapis.com"
_FAILS_INSIDE = "a step raises on purpose, and what follows it whatever happens runs"

# Outcomes that follow from the source alone, or that upstream's tests get with the help of a cluster.
READ_FROM_SOURCE: dict[str, Expectation] = {
    "component_with_task_final_status_GH-12033": Expectation(
        why="nothing gives it a final status, and KFP's own runtime does not take that", outcome="FAILED"
    ),
    "create_pod_metadata_complex": Expectation(
        why="one step wants a variable to be empty that is set nowhere",
        outcome="FAILED",
        succeeded=("validate-pod-metadata",),
    ),
    "critical/modelcar": Expectation(
        why="its model image is in the registry of upstream's tests only", outcome="FAILED"
    ),
    "critical/pipeline_with_artifact_upload_download": Expectation(
        why="downloads a data set", needs_host="huggingface.co"
    ),
    "env-var": Expectation(
        why="upstream: fails without a proxy",
        outcome="SUCCEEDED" if "http_proxy" in os.environ else "FAILED",
        arguments={"env_var": "http_proxy"},
    ),
    "integration/ray_integration_compiled": Expectation(why="makes a Ray cluster on Kubernetes", outcome="FAILED"),
    "local_execution/local_execution_pipeline_with_ignore_upstream_failure": Expectation(
        why=_FAILS_INSIDE, outcome="FAILED", succeeded=("write-marker",)
    ),
    "pipeline_as_exit_task": Expectation(
        why=_FAILS_INSIDE,
        outcome="FAILED",
        succeeded=("conditional-notification.condition-1.print-op",),
    ),
    "pipeline_with_google_artifact_type": Expectation(
        why="wants the package aiplatform, which is not there", outcome="FAILED"
    ),
    "pipeline_with_importer": Expectation(why="reads what it imports", needs_host=_GOOGLE_STORAGE),
    "pipeline_with_task_final_status": Expectation(why=_FAILS_INSIDE, outcome="FAILED", succeeded=("exit-op",)),
    "pipeline_with_task_using_ignore_upstream_failure": Expectation(
        why=_FAILS_INSIDE, outcome="FAILED", succeeded=("print-op",)
    ),
    "pythonic_artifact_with_single_return": Expectation(why="reads what it imports", needs_host=_GOOGLE_STORAGE),
    "take_nap_compiled": Expectation(why="sleeps; shortened from a quarter of an hour", arguments={"naptime_secs": 1}),
    "take_nap_pipeline_root_compiled": Expectation(why="sleeps; likewise shortened", arguments={"naptime_secs": 1}),
    "upload_download_compiled": Expectation(
        why="wants the credentials of an object store, and that store", outcome="FAILED"
    ),
}


def upstream_expectations(checkout: Path) -> dict[str, Expectation]:
    """What the tests of the checkout assert, by the path of the pipeline without suffix."""
    found: dict[str, Expectation] = {}
    valid = checkout / "test_data/sdk_compiled_pipelines/valid"
    if (checkout / _END_TO_END).is_file():
        text = (checkout / _END_TO_END).read_text()
        for folders, outcome in ((_SUCCEEDING, "SUCCEEDED"), (_FAILING, "FAILED")):
            for folder in folders:
                if f'"valid/{folder}"' not in text:
                    continue
                for file in (valid / folder).glob("*.yaml"):
                    found[f"{folder}/{file.stem}"] = Expectation(why="asserted end to end upstream", outcome=outcome)
    if (checkout / _LOCAL_TESTS).is_file():
        found |= _local_expectations(ast.parse((checkout / _LOCAL_TESTS).read_text()), valid)
    return found


def _local_expectations(tests: ast.Module, valid: Path) -> dict[str, Expectation]:
    """The `TestData(…)` of the local tests: whatever they name must succeed, with these arguments and this output."""
    modules = {
        (alias.asname or alias.name): node.module.removeprefix(_VALID)
        for node in tests.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_VALID) and node.module
        for alias in node.names
    }
    found: dict[str, Expectation] = {}
    for node in ast.walk(tests):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TestData"):
            continue
        fields = {keyword.arg: keyword.value for keyword in node.keywords}
        function = fields["pipeline_func"]
        module = modules.get(function.id) if isinstance(function, ast.Name) else None
        name = _pipeline_of(module, valid) if module else None
        if name is None:
            continue
        expected = _literal(fields["expected_output"])
        wanted: tuple[Json, ...] = () if expected is None else (expected,)
        if isinstance(expected, list):
            wanted = (*expected, expected)
        arguments = _literal(fields["pipeline_func_args"])
        found[name] = Expectation(
            why="asserted locally upstream",
            arguments=arguments if isinstance(arguments, dict) else {},
            outputs=wanted,
        )
    return found


def _pipeline_of(module: str, valid: Path) -> str | None:
    """The compiled pipeline of a module; some carry an issue's number or `_compiled` in their name."""
    path = valid / module.replace(".", "/")
    files = [path.with_suffix(".yaml"), *sorted(path.parent.glob(f"{path.name}_GH-*.yaml"))]
    files += [path.parent / f"{path.name}_compiled.yaml", path.parent / f"{path.name}_pipeline.yaml"]
    found = next((file for file in files if file.is_file()), None)
    return found.relative_to(valid).with_suffix("").as_posix() if found else None


@lru_cache
def _answers(host: str) -> bool:
    try:
        with socket.create_connection((host, 443), timeout=5):
            return True
    except OSError:
        return False


def _literal(node: ast.expr) -> Json:
    """The value of a literal; None for what is computed."""
    try:
        value: Json = ast.literal_eval(node)
    except ValueError:
        return None
    return value
