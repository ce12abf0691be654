"""An agent like another, for one turn."""

from typing import Any

import pytest
from agents import Agent, ModelSettings

from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.agent.tools import search_tool
from chatkit_rag.retrieval.memory import MemoryIndex
from chatkit_rag.sources.course import CourseSource

FIELDS: list[dict[str, Any]] = [
    {"instructions": "Be short."},
    {"tools": [search_tool(CourseSource(MemoryIndex()))]},
    {"model": ExtractiveModel()},
    {"model": ExtractiveModel(), "model_settings": ModelSettings(tool_choice="none")},
]


@pytest.mark.parametrize("fields", FIELDS, ids=[" and ".join(fields) for fields in FIELDS])
@pytest.mark.parametrize("model", ["gpt-5-mini", ExtractiveModel()], ids=["named", "ready"])
def test_it_is_what_the_sdk_would_make_and_the_other_stays(model: Any, fields: dict[str, Any]):
    agent = Agent[Any](name="A", instructions="Be long.", model=model)
    before = agent.clone()

    other = changed(agent, **fields)

    assert other == agent.clone(**fields)
    assert agent == before != other
