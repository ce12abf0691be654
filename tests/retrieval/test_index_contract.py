"""The contract, over each of our indexes: in memory, in process, by REST, on a server where QDRANT_URL is."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.embedding import Embedder
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.retrieval.qdrant import QdrantIndex, QdrantOptions
from chatkit_rag.testing import IndexContract
from chatkit_rag.testing.index_contract import CAPABILITIES, MakeIndex
from retrieval.qdrant_server import QdrantServer

ALL = frozenset(CAPABILITIES)


class TestMemory(IndexContract):
    capabilities = ALL - {"shared"}

    @pytest.fixture
    def make_index(self) -> MakeIndex:
        def make(*, embedder: Embedder | None = None) -> MemoryIndex:
            return MemoryIndex(embedder=embedder)

        return make


class TestEdge(IndexContract):
    capabilities = ALL

    @pytest.fixture
    def make_index(self, tmp_path: Path, temporary: Path) -> MakeIndex:
        def make(*, embedder: Embedder | None = None) -> EdgeIndex:
            return EdgeIndex(tmp_path / "index", embedder=embedder)

        return make


class TestQdrantByRest(IndexContract):
    capabilities = ALL

    @pytest.fixture
    async def make_index(self, tmp_path: Path) -> AsyncIterator[MakeIndex]:
        async with QdrantServer(tmp_path / "qdrant").running() as server:

            def make(*, embedder: Embedder | None = None) -> QdrantIndex:
                return QdrantIndex(server.url, embedder=embedder, options=QdrantOptions(batch=16, timeout=30))

            yield make


@pytest.mark.skipif("QDRANT_URL" not in os.environ, reason="QDRANT_URL names no Qdrant server")
class TestQdrantServer(IndexContract):
    capabilities = ALL

    @pytest.fixture(params=[False, True], ids=["rest", "grpc"])
    async def make_index(self, request: pytest.FixtureRequest) -> AsyncIterator[MakeIndex]:
        collection = f"chatkit-rag-test-{uuid.uuid4().hex[:12]}"
        url, key = os.environ["QDRANT_URL"], os.environ.get("QDRANT_API_KEY", "")

        def make(*, embedder: Embedder | None = None) -> QdrantIndex:
            options = QdrantOptions(prefer_grpc=request.param)
            return QdrantIndex(url, collection=collection, api_key=key, embedder=embedder, options=options)

        yield make
        await make().remove()
