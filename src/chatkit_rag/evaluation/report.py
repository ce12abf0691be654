"""What an evaluation came to: figures, and the questions that went wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit_rag.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A question that did not find what it should have."""

    question: str
    expected: str
    """The page or heading; empty where the course does not answer, and an answer was given."""
    found: tuple[str, ...]
    """The pages that were found, best first; empty where the answer was declined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The figures of one evaluation."""

    figures: Mapping[str, float]
    """By name, each 0..1 and the better the higher; the first is the one that counts most."""
    questions: int
    seconds: float
    """What searching took, without indexing."""
    misses: Sequence[Miss]

    def to_json(self) -> dict[str, Any]:
        """The figures, how many questions there were, and the seconds."""
        figures = {name: round(value, 4) for name, value in self.figures.items()}
        return {**figures, "queries": self.questions, "seconds": round(self.seconds, 3)}

    def shortfalls(self, bounds: Sequence[str]) -> list[str]:
        """A sentence for each of the `bounds` that is not reached: `0.9` for the first figure, or `recall@5=0.9`.

        Raises:
            ConfigurationError: a bound is no number, or names no figure of this report.
        """
        return [sentence for bound in bounds if (sentence := self._shortfall(bound))]

    def _shortfall(self, bound: str) -> str:
        name, _, number = bound.rpartition("=")
        name = name or next(iter(self.figures))
        if name not in self.figures:
            raise ConfigurationError(f"there is no figure {name!r}: the figures are {', '.join(self.figures)}")
        try:
            least = float(number)
        except ValueError as exc:
            raise ConfigurationError(f"{bound!r} is no bound: write 0.9, or {name}=0.9") from exc
        value = self.figures[name]
        return "" if value >= least else f"{name} is {value:.4f}, and should be at least {least:g}"
