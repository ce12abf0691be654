"""For the tests of those who build on this library: a client, contracts for servers and stores, a model server.

Each name is resolved on its first use, as the package's own are: `ProtocolClient` needs httpx, the contracts
pytest, and whoever asks for neither needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkit_rag.testing.chat_server_contract import ChatServerContract
    from chatkit_rag.testing.endpoint import Refused
    from chatkit_rag.testing.faults import Fault
    from chatkit_rag.testing.frames import ProtocolViolation
    from chatkit_rag.testing.index_contract import IndexContract
    from chatkit_rag.testing.model_server import FakeModelServer
    from chatkit_rag.testing.protocol_client import ProtocolClient
    from chatkit_rag.testing.store_contract import StoreContract
    from chatkit_rag.testing.streamed_answer import StreamedAnswer
    from chatkit_rag.testing.wording import ToolCall

_HOMES = {
    "ChatServerContract": "chat_server_contract",
    "FakeModelServer": "model_server",
    "Fault": "faults",
    "IndexContract": "index_contract",
    "ProtocolClient": "protocol_client",
    "ProtocolViolation": "frames",
    "Refused": "endpoint",
    "StoreContract": "store_contract",
    "StreamedAnswer": "streamed_answer",
    "ToolCall": "wording",
}

__all__ = [
    "ChatServerContract",
    "FakeModelServer",
    "Fault",
    "IndexContract",
    "ProtocolClient",
    "ProtocolViolation",
    "Refused",
    "StoreContract",
    "StreamedAnswer",
    "ToolCall",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as exc:
        if exc.name not in ("httpx", "pytest"):
            raise
        raise ImportError(f"chatkit_rag.testing.{name} needs {exc.name}: pip install {exc.name}") from exc


def __dir__() -> list[str]:
    return list(__all__)
