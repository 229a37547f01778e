"""Requests to other servers: receivers of notices, and steps of graphs that lie elsewhere. They run in threads, never on the event loop."""

from __future__ import annotations

from collections.abc import Mapping

from goldenloop.core.errors import UnavailableError

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0


class Poster:
    """Sends bodies with POST and keeps connections open. Threads may share it."""

    def __init__(self, *, connections: int = 4) -> None:
        import urllib3

        self._pool = urllib3.PoolManager(maxsize=connections, retries=False)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float = ANSWER_SECONDS
    ) -> tuple[int, bytes]:
        """Return the status and the body of the answer. Raises UnavailableError where there is none."""
        import urllib3

        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds)
        try:
            answer = self._pool.request("POST", url, body=body, headers=dict(headers), timeout=timeout)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise UnavailableError(
                f"{url} does not answer: {type(error).__name__}", mend="Check the address."
            ) from error
        return answer.status, answer.data

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
