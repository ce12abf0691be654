"""Which model answers."""

import pytest
from agents.testing import ScriptedModel

from chatkit_rag.agent.models import DEFAULT_OPENAI_MODEL, choose_model
from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.models.responses import ResponsesModel

pytestmark = pytest.mark.anyio

SERVER = "http://127.0.0.1:9/v1/"


@pytest.mark.parametrize(
    ("name", "key", "kind", "label", "costs_money"),
    [
        ("auto", None, ExtractiveModel, "extractive (no language model)", False),
        ("auto", "", ExtractiveModel, "extractive (no language model)", False),
        ("auto", "key", ResponsesModel, f"{DEFAULT_OPENAI_MODEL} (Responses)", True),
        ("extractive", "key", ExtractiveModel, "extractive (no language model)", False),
        ("gpt-5", "key", ResponsesModel, "gpt-5 (Responses)", True),
        ("chat:llama3", None, ChatCompletionsModel, "llama3 (Chat Completions)", True),
        ("chat:llama3", "key", ChatCompletionsModel, "llama3 (Chat Completions)", True),
        ("chat:org/model:7b", None, ChatCompletionsModel, "org/model:7b (Chat Completions)", True),
    ],
)
async def test_a_name_means_a_model(name: str, key: str | None, kind: type, label: str, *, costs_money: bool):
    chosen = choose_model(name, api_key=key, base_url=SERVER)

    assert type(chosen.model) is kind
    assert (chosen.label, chosen.costs_money) == (label, costs_money)
    if chosen.connection is not None:
        await chosen.connection.close()


@pytest.mark.parametrize(("model", "costs_money"), [(ExtractiveModel(), False), (ScriptedModel(), True)])
def test_a_ready_model_is_taken_as_it_is(model, *, costs_money: bool):
    chosen = choose_model(model)

    assert chosen.model is model
    assert (chosen.label, chosen.costs_money, chosen.connection) == (type(model).__name__, costs_money, None)
