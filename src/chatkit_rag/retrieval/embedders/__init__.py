"""Which embedder is meant: a name to something that embeds."""

from dataclasses import dataclass

from chatkit_rag.errors import ConfigurationError
from chatkit_rag.retrieval.embedding import Embedder

NONE = "none"
_ADVICE = "an embedder is none, openai:NAME, fastembed:NAME or cohere:NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEmbedder:
    """An embedder, or none, and what the operator should know of it."""

    embedder: Embedder | None
    label: str
    """For people: the name, and what it costs."""


def choose_embedder(
    name: str, *, openai_api_key: str = "", openai_base_url: str = "", cohere_api_key: str = ""
) -> ChosenEmbedder:
    """The embedder that `name` means: `none`, or `openai:`, `fastembed:` or `cohere:` and a model's name.

    `openai:` is any server of its interface at `openai_base_url`, the key then optional; `fastembed:` also takes the
    path of a folder that holds a model.

    Raises:
        ConfigurationError: the name means none of these, or a key is missing.
        MissingExtra: what the embedder needs is not installed.
    """
    kind, _, model = name.partition(":")
    if name == NONE:
        return ChosenEmbedder(embedder=None, label="none")
    if not model:
        raise ConfigurationError(f"there is no embedder {name!r}: {_ADVICE}")
    if kind == "openai":
        from chatkit_rag.retrieval.embedders.openai_interface import OPENAI, OpenAIEmbedder

        if not openai_api_key and not openai_base_url:
            raise ConfigurationError(f"the embedder {name} needs OPENAI_API_KEY, or OPENAI_BASE_URL of another server")
        embedder = OpenAIEmbedder(model, api_key=openai_api_key, base_url=openai_base_url or OPENAI)
        return ChosenEmbedder(embedder=embedder, label=f"{name}; passages and questions are charged by its server")
    if kind == "fastembed":
        from chatkit_rag.retrieval.embedders.local import FastEmbedEmbedder

        return ChosenEmbedder(embedder=FastEmbedEmbedder(model), label=f"{name}; runs here and costs nothing")
    if kind == "cohere":
        from chatkit_rag.retrieval.embedders.cohere_service import CohereEmbedder

        if not cohere_api_key:
            raise ConfigurationError(f"the embedder {name} needs COHERE_API_KEY")
        embedder = CohereEmbedder(model, api_key=cohere_api_key)
        return ChosenEmbedder(embedder=embedder, label=f"{name}; passages and questions are charged by Cohere")
    raise ConfigurationError(f"there is no embedder {name!r}: {_ADVICE}")
