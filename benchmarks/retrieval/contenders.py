"""Ours and the others, each as its documentation uses it; the best ten passages for a question, by their ids."""

import asyncio
import re
import sqlite3
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as engine
from passages import DIMENSION, text_of, vectors

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval import Retriever
from chatkit_rag.retrieval.analysis import Analyser, question_vector
from chatkit_rag.retrieval.counting import Reading
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.segmentation import words

TOP = 10

Answer = TypeVar("Answer")


class Contender:
    """Built in a folder of its own, opened, asked, closed."""

    opens = False
    """Whether what was built can be opened again: else it is built at every start."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def build(self, passages: Sequence[Passage]) -> None:
        raise NotImplementedError

    def open(self) -> None:
        """Makes what was built ready to be asked."""

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:
        raise NotImplementedError

    def close(self) -> None:
        """Ends what was opened."""


class Given:
    """An embedder whose vectors are there: what a model takes is not what is measured."""

    signature, dimension = "given", DIMENSION

    async def embed_documents(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return vectors(len(texts), seed=1)

    async def embed_query(self, text: str) -> Sequence[float]:  # noqa: ARG002 - the interface's
        return vectors(1, seed=2)[0]

    async def close(self) -> None:
        """Holds nothing."""


def _at_once(answer: Coroutine[Any, Any, Answer]) -> Answer:
    """What comes of a search that waits for nothing, as within a server's loop, which runs already.

    To start a loop for each question and to stop it takes 40 us, which no reader waits for.
    """
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the search waits for something")


class Ours(Contender):
    """`EdgeIndex` by words."""

    opens = True
    hybrid = False

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        # Not `asyncio.Runner`, which looks for handlers of signals each time, and prints every result for that.
        self.loop = asyncio.new_event_loop()
        self.index = self._index()

    def _index(self) -> EdgeIndex:
        return EdgeIndex(self.place, embedder=Given() if self.hybrid else None)

    def build(self, passages: Sequence[Passage]) -> None:
        self.loop.run_until_complete(self.index.publish([], passages))
        self.loop.run_until_complete(self.index.close())
        self.index = self._index()

    def open(self) -> None:
        self.loop.run_until_complete(self.index.open())

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:
        found = _at_once(self.index.search(question, vector=vector if self.hybrid else None, limit=limit))
        return [hit.passage.id for hit in (*found.hits, *found.near)][:limit]

    def close(self) -> None:
        self.loop.run_until_complete(self.index.close())
        self.loop.close()


class OursHybrid(Ours):
    """`EdgeIndex` by words and by meaning."""

    hybrid = True


class OursRanked(Ours):
    """What a reader gets: a hundred candidates, pages weighed, no page alone."""

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        found = _at_once(Retriever(self.index).retrieve(question, limit=limit))
        return [hit.passage.id for hit in found.hits]


class Engine(Contender):
    """The floor: the engine under ours by itself, with its own BM25, in one shard."""

    def build(self, passages: Sequence[Passage]) -> None:
        self.bm25 = engine.Bm25(engine.Bm25Config())
        self.shard = engine.EdgeShard.create(
            str(self.place), engine.EdgeConfig(sparse_vectors={"terms": engine.EdgeSparseVectorParams()})
        )
        points: list[engine.Point] = []
        for passage in passages:
            text = text_of(passage)
            points.append(engine.Point(passage.id, {"terms": self.bm25.embed_document(text)}, {"text": text}))
        for start in range(0, len(points), 64):
            self.shard.update(engine.UpdateOperation.upsert_points(points[start : start + 64]))
        self.shard.flush()

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        nearest = engine.Query.Nearest(self.bm25.embed_query(question), using="terms")
        return [str(point.id) for point in self.shard.query(engine.QueryRequest(limit=limit, query=nearest))]

    def close(self) -> None:
        self.shard.close()


class QdrantLocal(Contender):
    """qdrant-client's local mode, in memory, with the sparse vectors that ours have."""

    hybrid = False

    def build(self, passages: Sequence[Passage]) -> None:
        from qdrant_client import QdrantClient, models

        self.models = models
        self.client = QdrantClient(":memory:")
        dense = {"meaning": models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)}
        self.client.create_collection(
            "passages",
            vectors_config=dense if self.hybrid else {},
            sparse_vectors_config={"terms": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )
        self.analyser = Analyser()
        reading = Reading(passages, self.analyser)
        meanings = vectors(len(passages), seed=1) if self.hybrid else []
        points: list[Any] = []
        terms = reading.vectors(reading.counts.average_length)
        for number, (passage, own) in enumerate(zip(passages, terms, strict=True)):
            vector: dict[str, Any] = {"terms": self._sparse(own)}
            if self.hybrid:
                vector["meaning"] = meanings[number]
            points.append(models.PointStruct(id=passage.id, vector=vector, payload={"text": text_of(passage)}))
        for start in range(0, len(points), 64):
            self.client.upsert("passages", points[start : start + 64])

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:
        terms = self._sparse(question_vector(self.analyser.question_terms(words(question))))
        models = self.models
        if self.hybrid:
            found = self.client.query_points(
                "passages",
                prefetch=[
                    models.Prefetch(query=terms, using="terms", limit=limit),
                    models.Prefetch(query=vector, using="meaning", limit=limit),
                ],
                query=models.FusionQuery(fusion=models.Fusion.DBSF),
                limit=limit,
            )
        else:
            found = self.client.query_points("passages", query=terms, using="terms", limit=limit)
        return [str(point.id) for point in found.points]

    def close(self) -> None:
        self.client.close()

    def _sparse(self, vector: Any) -> Any:
        return self.models.SparseVector(indices=list(vector.indices), values=list(vector.values))


class QdrantLocalHybrid(QdrantLocal):
    hybrid = True


class QdrantBm25(Contender):
    """qdrant-client's local mode, with its own BM25: FastEmbed's, as the client calls it by itself."""

    def build(self, passages: Sequence[Passage]) -> None:
        from llama_index.core.utils import globals_helper
        from qdrant_client import QdrantClient, models

        # It would take its stop words, NLTK's, from a hub; LlamaIndex brings the same ones along.
        options = {"specific_model_path": str(self.place), "stopwords": set(globals_helper.stopwords)}
        self.document = partial(models.Document, model="Qdrant/bm25", options=options)
        self.client = QdrantClient(":memory:")
        terms = models.SparseVectorParams(modifier=models.Modifier.IDF)
        self.client.create_collection("passages", vectors_config={}, sparse_vectors_config={"terms": terms})
        points = [
            models.PointStruct(id=passage.id, vector={"terms": self.document(text=text_of(passage))}, payload={})
            for passage in passages
        ]
        for start in range(0, len(points), 64):
            self.client.upsert("passages", points[start : start + 64])

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        found = self.client.query_points("passages", query=self.document(text=question), using="terms", limit=limit)
        return [str(point.id) for point in found.points]

    def close(self) -> None:
        self.client.close()


class LangChain(Contender):
    """`BM25Retriever`, as it comes: words cut at spaces."""

    def build(self, passages: Sequence[Passage]) -> None:
        from langchain_community.retrievers import BM25Retriever

        metadatas = [{"id": passage.id} for passage in passages]
        self.retriever = BM25Retriever.from_texts([text_of(passage) for passage in passages], metadatas=metadatas)

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        self.retriever.k = limit
        return [found.metadata["id"] for found in self.retriever.invoke(question)]


class LlamaIndex(Contender):
    """`BM25Retriever`, as it comes: English stems and stop words."""

    def build(self, passages: Sequence[Passage]) -> None:
        from llama_index.core.schema import TextNode
        from llama_index.retrievers.bm25 import BM25Retriever

        nodes = [TextNode(text=text_of(passage), id_=passage.id) for passage in passages]
        self.retriever = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=min(100, len(nodes)))

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        self.retriever.similarity_top_k = limit
        return [found.node.node_id for found in self.retriever.retrieve(question)]


class Bm25s(Contender):
    """bm25s with English stems and stop words."""

    opens = True

    def build(self, passages: Sequence[Passage]) -> None:
        import bm25s
        import Stemmer

        self.bm25s, self.stemmer = bm25s, Stemmer.Stemmer("english")
        self.ids = [passage.id for passage in passages]
        index = bm25s.BM25()
        index.index(self._tokens([text_of(passage) for passage in passages]), show_progress=False)
        index.save(self.place)

    def open(self) -> None:
        self.index = self.bm25s.BM25.load(self.place)

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        found, _ = self.index.retrieve(self._tokens(question), k=min(limit, len(self.ids)), show_progress=False)
        return [self.ids[int(number)] for number in found[0]]

    def _tokens(self, texts: Any) -> Any:
        return self.bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)


class Fts5(Contender):
    """SQLite's FTS5 with Porter's stems; any of the question's words."""

    opens = True

    def build(self, passages: Sequence[Passage]) -> None:
        database = sqlite3.connect(self.place / "passages.db")
        database.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, text, tokenize='porter unicode61')")
        database.executemany("INSERT INTO passages VALUES (?, ?)", [(one.id, text_of(one)) for one in passages])
        database.commit()
        database.close()

    def open(self) -> None:
        self.database = sqlite3.connect(self.place / "passages.db")

    def query(self, question: str, vector: list[float], limit: int = TOP) -> list[str]:  # noqa: ARG002 - the contenders'
        asked = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        statement = "SELECT id FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?"
        return [id_ for (id_,) in self.database.execute(statement, (asked, limit))] if asked else []

    def close(self) -> None:
        self.database.close()


CONTENDERS: dict[str, type[Contender]] = {
    "ours": Ours,
    "ours, ranked": OursRanked,
    "ours, hybrid": OursHybrid,
    "engine": Engine,
    "qdrant local": QdrantLocal,
    "qdrant local, hybrid": QdrantLocalHybrid,
    "qdrant BM25": QdrantBm25,
    "LangChain": LangChain,
    "LlamaIndex": LlamaIndex,
    "bm25s": Bm25s,
    "FTS5": Fts5,
}
