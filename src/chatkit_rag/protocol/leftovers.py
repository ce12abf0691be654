"""What ChatKit's and the Agents SDK's streaming leave running when nobody takes their events any more.

ChatKit's `stream_agent_response` neither stops the run whose events it translates, nor the tasks that wait for them
(`chatkit/agents.py`, `_merge_generators`): the model would write, and be paid for, to its end. Those tasks were
made in the turn's context, and by those two packages; that is how they are found here.
"""

import asyncio
import gc
import logging
import os
from contextvars import Context, ContextVar
from types import AsyncGeneratorType, CodeType, CoroutineType
from typing import Any

import agents
import chatkit

_log = logging.getLogger(__name__)

_TURN: ContextVar[object] = ContextVar("chatkit_rag_turn", default=None)
_PACKAGES = tuple(f"{path}{os.sep}" for package in (agents, chatkit) for path in package.__path__)
"""Their folders, to the end: this package's own may lie beside them, and its name begins with one of theirs."""
_PATIENCE = 2.0


def mark(turn: object) -> None:
    """Tasks that are made in this context from now on are `turn`'s."""
    if _TURN.get() is not turn:
        _TURN.set(turn)


async def stop_leftovers(turn: object) -> None:
    """Cancels what those packages left running of `turn`, and waits until it has ended."""
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and _is_left(task, turn)}
    for task in left:
        task.cancel()
    if left:
        ended, running = await asyncio.wait(left, timeout=_PATIENCE)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, so that asyncio does not report it as never looked at
        if running:
            _log.error("%d tasks of a stopped answer do not end", len(running))


def _is_left(task: "asyncio.Task[Any]", turn: object) -> bool:
    context = _context_of(task)
    code = _code_of(task.get_coro())
    return (
        context is not None
        and context.get(_TURN) is turn
        and code is not None
        and code.co_filename.startswith(_PACKAGES)
    )


def _code_of(work: Any) -> CodeType | None:
    if isinstance(work, CoroutineType):
        return work.cr_code
    # The next item of an async generator, which tells nothing about itself.
    held: list[Any] = [held for held in gc.get_referents(work) if isinstance(held, AsyncGeneratorType)]
    return held[0].ag_code if held else None


def _context_of(task: "asyncio.Task[Any]") -> Context | None:
    # `Task.get_context` is there from Python 3.12 on.
    return next((held for held in gc.get_referents(task) if isinstance(held, Context)), None)
