"""What the two SDKs leave running of a stopped turn is stopped, and nothing else."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from chatkit.server import stream_widget
from chatkit.types import ThreadMetadata
from chatkit.widgets import Card, WidgetRoot

from chatkit_rag.asgi.mailbox import Mailbox
from chatkit_rag.context import utc_now
from chatkit_rag.protocol.leftovers import mark, stop_leftovers

pytestmark = pytest.mark.anyio

THREAD = ThreadMetadata(id="thr_1", created_at=utc_now())


async def silent() -> AsyncGenerator[WidgetRoot, None]:
    await asyncio.Event().wait()
    yield Card(children=[])


def waiting_in_chatkit() -> "asyncio.Task[object]":
    """A task that waits in ChatKit's code for what never comes, as its streams do when nobody reads them."""
    return asyncio.ensure_future(anext(stream_widget(THREAD, silent())))


async def test_tasks_of_the_sdks_that_a_turn_has_made_are_stopped():
    turn = object()
    mark(turn)
    left = waiting_in_chatkit()
    await asyncio.sleep(0)

    await stop_leftovers(turn)

    assert left.cancelled()


async def test_those_of_another_turn_go_on():
    mark(object())
    others = waiting_in_chatkit()
    await asyncio.sleep(0)

    await stop_leftovers(object())

    assert not others.done()
    others.cancel()


async def test_a_task_of_this_package_goes_on():
    turn = object()
    mark(turn)
    own = asyncio.ensure_future(Mailbox(1).take())
    await asyncio.sleep(0)

    await stop_leftovers(turn)

    assert not own.done()
    own.cancel()
