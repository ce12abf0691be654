"""How long the event loop of a server stands still while another generation is built in its data directory."""

import asyncio
import gc
import multiprocessing
import tempfile
import time
from collections.abc import Coroutine
from itertools import cycle
from typing import Any

from passages import questions, recombined

from chatkit_rag.documents import Passage
from chatkit_rag.retrieval.edge import EdgeIndex

_CONTEXT = multiprocessing.get_context("spawn")
_BEAT = 0.001


def pauses(size: int) -> dict[str, float]:
    """The longest pause in ms: left alone, while another process builds, and while this one does.

    A beat each millisecond, a question every twenty beats; a pause is what a beat comes late. The machine's own
    scheduling is in it, which is what `alone` is for.
    """
    passages = recombined(size)
    return asyncio.run(_pauses(passages, questions(passages, 200)))


async def _pauses(passages: list[Passage], asked: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with EdgeIndex(folder) as index:
            await index.publish([], passages)
            for question in asked:
                await index.search(question)
            gc.freeze()  # as `serve` does when it starts
            found = {"alone": await _longest(index, asked, asyncio.sleep(2))}
            builder = _CONTEXT.Process(target=_build, args=(folder, len(passages)))
            builder.start()
            found["another process builds"] = await _longest(index, asked, asyncio.to_thread(builder.join))
            found["this process builds"] = await _longest(index, asked, index.publish([], passages))
    return found


async def _longest(index: EdgeIndex, asked: list[str], work: Coroutine[Any, Any, Any]) -> float:
    async def ask() -> None:
        for question in cycle(asked):
            await index.search(question)  # waits for a new generation, while the loop goes on
            await asyncio.sleep(20 * _BEAT)

    asking = asyncio.ensure_future(ask())
    working = asyncio.ensure_future(work)
    longest = 0.0
    while not working.done():
        begun = time.perf_counter()
        await asyncio.sleep(_BEAT)
        longest = max(longest, time.perf_counter() - begun - _BEAT)
    await working
    asking.cancel()
    await asyncio.wait({asking})
    return 1e3 * longest


def _build(folder: str, size: int) -> None:
    passages = recombined(size, seed=9)

    async def build() -> None:
        async with EdgeIndex(folder) as index:
            await index.publish([], passages)

    asyncio.run(build())
