"""CloudEvents 1.0 in HTTP's binary mode, and KServe's notices of requests and answers. What is posted: headers and a body."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from goldenloop.core.clock import to_text

REQUEST_TYPE = "org.kubeflow.serving.inference.request"
RESPONSE_TYPE = "org.kubeflow.serving.inference.response"


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """One event, ready to be posted to `url`."""

    url: str
    headers: dict[str, str]
    body: bytes


def inference_notice(
    *,
    url: str,
    kind: str,
    identity: str,
    at_us: int,
    namespace: str,
    service: str,
    body: bytes,
    version: str = "",
    status: int = 200,
    metadata: Mapping[str, str] | None = None,
) -> Notice:
    """The event of a request (`REQUEST_TYPE`) or of its answer. Both have the same id, so who removes doubles must look at the type too.

    Beyond KServe's attributes there are `modelname`, `modelversion`, `revision` and, for an answer, `status` (the HTTP status).
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-type": kind,
        "ce-source": f"/namespaces/{namespace}/inferenceservices/{service}",
        "ce-time": to_text(at_us),
        "ce-inferenceservicename": service,
        "ce-namespace": namespace,
        "ce-component": "predictor",
        "ce-endpoint": "",
        "ce-modelname": service,
        "content-type": "application/json",
    }
    if version:
        headers["ce-modelversion"] = version
        headers["ce-revision"] = version
    if kind == RESPONSE_TYPE:
        headers["ce-status"] = str(status)
    if metadata:
        headers["ce-metadata"] = msgspec.json.encode(metadata).decode()
    return Notice(url, headers, body)
