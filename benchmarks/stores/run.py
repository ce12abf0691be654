"""Measures what threads cost in Postgres, in SQLite and in memory, against the floor and other ways, in one run.

    python benchmarks/stores/run.py [--quick] [--json FILE] [--only postgres sqlite memory]

Rounds go through all contenders in turn; a figure is the median over the rounds.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "streaming"))  # the sample store is measured there too
sys.path.append(str(Path(__file__).parents[2] / "tests"))  # flights are counted there too

import contenders as postgres
import files
import memory
from data import PLACES, WRITTEN, answer, fill
from database import database
from figures import Figures, measure, table

from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.postgres import PostgresStore
from postgres_proxy import proxy_before

POSTGRES: dict[str, Callable[[str], postgres.Contender]] = {
    "floor": postgres.Floor,
    "ours": postgres.Ours,
    "defaults": postgres.Defaults,
    "first": postgres.FirstSystems,
}
SQLITE: dict[str, Callable[[Path], files.FileContender]] = {
    "direct": files.Direct,
    "ours": files.Ours,
    "pooled": files.PooledDefault,
    "pooled-wal": files.PooledWal,
}
MANY = 32
"""The concurrency that stands for a busy worker."""
ROUND_TRIP = 0.005
PACKAGES = ("openai-chatkit", "sqlalchemy", "asyncpg", "aiosqlite", "pydantic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    rounds: int = 5
    seconds: float = 0.6
    """That each contender has for an operation, in each round."""
    threads: int = 100_000
    many: int = 100_000
    """Items of the longest thread."""
    turns: int = 30
    """With a round trip of 5 ms."""


QUICK = Plan(rounds=1, seconds=0.2, threads=10_000, many=10_000, turns=5)


def operations(contender: postgres.Contender) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What is measured of each contender."""

    def add() -> Awaitable[None]:
        thread_id = random.choice(WRITTEN)
        return contender.add(thread_id, answer(new_id("msg"), thread_id))

    return {
        "load_thread": lambda: contender.load_thread(random.choice(WRITTEN)),
        **{f"20 of {size} items": lambda id_=id_: contender.items(id_) for size, id_ in PLACES.items()},
        "20 of 1k threads": contender.threads,
        "add item": add,
        "turn": lambda: contender.turn(random.choice(WRITTEN)),
    }


async def measure_postgres(url: str, plan: Plan) -> Figures:
    figures = Figures()
    await _prepare(url, plan)
    made = {name: make(url) for name, make in POSTGRES.items()}
    todo = {name: operations(contender) for name, contender in made.items()}
    for name, contender in made.items():
        await contender.open()
        for call in todo[name].values():
            await measure(call, 0.05, concurrency=MANY)
    for number in range(plan.rounds):
        print(f"postgres: round {number + 1} of {plan.rounds}", file=sys.stderr)
        for operation in next(iter(todo.values())):
            for concurrency in (1, MANY):
                for name, calls in todo.items():
                    figures.note(
                        operation, name, **await measure(calls[operation], plan.seconds, concurrency=concurrency)
                    )
    for contender in made.values():
        await contender.close()
    print("postgres: flights, and a round trip of 5 ms", file=sys.stderr)
    await _count_flights(url, figures)
    await _measure_far_away(url, plan, figures)
    return figures


async def _prepare(url: str, plan: Plan) -> None:
    print(f"postgres: filling {plan.threads} threads", file=sys.stderr)
    store = PostgresStore(url)
    await store.migrate()
    await store.close()
    await fill(url, threads=plan.threads, many=plan.many)


async def _count_flights(url: str, figures: Figures) -> None:
    async with proxy_before(url) as proxy:
        for name, make in POSTGRES.items():
            contender = make(_without_libpq(proxy.url))
            await contender.open()
            for operation, call in operations(contender).items():
                for _ in range(12):  # so that every connection of the pool has prepared its statement
                    await asyncio.gather(*(call() for _ in range(postgres.POOL)))
                before = proxy.flights
                await call()
                figures.note(operation, name, flights=proxy.flights - before)
            await contender.close()


def _without_libpq(url: str) -> str:
    return url.replace("&gssencmode=disable", "")  # asyncpg takes it for a setting of the server's


async def _measure_far_away(url: str, plan: Plan, figures: Figures) -> None:
    async with proxy_before(url) as proxy:
        proxy.delay = ROUND_TRIP
        made = {name: make(_without_libpq(proxy.url)) for name, make in POSTGRES.items()}
        for contender in made.values():
            await contender.open()
            await asyncio.gather(*(contender.turn(random.choice(WRITTEN)) for _ in range(3 * postgres.POOL)))
        latencies: dict[str, list[float]] = defaultdict(list)
        for _ in range(plan.turns):
            for name, contender in made.items():
                before = time.perf_counter()
                await contender.turn(random.choice(WRITTEN))
                latencies[name].append(time.perf_counter() - before)
        for name, contender in made.items():
            figures.note("turn", name, far_ms=1e3 * statistics.median(latencies[name]))
            await contender.close()


def _addition(contender: files.FileContender) -> Callable[[], Awaitable[None]]:
    def add() -> Awaitable[None]:
        thread_id = random.choice(WRITTEN[:100])
        return contender.add(thread_id, answer(new_id("msg"), thread_id))

    return add


async def measure_sqlite(folder: Path, plan: Plan) -> Figures:
    figures = Figures()
    made = {name: make(folder) for name, make in SQLITE.items()}
    for contender in made.values():
        await contender.open()

    for number in range(plan.rounds):
        print(f"sqlite: round {number + 1} of {plan.rounds}", file=sys.stderr)
        for concurrency in (1, MANY):
            for name, contender in made.items():
                figures.note(
                    "add item", name, **await measure(_addition(contender), plan.seconds, concurrency=concurrency)
                )
        for concurrency in (1, MANY):
            for name, contender in made.items():
                page = lambda contender=contender: contender.items(WRITTEN[0])  # noqa: E731 - bound now
                figures.note("20 items", name, **await measure(page, plan.seconds, concurrency=concurrency))
    for name, contender in made.items():
        if isinstance(contender, files.PooledDefault):
            figures.note("add item", name, refused=contender.refused)
        await contender.close()
    return figures


async def measure_memory(plan: Plan) -> Figures:
    figures = Figures()
    stores = {size: await memory.stores(min(count, plan.many)) for size, count in memory.SIZES.items()}
    for number in range(plan.rounds):
        print(f"memory: round {number + 1} of {plan.rounds}", file=sys.stderr)
        for size, both in stores.items():
            for name, (store, context) in both.items():
                cost = await memory.page_cost(store, context, plan.seconds / 3)
                figures.note(f"20 of {size} items", name, cpu_us=cost)
    return figures


COLUMNS = {
    "p50_ms_c1": "p50 ms, c1",
    f"per_second_c{MANY}": f"a second, c{MANY}",
    f"cpu_us_c{MANY}": f"CPU us, c{MANY}",
    "flights": "flights",
    "far_ms": "ms at a round trip of 5 ms",
    "refused": "given up",
    "cpu_us": "CPU us",
}
BUSY = f"per_second_c{MANY}"


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that is promised, and what it came to."""

    says: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def kept(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{'kept  ' if self.kept else 'missed'} {self.says}: {self.value:.2f} ({bound})"


def bounds(measured: dict[str, Figures]) -> list[Bound]:
    """What the stores promise, of what was measured."""
    found: list[Bound] = []
    if figures := measured.get("postgres"):

        def times(operation: str, of: str) -> float:
            return figures.ratio(BUSY, (operation, "ours"), (operation, of))

        def growth(size: str) -> float:
            return figures.ratio("p50_ms_c1", ("20 of 100k items", "ours"), (f"20 of {size} items", "ours"))

        page = "20 of 1k items"
        found += [
            Bound("Postgres, load_thread against the floor", times("load_thread", "floor"), at_least=0.5),
            Bound("Postgres, page of 20 against the floor", times(page, "floor"), at_least=0.65),
            Bound("Postgres, load_thread against the first systems", times("load_thread", "first"), at_least=2.5),
            Bound("Postgres, page of 20 against the first systems", times(page, "first"), at_least=3.5),
            Bound("Postgres, flights of a turn", figures.median("turn", "ours", "flights"), at_most=2),
            Bound("Postgres, page of 20 of 100k items against 1k", growth("1k"), at_most=1.25),
            Bound("Postgres, page of 20 of 100k items against 10, which are half a page", growth("10"), at_most=2),
        ]
    if figures := measured.get("sqlite"):
        faster = figures.ratio(BUSY, ("add item", "ours"), ("add item", "pooled"))
        found.append(Bound("SQLite, adds against SQLAlchemy's pool", faster, at_least=15))
    if figures := measured.get("memory"):
        growth = figures.ratio("cpu_us", ("20 of 100k items", "ours"), ("20 of 10 items", "ours"))
        found.append(Bound("memory, page of 20 of 100k items against 10", growth, at_most=10))
    return found


async def measure_all(parts: list[str], plan: Plan) -> dict[str, Figures]:
    measured: dict[str, Figures] = {}
    if "memory" in parts:
        measured["memory"] = await measure_memory(plan)
    if "sqlite" in parts:
        with tempfile.TemporaryDirectory(prefix="chatkit-rag-benchmark-") as folder:
            measured["sqlite"] = await measure_sqlite(Path(folder), plan)
    if "postgres" in parts:
        with database() as url:
            measured["postgres"] = await measure_postgres(url, plan)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what threads cost in each of the stores.")
    parts = ["postgres", "sqlite", "memory"]
    parser.add_argument("--quick", action="store_true", help="one short round over a tenth of the data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--only", nargs="+", choices=parts, metavar="STORE", help=", ".join(parts))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C: no server is left behind
    measured = asyncio.run(measure_all(options.only or parts, QUICK if options.quick else Plan()))
    for part, base in (("postgres", "floor"), ("sqlite", "direct"), ("memory", "sample")):
        if figures := measured.get(part):
            print(f"\n{part}, against {base}\n\n{table(figures, COLUMNS, base)}")
    promised = bounds(measured)
    print("\n" + "\n".join(map(str, promised)))
    around = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    around |= {package: version(package) for package in PACKAGES}
    print("\n" + ", ".join(f"{name} {value}" for name, value in around.items()))
    if options.json:
        document = {
            "surroundings": around,
            "bounds": [{"says": bound.says, "value": bound.value, "kept": bound.kept} for bound in promised],
            "medians": {part: figures.medians() for part, figures in measured.items()},
            "rounds": {part: figures.values for part, figures in measured.items()},
        }
        options.json.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
