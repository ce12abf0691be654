"""The OpenAI path, up to a model server that is not OpenAI's."""

from agents import OpenAIResponsesModel
from openai import AsyncOpenAI

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.testing import FakeModelServer


def model_at(model: FakeModelServer) -> ChosenModel:
    """A model behind `model`'s interface; what fails is not tried again, so that each fault is met once."""
    client = AsyncOpenAI(api_key="test", base_url=model.base_url, max_retries=0)
    return ChosenModel(model=OpenAIResponsesModel("fake", client), label="fake", costs_money=False, client=client)
