"""The OpenAI path, up to a model server that is not OpenAI's."""

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.chat_completions import ChatCompletionsModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.testing import FakeModelServer

INTERFACES = {"responses": ResponsesModel, "chat completions": ChatCompletionsModel}


def model_at(
    model: FakeModelServer, name: str = "fake", *, interface: str = "responses", patience: float = 30.0
) -> ChosenModel:
    """A model behind one of `model`'s interfaces; what fails is not tried again, so that each fault is met once."""
    options = ResponsesOptions(attempts=1, first_token_seconds=patience, idle_seconds=patience)
    way = INTERFACES[interface](name, api_key="test", base_url=model.base_url, options=options)
    return ChosenModel(model=way, label=name, costs_money=False, connection=way)
