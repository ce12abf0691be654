"""Embedders and rerankers: over real HTTP, and by a real runtime."""

import asyncio
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from huggingface_hub import constants

from chatkit_rag.documents import Passage
from chatkit_rag.errors import ConfigurationError, EmbeddingFailed, RerankingFailed
from chatkit_rag.retrieval import vectors
from chatkit_rag.retrieval.embedders import choose_embedder
from chatkit_rag.retrieval.embedders.cohere_service import CohereEmbedder, CohereReranker
from chatkit_rag.retrieval.embedders.local import FastEmbedEmbedder, FastEmbedReranker
from chatkit_rag.retrieval.embedders.openai_interface import OpenAIEmbedder
from chatkit_rag.retrieval.embedding import Embedder, Vector, check_vectors
from chatkit_rag.retrieval.json_server import RequestOptions
from chatkit_rag.retrieval.reranking import EndpointReranker, Reranker
from chatkit_rag.testing import FakeModelServer, Fault
from chatkit_rag.testing.index.part import WordsEmbedder
from retrieval.models import SIZE, make_embedder, make_reranker

pytestmark = pytest.mark.anyio

TEXTS = ["A node is a process.", "Messages go over a topic.", "A robot walks by its gait."]
QUICK = RequestOptions(retry_wait_seconds=0.01, total_seconds=5.0)

Make = Callable[[FakeModelServer], Any]


def passage(text: str) -> Passage:
    return Passage(id="1", path="/p", anchor="", title="Page", heading_path=("Page",), text=text, url="/p")


PASSAGES = [passage(text) for text in TEXTS]


@pytest.fixture
def server() -> Iterator[FakeModelServer]:
    with FakeModelServer() as running:
        yield running


def openai(server: FakeModelServer, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder("some-model", base_url=server.base_url, api_key="sk-secret", **{"options": QUICK} | options)


def cohere(server: FakeModelServer) -> CohereEmbedder:
    return CohereEmbedder(api_key="co-secret", base_url=server.base_url.removesuffix("/v1"))


@asynccontextmanager
async def closing(part: Any) -> AsyncIterator[Any]:
    try:
        yield part
    finally:
        await part.close()


@asynccontextmanager
async def answering(body: Any) -> AsyncIterator[str]:
    """The address of a server that answers everything with `body`."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body) if not isinstance(body, str) else web.Response(text=body)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        await runner.cleanup()


class TestEveryEmbedder:
    @pytest.fixture(params=["openai", "cohere", "fastembed"])
    async def embedder(
        self, request: pytest.FixtureRequest, server: FakeModelServer, tmp_path: Path
    ) -> AsyncIterator[Embedder]:
        made: dict[str, Callable[[], Any]] = {
            "openai": lambda: openai(server),
            "cohere": lambda: cohere(server),
            "fastembed": lambda: FastEmbedEmbedder(str(make_embedder(tmp_path / "model"))),
        }
        async with closing(made[request.param]()) as embedder:
            yield embedder

    async def test_a_question_is_nearest_to_the_passage_that_shares_its_words(self, embedder: Embedder):
        documents = await embedder.embed_documents([text.lower() for text in TEXTS])
        asked = await embedder.embed_query("what is a process?")

        near = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in documents]

        assert near.index(max(near)) == 0
        assert embedder.dimension == len(asked) == len(documents[0])

    async def test_no_texts_are_no_vectors_and_an_empty_text_has_one(self, embedder: Embedder):
        assert list(await embedder.embed_documents([])) == []
        assert len(await embedder.embed_documents(["", "a node"])) == 2

    async def test_more_texts_than_a_batch_come_back_in_order(self, embedder: Embedder):
        texts = [f"{word} a{number}" for number in range(100) for word in ("node", "topic", "gait")]

        vectors = await embedder.embed_documents(texts)

        assert len(vectors) == 300
        for number in (0, 1, 150, 299):
            [alone] = await embedder.embed_documents([texts[number]])
            assert list(alone) == pytest.approx(list(vectors[number]), abs=1e-5)

    async def test_it_works_again_after_it_was_closed(self, embedder: Embedder):
        first = await embedder.embed_query("a node")
        await embedder.close()
        await embedder.close()

        assert list(await embedder.embed_query("a node")) == pytest.approx(list(first))


class TestOpenAI:
    async def test_requests_are_what_the_interface_asks_for(self, server: FakeModelServer):
        async with closing(openai(server, dimensions=8, query_prefix="query: ", document_prefix="passage: ")) as made:
            await made.embed_documents(["a", "b"])
            await made.embed_query("c")

            assert made.signature == "openai:some-model:8:'query: ':'passage: '"
        assert server.embedding_requests == [
            {"model": "some-model", "input": inputs, "encoding_format": "float", "dimensions": 8}
            for inputs in (["passage: a", "passage: b"], ["query: c"])
        ]

    @pytest.mark.parametrize("kind", ["rate_limited", "overloaded", "server_error", "cut"])
    async def test_what_may_pass_is_tried_again_for_passages_and_not_for_a_question(
        self, server: FakeModelServer, kind: Any, caplog: pytest.LogCaptureFixture
    ):
        async with closing(openai(server)) as made:
            server.fault = Fault(kind, times=2, retry_after=0.01)
            assert len(await made.embed_documents(TEXTS)) == 3
            assert server.fired[kind] == 2
            told = [said for said in caplog.messages if said.startswith("the embedding server at 127.0.0.1 ")]
            assert [said.rpartition("; ")[2] for said in told] == [
                "it is asked again, 2 of 5",
                "it is asked again, 3 of 5",
            ]

            server.fault = Fault(kind, times=1, retry_after=0.01)
            with pytest.raises(EmbeddingFailed, match=r"the embedding server at 127\.0\.0\.1"):
                await made.embed_query("node")

    @pytest.mark.parametrize("kind", ["unauthorized", "bad_request", "quota", "malformed"])
    async def test_what_does_not_pass_is_told_at_once_and_without_the_key(self, server: FakeModelServer, kind: Any):
        server.fault = Fault(kind)
        async with closing(openai(server)) as made:
            with pytest.raises(EmbeddingFailed) as caught:
                await made.embed_documents(TEXTS)

        assert server.fired[kind] == 1
        assert "sk-secret" not in str(caught.value)

    async def test_a_server_that_says_nothing_is_given_up(self, server: FakeModelServer):
        server.fault = Fault("silent")
        impatient = RequestOptions(total_seconds=0.1, attempts=2, retry_wait_seconds=0.01)
        async with closing(openai(server, options=impatient)) as made:
            with pytest.raises(EmbeddingFailed, match="did not answer in time"):
                await made.embed_documents(TEXTS)
        assert server.fired["silent"] == 2

    @pytest.mark.parametrize(
        ("vectors", "complaint"),
        [
            ([[1.0, 2.0]], "1 vectors for 2 texts"),
            ([[1.0, 2.0], [1.0]], "1 dimensions where 2 were expected"),
            ([[1.0, 2.0], [1.0, None]], "no direction"),
            ([[0.0, 0.0], [1.0, 1.0]], "no direction"),
            ([[1.0, 1e308], [1.0, 1.0]], "no direction"),
            ([[0.0, 1e20], [1.0, 1.0]], "no direction"),
            ([[0.0, 1e-20], [1.0, 1.0]], "no direction"),
            ([["a", "b"], ["c", "d"]], "does not answer as"),
        ],
    )
    async def test_vectors_that_cannot_be_compared_are_refused(self, vectors: list[Any], complaint: str):
        body = {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}
        async with answering(body) as url, closing(OpenAIEmbedder("m", base_url=url)) as made:
            with pytest.raises(EmbeddingFailed, match=complaint):
                await made.embed_documents(["a", "b"])

    @pytest.mark.parametrize("body", ["<html>", {"error": "no"}, [], {"data": None}])
    async def test_another_interface_is_named(self, body: Any):
        async with answering(body) as url, closing(OpenAIEmbedder("m", base_url=url)) as made:
            with pytest.raises(EmbeddingFailed, match="check its address"):
                await made.embed_query("a")

    async def test_a_model_whose_vectors_change_their_length_is_refused(self, server: FakeModelServer):
        async with closing(openai(server)) as made:
            await made.embed_query("a")
            server.dimensions = 12
            with pytest.raises(EmbeddingFailed, match="12 dimensions where 256 were expected"):
                await made.embed_query("a")

    async def test_the_order_is_the_indices(self):
        body = {"data": [{"index": 1, "embedding": [1.0, 0.0]}, {"index": 0, "embedding": [0.0, 1.0]}]}
        async with answering(body) as url, closing(OpenAIEmbedder("m", base_url=url)) as made:
            assert await made.embed_documents(["a", "b"]) == [[0.0, 1.0], [1.0, 0.0]]


class TestCohere:
    async def test_question_and_passage_are_different_acts(self, server: FakeModelServer):
        async with closing(cohere(server)) as made:
            await made.embed_documents(["a"])
            await made.embed_query("b")

        assert [request["input_type"] for request in server.embedding_requests] == ["search_document", "search_query"]

    def test_one_serves_one_event_loop_after_another(self, server: FakeModelServer):
        made = cohere(server)

        async def use_and_close() -> None:
            await made.embed_query("b")
            await made.close()

        first = asyncio.new_event_loop()
        first.run_until_complete(made.embed_query("a"))
        connection = made._service._opened[1]
        asyncio.run(use_and_close())
        first.run_until_complete(connection.aclose())
        first.close()

        assert len(server.embedding_requests) == 2

    @pytest.mark.parametrize("kind", ["unauthorized", "server_error", "cut"])
    async def test_a_failure_is_named(self, server: FakeModelServer, kind: Any):
        server.fault = Fault(kind)
        async with closing(cohere(server)) as made:
            with pytest.raises(EmbeddingFailed, match="Cohere"):
                await made.embed_query("a")


class TestFastEmbed:
    async def test_vectors_are_of_length_one(self, tmp_path: Path):
        async with closing(FastEmbedEmbedder(str(make_embedder(tmp_path / "model")))) as made:
            vector = await made.embed_query("a node")
            assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
            assert made.dimension == SIZE

    async def test_without_the_hub_it_says_so_within_a_second(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        async with closing(FastEmbedEmbedder("BAAI/bge-small-en-v1.5", cache_dir=tmp_path)) as made:
            started = time.monotonic()
            with pytest.raises(ConfigurationError, match="give the path of a folder"):
                await made.embed_query("a")
        assert time.monotonic() - started < 1

    async def test_a_name_that_nobody_knows_is_named(self):
        with pytest.raises(ConfigurationError, match="knows no model 'nobody/knows'"):
            FastEmbedEmbedder("nobody/knows")

    async def test_a_folder_without_a_model_is_named(self, tmp_path: Path):
        with pytest.raises(ConfigurationError, match="holds no model"):
            FastEmbedEmbedder(str(tmp_path))

    async def test_a_broken_model_is_named(self, tmp_path: Path):
        folder = make_embedder(tmp_path / "model")
        (folder / "model.onnx").write_bytes(b"no model")
        async with closing(FastEmbedEmbedder(str(folder))) as made:
            with pytest.raises(ConfigurationError, match="cannot be loaded"):
                await made.embed_query("a")


class TestRerankers:
    @pytest.fixture(params=["endpoint", "cohere"])
    async def reranker(self, request: pytest.FixtureRequest, server: FakeModelServer) -> AsyncIterator[Reranker]:
        made: Any = {
            "endpoint": lambda: EndpointReranker(f"{server.base_url}/rerank", model="m", options=QUICK),
            "cohere": lambda: CohereReranker(api_key="co-secret", base_url=server.base_url.removesuffix("/v1")),
        }[request.param]()
        async with closing(made) as opened:
            yield opened

    async def test_the_passage_that_says_it_scores_best(self, reranker: Reranker):
        scores = await reranker.rerank("over a topic", PASSAGES)

        assert len(scores) == 3
        assert max(scores) == scores[1]

    @pytest.mark.parametrize("kind", ["server_error", "cut", "unauthorized"])
    async def test_a_failure_is_named(self, reranker: Reranker, server: FakeModelServer, kind: Any):
        server.fault = Fault(kind)

        with pytest.raises(RerankingFailed):
            await reranker.rerank("over a topic", PASSAGES)
        assert server.fired[kind] == 1

    @pytest.mark.parametrize("body", [{}, [], {"results": [{"index": 0, "score": 1}]}, "text"])
    async def test_scores_that_are_not_all_there_are_refused(self, body: Any):
        async with answering(body) as url, closing(EndpointReranker(f"{url}/rerank")) as made:
            with pytest.raises(RerankingFailed):
                await made.rerank("a", PASSAGES)

    async def test_the_wording_of_text_embeddings_inference_is_understood(self):
        body = [{"index": number, "score": number / 10} for number in (2, 0, 1)]
        async with answering(body) as url, closing(EndpointReranker(f"{url}/rerank")) as made:
            assert await made.rerank("a", PASSAGES) == [0.0, 0.1, 0.2]

    async def test_a_cross_encoder_runs_here(self, tmp_path: Path):
        async with closing(FastEmbedReranker(str(make_reranker(tmp_path / "model")))) as made:
            scores = await made.rerank("what", [passage("a"), passage("walks walks walks walks"), passage("node")])

        assert max(scores) == scores[1]


class TestChoosing:
    async def test_none_is_none(self):
        assert choose_embedder("none").embedder is None
        assert choose_embedder("none", openai_api_key="sk-secret").embedder is None

    @pytest.mark.parametrize(
        ("name", "signature"),
        [
            ("openai:text-embedding-3-small", "openai:text-embedding-3-small"),
            ("cohere:embed-v4.0", "cohere:embed-v4.0"),
        ],
    )
    async def test_a_name_is_its_embedder(self, name: str, signature: str):
        chosen = choose_embedder(name, openai_api_key="sk-secret", cohere_api_key="co-secret")

        assert chosen.embedder is not None
        assert chosen.embedder.signature == signature
        assert "charged" in chosen.label

    @pytest.mark.parametrize("name", ["", "openai", "openai:", "word2vec:x", "auto"])
    async def test_what_means_nothing_is_named(self, name: str):
        with pytest.raises(ConfigurationError, match="an embedder is none, openai:NAME"):
            choose_embedder(name)

    @pytest.mark.parametrize(("name", "key"), [("openai:x", "OPENAI_API_KEY"), ("cohere:x", "COHERE_API_KEY")])
    async def test_a_missing_key_is_named(self, name: str, key: str):
        with pytest.raises(ConfigurationError, match=key):
            choose_embedder(name)


async def test_all_vectors_are_checked_while_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch):
    checked_in: dict[int, int] = {}

    def noted(found: Sequence[Vector], **given: Any) -> None:
        checked_in[len(found)] = threading.get_ident()
        check_vectors(found, **given)

    monkeypatch.setattr(vectors, "check_vectors", noted)

    made = await vectors.embed_changed([passage(f"Text {number}.") for number in range(300)], WordsEmbedder(), None)

    assert len(made) == 300
    assert checked_in[300] != threading.get_ident()
