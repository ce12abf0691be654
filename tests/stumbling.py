"""A model server that does well for so many requests for embeddings, and then has a fault."""

from typing import Any

from chatkit_rag.testing import FakeModelServer, Fault
from chatkit_rag.testing.faults import FaultKind


class _Requests(list[dict[str, Any]]):
    """The server notes a request before it looks for faults: so the fault is this very request's."""

    def __init__(self, server: FakeModelServer, at: int, fault: FaultKind | None) -> None:
        super().__init__()
        self._at, self._fault, self._server = at, fault, server

    def append(self, body: dict[str, Any]) -> None:
        super().append(body)
        if self._fault is not None and len(self) == self._at:
            self._server.fault = Fault(self._fault)


def stumbling(server: FakeModelServer, *, at: int = 0, fault: FaultKind | None = None) -> list[dict[str, Any]]:
    """The bodies of the requests for embeddings from now on; the one at place `at` and all behind it have the fault."""
    server.embedding_requests = _Requests(server, at, fault)
    return server.embedding_requests


def asked_for(requests: list[dict[str, Any]]) -> list[str]:
    """The texts that vectors were asked for."""
    return [text for body in requests for text in body["input"]]
