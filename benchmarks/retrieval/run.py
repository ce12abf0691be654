"""Measures what search finds and what it costs, ours against the others, in one run.

python benchmarks/retrieval/run.py [--quick] [--eval FOLDER ...] [--json FILE] [--only NAME ...] [--sizes 1000 10000]

Rounds go through all contenders in turn; a figure is the median over the rounds.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "stores"))  # figures and their table are the same

import quality
from contenders import CONTENDERS
from figures import Figures, table
from loop import pauses
from process import running

NEEDS = {
    "qdrant local": "qdrant_client",
    "qdrant local, hybrid": "qdrant_client",
    "qdrant BM25": "llama_index",
    "LangChain": "langchain_community",
    "LlamaIndex": "llama_index",
    "bm25s": "bm25s",
}
PACKAGES = (
    *(
        "qdrant-edge-py",
        "qdrant-client",
        "fastembed",
        "langchain-community",
        "rank-bm25",
        "llama-index-retrievers-bm25",
        "bm25s",
    ),
)
COLUMNS = {
    "per_second": "passages indexed a second",
    "build_s": "built in s",
    "open_ms": "opened and asked once, ms",
    "memory_mb": "memory, MB",
    "p50_ms": "question p50, ms",
    "p99_ms": "question p99, ms",
}
PAUSE = 20.0
"""Milliseconds that the event loop may stand still."""


def speed(names: list[str], sizes: list[int], rounds: int, seconds: float) -> Figures:
    figures = Figures()
    for size in sizes:
        with ExitStack() as stack:
            processes = {}
            for name in names:
                print(f"{size} passages: {name} is built", file=sys.stderr)
                processes[name] = stack.enter_context(running(name, size))
                figures.note(f"{size}", name, **processes[name].recv())
            for _ in range(rounds):
                for name, process in processes.items():
                    process.send(seconds)
                    figures.note(f"{size}", name, **process.recv())
    return figures


def promises(figures: Figures, blocked: dict[str, float]) -> list[tuple[str, float, bool]]:
    """What is promised of speed, what this run measured, and whether it was kept."""
    found: list[tuple[str, float, bool]] = []

    def at_most(what: str, size: str, name: str, measure: str, bound: float) -> None:
        if measure in figures.values.get(size, {}).get(name, {}):
            value = figures.median(size, name, measure)
            found.append((f"{what}: at most {bound:g}", value, value <= bound))

    at_most("10,000 passages indexed, s", "10000", "ours", "build_s", 1.0)
    at_most("question by words, 10,000 passages, p50 in ms", "10000", "ours", "p50_ms", 0.3)
    at_most("question by both, 10,000 passages, p50 in ms", "10000", "ours, hybrid", "p50_ms", 1.0)
    at_most("question by both, 50,000 passages, p50 in ms", "50000", "ours, hybrid", "p50_ms", 5.0)
    for size in ("10000", "50000"):
        for name, other in (("ours", "qdrant local"), ("ours, hybrid", "qdrant local, hybrid")):
            if {name, other} <= set(figures.values.get(size, {})):
                ratio = figures.ratio("p50_ms", (size, other), (size, name))
                found.append(
                    (f"{other} takes so many times as long as {name}, {size}: at least 200", ratio, ratio >= 200)
                )
    for what, pause in blocked.items():
        if what != "alone":
            found.append((f"the loop stands still while {what}, ms: at most {PAUSE:g}", pause, pause <= PAUSE))
    return found


def table_of_quality(rows: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(rows.values())))
    lines = [["", *names], *([row, *(f"{rows[row][name]:.3f}" for name in names)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not there"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round over few passages")
    parser.add_argument("--eval", type=Path, nargs="*", default=[], help="collections in BEIR's format")
    parser.add_argument("--sizes", type=int, nargs="*", help="passages of the large corpus; none for no speed")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path, help="where the figures are written")
    given = parser.parse_args()
    names = [name for name in given.only if importlib.util.find_spec(NEEDS.get(name, "sqlite3"))]
    for name in set(given.only) - set(names):
        print(f"{name} is left out: {NEEDS[name]} is not installed", file=sys.stderr)
    sizes = given.sizes if given.sizes is not None else [1_000] if given.quick else [1_000, 10_000, 50_000]
    rounds, seconds = (1, 0.3) if given.quick else (5, 1.0)

    found: dict[str, Any] = {}
    figures, blocked = Figures(), {}
    if sizes:
        figures = speed(names, sizes, rounds, seconds)
        blocked = pauses(1_000 if given.quick else 10_000)
        print(table(figures, COLUMNS, "ours"), "\n", flush=True)
        print(
            "The event loop stands still for at most, in ms:",
            {what: round(ms, 1) for what, ms in blocked.items()},
            "\n",
        )
    found["speed"], found["blocked_ms"] = figures.medians(), blocked
    found["quality"] = quality.measure(given.eval, [name for name in quality.ASKED if name in names])
    print(table_of_quality(found["quality"]), "\n")
    found["promises"] = promises(figures, blocked)
    for what, value, is_kept in found["promises"]:
        print(f"{'kept' if is_kept else 'NOT KEPT'}: {what}: {value:.3g}")
    found["versions"] = [installed(package) for package in PACKAGES]
    found["machine"] = f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    print("\n" + found["machine"] + "; " + ", ".join(found["versions"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
