"""The verbs as methods: what the CLI does, a program can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from goldenloop.client.connection import Connection
from goldenloop.control.home import Addresses, Home
from goldenloop.core.clock import to_text
from goldenloop.core.errors import ConflictError, GoldenloopError, NotFoundError, UnavailableError
from goldenloop.core.json import Json, JsonObject
from goldenloop.standards.kubernetes import Kind, kind_named, kind_of

_OURS = "/goldenloop/v1alpha1"
_APPLY_ATTEMPTS = 5
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer: its id (a UUIDv7), the version that gave it, and a value for each row."""

    id: str
    version: str
    values: list[Json]
    probabilities: list[list[float]] | None


class Client:
    """A client of one installation. Not for several threads at once."""

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self._control = Connection(addresses.http)
        self._inference = Connection(addresses.inference)

    @classmethod
    def of_home(cls, home: str | Path) -> Client:
        """The client of the installation that runs in this folder. Raises NotFoundError where none does."""
        return cls(Home(Path(home).absolute()).running())

    # resources

    def get(self, kind: str, name: str, *, namespace: str = "default") -> JsonObject:
        """Return a resource."""
        return _object(self._control.call("GET", f"{_path(kind_named(kind), namespace)}/{quote(name)}")[0])

    def listing(self, kind: str, *, namespace: str | None = None) -> list[JsonObject]:
        """Return all resources of a kind."""
        found = kind_named(kind)
        path = _path(found, namespace) if namespace else f"/apis/{found.group}/{found.version}/{found.plural}"
        return _items(self._control.call("GET", path)[0])

    def apply(self, document: JsonObject, *, namespace: str = "default") -> tuple[str, JsonObject]:
        """Create a resource, or put its spec in the place of the old; return what happened and the resource."""
        kind = kind_of(document)
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or "name" not in metadata:
            raise GoldenloopError("the document has no metadata.name", where="metadata.name", mend="Give it a name.")
        namespace = str(metadata.get("namespace", namespace))
        path = _path(kind, namespace)
        for _ in range(_APPLY_ATTEMPTS):
            try:
                current = _object(self._control.call("GET", f"{path}/{quote(str(metadata['name']))}")[0])
            except NotFoundError:
                return "created", _object(self._control.call("POST", path, document)[0])
            try:
                changed = _object(self._control.call("PUT", f"{path}/{quote(str(metadata['name']))}", document)[0])
            except ConflictError:
                continue
            return ("unchanged" if _version(changed) == _version(current) else "configured"), changed
        raise ConflictError(f"{metadata['name']!r} keeps changing", mend="Try again.")

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> None:
        """Delete a resource and what it owns."""
        self._control.call("DELETE", f"{_path(kind_named(kind), namespace)}/{quote(name)}")

    # the loop

    def timeline(self, loop: str, *, namespace: str = "default", after: int = 0) -> list[JsonObject]:
        """What happened to a loop after a sequence number."""
        return _items(self._control.call("GET", f"{_loop(namespace, loop)}/timeline?after={after}")[0])

    def of_loop(self, what: str, loop: str, *, namespace: str = "default") -> JsonObject:
        """One of `quality`, `versions`, `decisions`, `owner` of a loop."""
        return _object(self._control.call("GET", f"{_loop(namespace, loop)}/{what}")[0])

    def keep_baselines(self, loop: str, baselines: object, *, namespace: str = "default") -> None:
        """Keep what other policies would have reached, for the page to draw."""
        self._control.call("PUT", f"{_loop(namespace, loop)}/baselines", baselines)

    def runs(self, loop: str | None = None) -> list[JsonObject]:
        """Runs, newest first."""
        return _items(self._control.call("GET", f"{_OURS}/runs" + (f"?loop={quote(loop)}" if loop else ""))[0])

    def run(self, run: str) -> JsonObject:
        """One run with its steps."""
        return _object(self._control.call("GET", f"{_OURS}/runs/{quote(run)}")[0])

    def start_run(self, request: JsonObject) -> str:
        """Run a compiled pipeline; return the id of the run."""
        return str(_object(self._control.call("POST", f"{_OURS}/runs", request)[0])["id"])

    def cancel_run(self, run: str) -> bool:
        """End a run; whether it was going on."""
        return _object(self._control.call("POST", f"{_OURS}/runs/{quote(run)}/cancel", {})[0])["cancelled"] is True

    def rerun(self, run: str, *, step: str | None = None) -> None:
        """Let a run that has ended go on: from a step, or from those that failed."""
        body: JsonObject = {} if step is None else {"from": step}
        self._control.call("POST", f"{_OURS}/runs/{quote(run)}/rerun", body)

    def log_part(self, run: str, step: str, *, after: int = 0) -> JsonObject:
        """What a step printed after a position: `text`, the position of `next`, and whether the step has `ended`."""
        path = f"{_OURS}/runs/{quote(run)}/tasks/{quote(step)}/log/part?after={after}"
        return _object(self._control.call("GET", path)[0])

    def log(self, run: str, step: str) -> str:
        """What a step printed."""
        return str(self._control.call("GET", f"{_OURS}/runs/{quote(run)}/tasks/{quote(step)}/log")[0])

    def ask_for_run(self, loop: str, *, namespace: str = "default", reason: str = "") -> JsonObject:
        """Ask for a run of a loop's pipeline."""
        return _object(self._control.call("POST", f"{_loop(namespace, loop)}/runs", {"reason": reason})[0])

    def promote(
        self, loop: str, *, version: int | None = None, namespace: str = "default", reason: str = "", by: str = ""
    ) -> JsonObject:
        """Make a version golden by hand; one that waits for approval is approved."""
        body: JsonObject = {"version": version, "reason": reason, "by": by}
        return _object(self._control.call("POST", f"{_loop(namespace, loop)}/promote", body)[0])

    def approve(
        self, loop: str, *, version: int | None = None, namespace: str = "default", reason: str, by: str
    ) -> JsonObject:
        """Let the version that waits for approval take part. Asked for twice it decides once."""
        body: JsonObject = {"version": version, "reason": reason, "by": by}
        return _object(self._control.call("POST", f"{_loop(namespace, loop)}/approve", body)[0])

    def refuse(
        self, loop: str, *, version: int | None = None, namespace: str = "default", reason: str, by: str
    ) -> JsonObject:
        """Turn the version that waits for approval down; the champion stays."""
        body: JsonObject = {"version": version, "reason": reason, "by": by}
        return _object(self._control.call("POST", f"{_loop(namespace, loop)}/refuse", body)[0])

    def card(self, loop: str, version: int, *, namespace: str = "default") -> JsonObject:
        """The card of a version: what it is for, what it was judged on, who decided."""
        path = f"{_loop(namespace, loop)}/versions/{version}/card?format=json"
        return _object(self._control.call("GET", path)[0])

    def card_text(
        self, loop: str, version: int, form: Literal["markdown", "html"], *, namespace: str = "default"
    ) -> str:
        """The card as a document."""
        path = f"{_loop(namespace, loop)}/versions/{version}/card?format={form}"
        return str(self._control.call("GET", path)[0])

    def reproduce(self, loop: str, version: int, *, namespace: str = "default") -> str:
        """Let the run that made a version run once more; return the id of the second run."""
        path = f"{_loop(namespace, loop)}/versions/{version}/reproduce"
        return str(_object(self._control.call("POST", path, {})[0])["run"])

    def reproduction(self, run: str) -> JsonObject:
        """What is equal between a version and what a second run made."""
        return _object(self._control.call("GET", f"{_OURS}/reproductions/{quote(run)}")[0])

    def report(self, loop: str, *, since: str = "30d", namespace: str = "default") -> JsonObject:
        """What was measured, what stood out and what the loop did, over so much event time until the last window."""
        path = f"{_loop(namespace, loop)}/report?format=json&since={quote(since)}"
        return _object(self._control.call("GET", path)[0])

    def report_page(self, loop: str, *, since: str = "30d", namespace: str = "default") -> str:
        """The report as one HTML file."""
        path = f"{_loop(namespace, loop)}/report?format=html&since={quote(since)}"
        return str(self._control.call("GET", path)[0])

    def rollback(self, loop: str, *, namespace: str = "default", reason: str = "", by: str = "") -> JsonObject:
        """End the rollout, or go back to the version before."""
        body: JsonObject = {"reason": reason, "by": by}
        return _object(self._control.call("POST", f"{_loop(namespace, loop)}/rollback", body, patience_seconds=0)[0])

    def trust(self, digest: str, *, reason: str = "") -> JsonObject:
        """Accept model files of this SHA-256 although they run code when they are loaded."""
        return _object(self._control.call("POST", f"{_OURS}/trusted", {"digest": digest, "reason": reason})[0])

    def distrust(self, digest: str) -> None:
        """Take that back."""
        self._control.call("DELETE", f"{_OURS}/trusted/{quote(digest)}")

    def trusted(self) -> list[JsonObject]:
        """What is accepted, the newest last."""
        return _items(self._control.call("GET", f"{_OURS}/trusted")[0])

    def trace(self, identity: str, *, row: int = 0, explain: bool = True) -> JsonObject:
        """Everything about one prediction."""
        query = f"?row={row}&explain={'true' if explain else 'false'}"
        return _object(self._control.call("GET", f"{_OURS}/trace/{quote(identity)}{query}")[0])

    def query(self, sql: str, *, limit: int = 10_000, seconds: float = 30.0) -> JsonObject:
        """Rows of the records that this SELECT asks for: `columns`, `types`, `rows`, and `notices` of what was left out."""
        body: JsonObject = {"sql": sql, "limit": limit, "seconds": seconds}
        return _object(self._control.call("POST", f"{_OURS}/query", body, patience_seconds=0)[0])

    def audit(self, *, after: int = 0, limit: int = 100) -> list[JsonObject]:
        """The newest entries of the audit log, oldest first."""
        return _items(self._control.call("GET", f"{_OURS}/audit?after={after}&limit={limit}")[0])

    def verify_audit(self) -> JsonObject:
        """Whether the audit log and the sealed payloads are what was written."""
        return _object(self._control.call("GET", f"{_OURS}/audit/verification")[0])

    # inference

    def predict(
        self, service: str, rows: Sequence[JsonObject], *, event_us: int | None = None, version: str | None = None
    ) -> Prediction:
        """Score rows given by column name, over the V2 protocol."""
        names = list(rows[0])
        inputs: list[Json] = [_tensor(name, [row.get(name) for row in rows]) for name in names]
        body: JsonObject = {"inputs": inputs}
        if event_us is not None:
            body["parameters"] = {"event_time": to_text(event_us)}
        asked = f"/versions/{quote(version)}" if version else ""
        answered, headers = self._inference.call("POST", f"/v2/models/{quote(service)}{asked}/infer", body)
        outputs = {str(output["name"]): output for output in _objects(_object(answered)["outputs"])}
        shares = outputs.get("probabilities")
        return Prediction(
            id=headers["x-prediction-id"],
            version=str(_object(answered)["model_version"]),
            values=list(_list(outputs["predict"]["data"])),
            probabilities=None if shares is None else _rows(shares),
        )

    def feedback(self, labels: Sequence[JsonObject]) -> int:
        """Tell the truth about predictions: `{"id", "row"?, "label", "observed_at"?}`; return how many were taken."""
        answered, _ = self._inference.call("POST", "/v1/feedback", list(labels))
        return int(str(_object(answered)["accepted"]))

    # waiting

    def wait(
        self, holds: Callable[[], Answer | None], *, what: str, seconds: float, pause_seconds: float = 0.1
    ) -> Answer:
        """Ask again and again until there is an answer. Raises UnavailableError when the time is over."""
        end = time.monotonic() + seconds
        while True:
            answer = holds()
            if answer is not None:
                return answer
            if time.monotonic() > end:
                raise UnavailableError(f"{what} did not come within {seconds:.0f} s")
            time.sleep(pause_seconds)

    def until_served(self, loop: str, *, namespace: str = "default", seconds: float = 120.0) -> str:
        """Wait until a loop answers; return its golden version. Raises GoldenloopError as soon as its first run came to nothing."""

        def champion() -> str | None:
            document = self.get("loops", loop, namespace=namespace)
            status = document.get("status")
            if not isinstance(status, dict) or not status:
                return None
            if status.get("phase") == "Blocked":
                raise GoldenloopError(_why_not_ready(status), where=f"loop {loop}", mend="Mend it and apply it again.")
            if status.get("phase") == "AwaitingApproval":
                raise GoldenloopError(
                    _why_not_ready(status),
                    where=f"loop {loop}",
                    mend=f"Read goldenloop describe version {loop}, then: goldenloop approve {loop} --reason WHY.",
                )
            if status.get("champion") is None:
                return None
            return str(status["champion"]) if self._answers(loop) else None

        return self.wait(champion, what=f"a golden version of {loop}", seconds=seconds)

    def _answers(self, service: str) -> bool:
        try:
            self._inference.call("GET", f"/v2/models/{quote(service)}/ready", patience_seconds=0)
        except GoldenloopError:
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._control.close()
        self._inference.close()


def _why_not_ready(status: JsonObject) -> str:
    for each in _objects(status.get("conditions", [])):
        if each.get("type") == "Ready":
            return str(each.get("message"))
    return "it is blocked"


def _tensor(name: str, values: list[Json]) -> JsonObject:
    numeric = all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    data: list[Json] = values if numeric else [None if value is None else str(value) for value in values]
    return {"name": name, "datatype": "FP64" if numeric else "BYTES", "shape": [len(values)], "data": data}


def _rows(output: JsonObject) -> list[list[float]]:
    shape, data = _list(output["shape"]), _list(output["data"])
    width = int(str(shape[1]))
    numbers = [float(str(value)) for value in data]
    return [numbers[start : start + width] for start in range(0, len(numbers), width)]


def _path(kind: Kind, namespace: str | None) -> str:
    return f"/apis/{kind.group}/{kind.version}/namespaces/{quote(namespace or 'default')}/{kind.plural}"


def _loop(namespace: str, loop: str) -> str:
    return f"{_OURS}/namespaces/{quote(namespace)}/loops/{quote(loop)}"


def _version(document: JsonObject) -> object:
    return _object(document["metadata"])["resourceVersion"]


def _object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise UnavailableError(f"the answer is not an object: {value!r}")
    return value


def _list(value: object) -> list[Json]:
    if not isinstance(value, list):
        raise UnavailableError(f"the answer is not a list: {value!r}")
    return value


def _objects(value: object) -> Iterator[JsonObject]:
    return (_object(item) for item in _list(value))


def _items(value: object) -> list[JsonObject]:
    return list(_objects(_object(value)["items"]))
