"""`FastEmbedEmbedder` and `FastEmbedReranker`: models that run in this process, by ONNX (extra `fastembed`).

A model comes from the hub, once, or from a folder that the operator put in place.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from chatkit_rag.documents import Passage
from chatkit_rag.errors import ConfigurationError, EmbeddingFailed, MissingExtra, RerankingFailed
from chatkit_rag.retrieval.embedding import Vector, check_vectors, passage_text

try:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    # FastEmbed says that it is typed, and this folder of it lacks the mark.
    from fastembed.rerank.cross_encoder import TextCrossEncoder  # pyright: ignore[reportMissingTypeStubs]
    from huggingface_hub import constants
except ImportError as exc:
    raise MissingExtra("FastEmbed", "fastembed") from exc

_HUB_SECONDS = 0.8
"""To find out whether the hub can be reached: FastEmbed itself tries for 39 seconds, and then says little."""

_BATCH = 32
_Model = TypeVar("_Model", TextEmbedding, TextCrossEncoder)
_Result = TypeVar("_Result")


class FastEmbedEmbedder:
    """An `Embedder` in this process. Computes in a thread of its own, outside Python's lock."""

    def __init__(self, model: str, *, cache_dir: str | Path | None = None, threads: int | None = None) -> None:
        """An embedder of `model`: a name that FastEmbed knows, or the path of a folder with an ONNX model.

        Args:
            model: the name, or the folder, as sentence-transformers lay one out.
            cache_dir: where models from the hub are kept; None for FastEmbed's own place.
            threads: how many the model may use; None for all cores.

        Raises:
            ConfigurationError: there is no such model, or the folder holds none.
        """
        self._name = model
        self._worker = _Worker()
        self._model: TextEmbedding | None = None
        self._arguments: dict[str, Any] = {"cache_dir": str(cache_dir) if cache_dir else None, "threads": threads}
        if Path(model).is_dir():
            folder = Path(model).resolve()
            self._known_as = f"local/{folder}"
            self._dimension = _register(folder, self._known_as)
            self._arguments |= {"specific_model_path": str(folder)}
        else:
            self._known_as = model
            try:
                self._dimension = TextEmbedding.get_embedding_size(model)
            except ValueError as exc:
                raise ConfigurationError(
                    f"FastEmbed knows no model {model!r}, and there is no such folder: "
                    "see qdrant.github.io/fastembed/examples/Supported_Models, or give the path of an ONNX model"
                ) from exc

    @property
    def signature(self) -> str:
        """See `Embedder.signature`."""
        return f"fastembed:{self._name}"

    @property
    def dimension(self) -> int:
        """See `Embedder.dimension`."""
        return self._dimension

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder.embed_documents`.

        Raises:
            ConfigurationError: the model is not there, and the hub is not within reach; after a second.
        """
        vectors: list[Vector] = []
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            vectors += await self._worker.run(partial(self._embed, TextEmbedding.passage_embed, batch))
        return vectors

    async def embed_query(self, text: str) -> Vector:
        """See `Embedder.embed_query`. Raises ConfigurationError as `embed_documents` does."""
        [vector] = await self._worker.run(partial(self._embed, TextEmbedding.query_embed, [text]))
        return vector

    async def close(self) -> None:
        """Ends the thread, and forgets the model."""
        self._worker.close()
        self._model = None

    def _embed(self, act: Callable[[TextEmbedding, list[str]], Iterable[Any]], texts: list[str]) -> list[Vector]:
        if self._model is None:
            self._model = _load(TextEmbedding, self._known_as, self._arguments)
        try:
            vectors: list[Vector] = [array.tolist() for array in act(self._model, texts)]
        except Exception as exc:  # the runtime's errors have no class in common
            raise EmbeddingFailed(f"the model {self._name} failed: {exc}") from exc
        check_vectors(vectors, count=len(texts), dimension=self._dimension, who=f"the model {self._name}")
        return vectors


class FastEmbedReranker:
    """A `Reranker` in this process: a cross-encoder, which reads question and passage together."""

    def __init__(self, model: str, *, cache_dir: str | Path | None = None, threads: int | None = None) -> None:
        """A reranker of `model`, as `FastEmbedEmbedder` takes it."""
        self._name = model
        self._worker = _Worker()
        self._model: TextCrossEncoder | None = None
        self._arguments: dict[str, Any] = {"cache_dir": str(cache_dir) if cache_dir else None, "threads": threads}
        if Path(model).is_dir():
            folder = Path(model).resolve()
            self._known_as = f"local/{folder}"
            known = [described["model"] for described in TextCrossEncoder.list_supported_models()]
            if self._known_as not in known:
                TextCrossEncoder.add_custom_model(
                    model=self._known_as, sources=_NOWHERE, model_file=_model_file(folder)
                )
            self._arguments |= {"specific_model_path": str(folder)}
        else:
            self._known_as = model

    async def rerank(self, question: str, passages: Sequence[Passage]) -> list[float]:
        """See `Reranker.rerank`."""
        return await self._worker.run(partial(self._score, question, [passage_text(passage) for passage in passages]))

    async def close(self) -> None:
        """Ends the thread, and forgets the model."""
        self._worker.close()
        self._model = None

    def _score(self, question: str, texts: list[str]) -> list[float]:
        if self._model is None:
            self._model = _load(TextCrossEncoder, self._known_as, self._arguments)
        try:
            return [float(score) for score in self._model.rerank(question, texts)]
        except Exception as exc:  # the runtime's errors have no class in common
            raise RerankingFailed(f"the model {self._name} failed: {exc}") from exc


class _Worker:
    """A thread that is there while it is needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: "partial[_Result]") -> _Result:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-model")
        return await asyncio.wrap_future(self._pool.submit(work))

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)


_NOWHERE = ModelSource(url="http://unused.invalid")
"""FastEmbed wants a source of every model, also of one that is there already."""


def _load(kind: type[_Model], name: str, arguments: dict[str, Any]) -> _Model:
    try:
        return kind(name, local_files_only=True, **arguments)
    except Exception as exc:  # whatever it is, the model is not here yet, or not whole
        if "specific_model_path" in arguments:
            raise ConfigurationError(
                f"the model in {arguments['specific_model_path']} cannot be loaded: {exc}"
            ) from exc
    _check_hub(name)
    try:
        return kind(name, **arguments)
    except Exception as exc:
        raise ConfigurationError(f"the model {name} cannot be loaded: {exc}") from exc


def _check_hub(name: str) -> None:
    hub = urlsplit(constants.ENDPOINT)
    advice = (
        f"the model {name} is not on this machine, and {hub.hostname} cannot be reached: connect once, or give the "
        "path of a folder that holds the model (fastembed:/path/to/model)"
    )
    if constants.HF_HUB_OFFLINE:
        raise ConfigurationError(f"{advice}; HF_HUB_OFFLINE is set")
    try:
        address = (hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443))
        socket.create_connection(address, timeout=_HUB_SECONDS).close()
    except OSError as exc:
        raise ConfigurationError(advice) from exc


def _register(folder: Path, name: str) -> int:
    """Makes FastEmbed know the model in `folder` as `name`; returns the dimension of its vectors."""
    try:
        dimension = int(orjson.loads((folder / "config.json").read_bytes())["hidden_size"])
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"{folder} holds no model: config.json with its hidden_size is missing") from exc
    if name not in [described["model"] for described in TextEmbedding.list_supported_models()]:
        TextEmbedding.add_custom_model(
            model=name,
            pooling=_pooling(folder),
            normalization=True,
            sources=_NOWHERE,
            dim=dimension,
            model_file=_model_file(folder),
        )
    return dimension


def _pooling(folder: Path) -> PoolingType:
    """As sentence-transformers note it beside the model; the mean of all words, where they do not."""
    try:
        noted = orjson.loads((folder / "1_Pooling" / "config.json").read_bytes())
        return PoolingType.CLS if noted.get("pooling_mode_cls_token") else PoolingType.MEAN
    except (OSError, ValueError):
        return PoolingType.MEAN


def _model_file(folder: Path) -> str:
    for place in ("model.onnx", "onnx/model.onnx", "model_optimized.onnx", "onnx/model_quantized.onnx"):
        if (folder / place).is_file():
            return place
    raise ConfigurationError(f"{folder} holds no model.onnx")
