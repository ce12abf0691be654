"""A contender in a process of its own, so that its memory is its own; it works only when it is told to."""

import multiprocessing
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from contenders import CONTENDERS
from passages import questions, recombined, vectors

_CONTEXT = multiprocessing.get_context("spawn")


def resident_mb() -> float:
    """What this process holds in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextmanager
def running(name: str, size: int) -> Generator[Connection]:
    """A process with the contender built over so many passages; it sends its figures first."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(name, size, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
        ours.send(None)
        process.join(60)
    finally:
        process.kill()
        process.join()


def _serve(name: str, size: int, pipe: Connection) -> None:
    passages = recombined(size)
    asked = questions(passages, 200)
    meanings = vectors(len(asked), seed=3)
    # On the small corpus first: what is imported and made once is no part of the figures.
    with tempfile.TemporaryDirectory() as folder:
        small = CONTENDERS[name](Path(folder))
        small.build(passages[:100])
        small.open()
        small.query(asked[0], meanings[0])
        small.close()
    with tempfile.TemporaryDirectory() as folder:
        contender = CONTENDERS[name](Path(folder))
        before = resident_mb()
        begun = time.perf_counter()
        contender.build(passages)
        built = time.perf_counter() - begun
        begun = time.perf_counter()
        contender.open()
        contender.query(asked[0], meanings[0])
        opened = time.perf_counter() - begun
        figures: dict[str, Any] = {"per_second": size / built, "build_s": built, "memory_mb": resident_mb() - before}
        if contender.opens:
            figures["open_ms"] = 1e3 * opened
        pipe.send(figures)
        position = 0
        while (seconds := pipe.recv()) is not None:
            latencies: list[float] = []
            end = time.perf_counter() + seconds
            while len(latencies) < 5 or (time.perf_counter() < end and len(latencies) < 5_000):
                number = position % len(asked)
                begun = time.perf_counter()
                contender.query(asked[number], meanings[number])
                latencies.append(time.perf_counter() - begun)
                position += 1
            latencies.sort()
            pipe.send(
                {
                    "p50_ms": 1e3 * latencies[len(latencies) // 2],
                    "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
                }
            )
        contender.close()
