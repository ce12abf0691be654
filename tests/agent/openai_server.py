"""The OpenAI path, up to a model server that is not OpenAI's."""

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.exchange import ResponsesOptions
from chatkit_rag.agent.models.responses import ResponsesModel
from chatkit_rag.testing import FakeModelServer


def model_at(model: FakeModelServer, name: str = "fake") -> ChosenModel:
    """A model behind `model`'s interface; what fails is not tried again, so that each fault is met once."""
    lean = ResponsesModel(name, api_key="test", base_url=model.base_url, options=ResponsesOptions(attempts=1))
    return ChosenModel(model=lean, label=name, costs_money=False, connection=lean)
