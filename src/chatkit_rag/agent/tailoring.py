"""The agent of one turn: the server's, as the site and the reader's choices want it."""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents import Agent, RunContextWrapper
from chatkit.types import UserMessageItem

from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.context import TurnContext
from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.context import RequestContext
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.sites import ExercisePolicy, Site

Instructions = str | Callable[[RunContextWrapper[TurnContext], Agent[TurnContext]], str | Awaitable[str]]
"""A text, or a function that makes one for each run, as the Agents SDK takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a reader may choose, by the names that their browser sends: it cannot add to them."""

    models: Mapping[str, ChosenModel] = field(default_factory=dict[str, ChosenModel])
    tools: frozenset[str] = frozenset()


def as_chosen(
    agent: Agent[TurnContext], site: Site, asked: Sequence[UserMessageItem], choices: Choices
) -> Agent[TurnContext]:
    """`agent` with the model and the tool that the newest message asks for, else with the site's model."""
    chosen = asked[0].inference_options if asked else None
    wanted = ((chosen.model if chosen else None) or "", site.model)
    model = next((choices.models[name].model for name in wanted if name in choices.models), None)
    tool = chosen.tool_choice.id if chosen and chosen.tool_choice else ""
    changes: dict[str, Any] = {"model": model} if model is not None else {}
    if tool in choices.tools:
        changes["model_settings"] = replace(agent.model_settings, tool_choice=tool)
    return changed(agent, **changes) if changes else agent


def told_besides(agent: Agent[TurnContext], more: str) -> Agent[TurnContext]:
    """`agent`, with `more` behind its instructions."""
    return changed(agent, instructions=_extended(agent.instructions, more)) if more else agent


def exercise_of(site: Site, context: RequestContext, found: Retrieved) -> ExercisePolicy:
    """The policy for a question: that of the open page, else that of the page that fits best."""
    policy = site.exercise_at(context.page.path) if context.page else "full"
    return site.exercise_at(found.hits[0].passage.path) if policy == "full" and found.hits else policy


def declines(site: Site, agent: Agent[TurnContext]) -> bool:
    """Whether a question that the course does not cover is declined; without a language model it always is."""
    return site.off_topic == "decline" or isinstance(agent.model, ExtractiveModel)


def _extended(instructions: Instructions | None, more: str) -> Instructions:
    if instructions is None or isinstance(instructions, str):
        return f"{instructions or ''}{more}"

    async def extended(context: RunContextWrapper[TurnContext], agent: Agent[TurnContext]) -> str:
        text = instructions(context, agent)
        return f"{await text if inspect.isawaitable(text) else text}{more}"

    return extended
