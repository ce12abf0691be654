"""Actors that take their steps in a given order: every await at which something could come in between."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from itertools import combinations
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

_ACTOR: ContextVar[str] = ContextVar("actor", default="")


def orders(*actors: tuple[str, int]) -> Iterator[str]:
    """All orders in which actors (a letter, and how many steps) can take their steps."""
    (name, steps), *others = actors
    if not others:
        yield name * steps
        return
    for rest in orders(*others):
        length = len(rest) + steps
        for places in combinations(range(length), steps):
            left = iter(rest)
            yield "".join(name if place in places else next(left) for place in range(length))


class Stage:
    """Holds each actor before each of its steps, until it is its turn."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._moved = asyncio.Event()

    async def step(self) -> None:
        """Called before a step."""
        if actor := _ACTOR.get():
            self._waiting[actor] = asyncio.Event()
            self._moved.set()
            await self._waiting[actor].wait()

    async def play(self, order: str, **actors: Callable[[], Awaitable[Any]]) -> None:
        """Lets the actors take their steps in the order; those that are not through then stand where they are."""
        for name in order:
            if name not in self._tasks:
                self._tasks[name] = asyncio.ensure_future(self._act(name, actors[name]))
            await self._until_it_stands(name)
            if name in self._waiting:
                self._waiting.pop(name).set()
                await self._until_it_stands(name)

    async def end(self) -> list[Any]:
        """What the actors come to, when nothing holds them any more."""
        while pending := [task for task in self._tasks.values() if not task.done()]:
            for name in list(self._waiting):
                self._waiting.pop(name).set()
            self._moved.clear()
            moved = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait([*pending, moved], return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
        return [task.result() for task in self._tasks.values()]

    async def _act(self, name: str, actor: Callable[[], Awaitable[Any]]) -> Any:
        _ACTOR.set(name)
        try:
            return await actor()
        finally:
            self._moved.set()

    async def _until_it_stands(self, name: str) -> None:
        task = self._tasks[name]
        while name not in self._waiting and not task.done():
            self._moved.clear()
            moved = asyncio.ensure_future(self._moved.wait())
            await asyncio.wait([task, moved], return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()


class StagedRedis(Redis):
    """A client each of whose commands is a step."""

    stage: Stage

    @classmethod
    def at(cls, url: str) -> "StagedRedis":
        return cls.from_pool(BlockingConnectionPool.from_url(url))  # type: ignore[return-value]

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        await self.stage.step()
        return await super().execute_command(*arguments, **options)


class StagedStore:
    """A store each of whose operations is a step, and that knows what it held, and when."""

    def __init__(self, store: Any, stage: Stage) -> None:
        self._store = store
        self._stage = stage
        self.titles: list[str | None] = []

    async def load_thread(self, *arguments: Any) -> Any:
        await self._stage.step()
        return await self._store.load_thread(*arguments)

    async def save_thread(self, thread: Any, context: Any) -> None:
        await self._stage.step()
        await self._store.save_thread(thread, context)
        self.titles.append(thread.title)
