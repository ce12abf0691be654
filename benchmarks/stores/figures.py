"""Figures: how they are measured, kept and shown."""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Figures:
    """Operation, contender and measure, with a value for each round."""

    values: dict[str, dict[str, dict[str, list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def note(self, operation: str, name: str, **measures: float) -> None:
        for measure, value in measures.items():
            self.values[operation][name][measure].append(value)

    def median(self, operation: str, name: str, measure: str) -> float:
        return statistics.median(self.values[operation][name][measure])

    def ratio(self, measure: str, one: tuple[str, str], other: tuple[str, str]) -> float:
        """How many times the other's figure the one's is, both by operation and contender.

        The median of what the rounds say each for itself: a disturbance that lasts for a round meets both.
        """
        values = [self.values[operation][name][measure] for operation, name in (one, other)]
        return statistics.median(mine / theirs for mine, theirs in zip(*values, strict=True))

    def medians(self) -> dict[str, Any]:
        return {
            operation: {
                name: {measure: self.median(operation, name, measure) for measure in measures}
                for name, measures in names.items()
            }
            for operation, names in self.values.items()
        }


async def measure(call: Callable[[], Awaitable[Any]], seconds: float, *, concurrency: int) -> dict[str, float]:
    """Calls for so long, so many at a time: operations a second, CPU of this process for each, and latencies."""
    latencies: list[float] = []
    begun, cpu = time.perf_counter(), time.process_time()
    end = begun + seconds

    async def work() -> None:
        while (before := time.perf_counter()) < end:
            await call()
            latencies.append(time.perf_counter() - before)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    took, spent = time.perf_counter() - begun, time.process_time() - cpu
    latencies.sort()
    suffix = f"c{concurrency}"
    return {
        f"per_second_{suffix}": len(latencies) / took,
        f"cpu_us_{suffix}": 1e6 * spent / len(latencies),
        f"p50_ms_{suffix}": 1e3 * latencies[len(latencies) // 2],
        f"p99_ms_{suffix}": 1e3 * latencies[len(latencies) * 99 // 100],
    }


def table(figures: Figures, columns: dict[str, str], base: str) -> str:
    """A row for each operation and measure; behind a value, how many times that of `base` it is."""
    names = list(dict.fromkeys(name for found in figures.values.values() for name in found))
    lines = [["", *names]]
    for operation, found in figures.values.items():
        for measure, label in columns.items():
            if not any(measure in measures for measures in found.values()):
                continue
            cells = [f"{operation}: {label}"]
            for name in names:
                if measure not in found.get(name, {}):
                    cells.append("-")
                    continue
                value = figures.median(operation, name, measure)
                against = figures.median(operation, base, measure) if measure in found.get(base, {}) else 0.0
                ratio = f" ({value / against:.2f}x)" if against and name != base else ""
                cells.append(f"{value:.3g}{ratio}" if value < 100 else f"{value:.0f}{ratio}")
            lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
