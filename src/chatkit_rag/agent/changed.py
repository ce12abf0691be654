"""An agent like another, for one turn."""

from copy import copy
from typing import Any

from agents import Agent, Model

from chatkit_rag.agent.context import TurnContext


def changed(agent: Agent[TurnContext], **fields: Any) -> Agent[TurnContext]:
    """`agent` with other `fields`, as its own `clone` makes it, which looks at every field again.

    Lists that are not among `fields` are those of `agent`.
    """
    if "model" in fields and not isinstance(agent.model, Model):
        return agent.clone(**fields)  # settings that came with the model's name go with it
    other = copy(agent)
    for name, value in fields.items():
        setattr(other, name, value)
    return other
