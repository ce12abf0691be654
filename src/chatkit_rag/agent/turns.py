"""How often a model is asked for one answer, and how it comes to its end: the last time, it may call nothing.

So a model that would go on searching says what it has found, and an answer never costs more requests than its budget.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from agents import Agent, ModelSettings, RunConfig, Runner, RunResultStreaming, StreamEvent, TResponseInputItem
from agents.exceptions import MaxTurnsExceeded

from chatkit_rag.agent.changed import changed
from chatkit_rag.agent.context import TurnContext

_MAX_TURNS = 6
"""How often the model is asked for one answer, where its site says nothing else."""


def most_turns(turn: TurnContext) -> int:
    """How often the model may be asked for the turn's answer."""
    return turn.budget.max_turns or _MAX_TURNS


def budgeted(turn: TurnContext) -> ModelSettings | None:
    """What the turn's budget says to the model, in place of an agent's own settings; None where it says nothing."""
    most = turn.budget.max_tokens
    return None if most is None else ModelSettings(max_tokens=most)


def budgeted_last(agent: Agent[TurnContext], turn: TurnContext) -> ModelSettings | None:
    """The same for the last time that `agent`'s model is asked."""
    settings = budgeted(turn)
    if not (agent.tools or agent.handoffs or agent.mcp_servers):
        return settings  # servers refuse a choice where there is nothing to choose from
    return replace(settings or ModelSettings(), tool_choice="none")


class Runs:
    """The runs of one answer: one for all requests but the last, and one for that, where it comes to that."""

    def __init__(
        self, agent: Agent[TurnContext], conversation: Sequence[TResponseInputItem], turn: TurnContext
    ) -> None:
        """Nothing runs before `happenings` is read."""
        self._agent = agent
        self._conversation = list(conversation)
        self._turn = turn
        self._run: RunResultStreaming | None = None

    async def happenings(self) -> AsyncGenerator[StreamEvent, None]:
        """What happens in them, in its order.

        Raises:
            AgentsException: the SDK's, where there is no answer; what the model raises.
        """
        agent, conversation, before = self._agent, self._conversation, most_turns(self._turn) - 1
        if before:
            run = self._begin(agent, conversation, before, budgeted(self._turn))
            try:
                async with aclosing(_events(run)) as events:
                    async for event in events:
                        yield event
            except MaxTurnsExceeded:
                if run.current_turn <= before:  # an agent's that is a tool of this one
                    raise
            else:
                return
            agent = changed(run.last_agent, input_guardrails=[])  # they have seen the question
            conversation = run.to_input_list(mode="normalized")
        run = self._begin(agent, conversation, 1, budgeted_last(agent, self._turn))
        async with aclosing(_events(run)) as events:
            async for event in events:
                yield event

    def stop(self) -> None:
        """Stops what still runs: it would go on to its end, and be paid for. Returns at once."""
        if self._run is not None:
            self._run.cancel(mode="immediate")

    def _begin(
        self,
        agent: Agent[TurnContext],
        conversation: list[TResponseInputItem],
        most: int,
        settings: ModelSettings | None,
    ) -> RunResultStreaming:
        self._run = Runner.run_streamed(
            agent,
            conversation,
            context=self._turn,
            max_turns=most,
            # Goes before what the agent has, and before what the agents have that it hands over to.
            run_config=RunConfig(tracing_disabled=True, model_settings=settings),
        )
        return self._run


def _events(run: RunResultStreaming) -> AsyncGenerator[StreamEvent, None]:
    # An async generator, whatever the SDK's annotation says.
    return cast("AsyncGenerator[StreamEvent, None]", run.stream_events())
