"""Which model answers: a name to something that can be run."""

from dataclasses import dataclass
from typing import Protocol

from agents import Model
from openai import AsyncOpenAI, OpenAIError

from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.errors import ConfigurationError, MissingExtra

DEFAULT_OPENAI_MODEL = "gpt-5-mini"
_CHAT_COMPLETIONS = "chat:"
_LITELLM = "litellm/"
_OPENAI = "openai/"


class Closes(Protocol):
    """Something that holds connections."""

    async def close(self) -> None:
        """Closes them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenModel:
    """A model, and what the operator should know of it."""

    model: Model
    label: str
    """For people: the name, and which interface it is spoken to by."""
    costs_money: bool
    connection: Closes | None = None
    """What has to be closed in the end."""


def choose_model(name: str | Model, *, api_key: str | None = None, base_url: str | None = None) -> ChosenModel:
    """The model that `name` means.

    `"auto"` is OpenAI's default where there is a key, else the extractive one; `"extractive"` needs neither key nor
    network; `"chat:NAME"` is any Chat Completions server at `base_url`, the key optional; `"litellm/MAKER/NAME"` is a
    model that LiteLLM knows, whose key it finds by itself; any other name is a model of OpenAI's Responses interface,
    at `base_url` where given. A ready `agents.Model` is taken as it is.

    Raises:
        ConfigurationError: the model needs a key, and there is none.
        MissingExtra: LiteLLM is not installed.
    """
    if isinstance(name, Model):
        return ChosenModel(model=name, label=type(name).__name__, costs_money=not isinstance(name, ExtractiveModel))
    if name == "auto":
        name = DEFAULT_OPENAI_MODEL if api_key else "extractive"
    if name == "extractive":
        return ChosenModel(model=ExtractiveModel(), label="extractive (no language model)", costs_money=False)
    if name.startswith(_CHAT_COMPLETIONS):
        # Many compatible servers want no key; the client insists on some text.
        name = name.removeprefix(_CHAT_COMPLETIONS)
        chat = ChatCompletionsModel(name, api_key=api_key or "none", base_url=base_url)
        return ChosenModel(model=chat, label=f"{name} (Chat Completions)", costs_money=True, connection=chat)
    if name.startswith(_LITELLM):
        return _through_litellm(name.removeprefix(_LITELLM), api_key, base_url)
    try:
        # Makes no connection: it looks for the key and the address where everybody's programs have them.
        client = AsyncOpenAI(api_key=api_key, base_url=base_url)
    except OpenAIError as exc:
        raise ConfigurationError(
            f"the model {name} needs an API key: set OPENAI_API_KEY, or choose `extractive`, which needs none"
        ) from exc
    model = ResponsesModel(name, api_key=client.api_key, base_url=str(client.base_url))
    return ChosenModel(model=model, label=f"{name} (Responses)", costs_money=True, connection=model)


def _through_litellm(name: str, api_key: str | None, base_url: str | None) -> ChosenModel:
    try:
        from agents.extensions.models.litellm_model import LitellmModel
    except ImportError as exc:
        raise MissingExtra("a model of LiteLLM's", "litellm") from exc
    # Key and address are OpenAI's: another maker gets neither, but has its own in LiteLLM's variables.
    model = LitellmModel(name, base_url, api_key) if name.startswith(_OPENAI) else LitellmModel(name)
    return ChosenModel(model=model, label=f"{name} (LiteLLM)", costs_money=True)
