"""For the tests of those who build on this library: a model server that speaks real HTTP."""

from chatkit_rag.testing.model_server import FakeModelServer

__all__ = ["FakeModelServer"]
