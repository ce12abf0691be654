"""For the tests of those who build on this library: a model server that speaks real HTTP."""

from chatkit_rag.testing.model_server import FakeModelServer, ToolCall

__all__ = ["FakeModelServer", "ToolCall"]
