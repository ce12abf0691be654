"""Text deltas that arrived together go on together. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from chatkit_rag.agent.models.failures import ResponseFailed

TEXT_DELTA = "response.output_text.delta"
_PLACE = ("item_id", "output_index", "content_index")


class DeltaMerger:
    """Makes one delta of those that follow each other in what was read at once.

    They reach the reader in the same packet either way; made one by one they cost a server most when it has the least
    time, since more of them wait then. The first of an answer goes on by itself, and none is held for a later one.
    """

    def __init__(self, characters: int) -> None:
        """`characters` is the most that a merged delta holds; 0 to merge none."""
        self._characters = characters
        self._begun = False

    def merge(self, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The events of one read. What was put together comes also where reading on fails.

        Raises:
            ResponseFailed: as `events` does.
        """
        held: list[dict[str, Any]] = []
        length = 0
        failed: ResponseFailed | None = None
        waiting = iter(events)
        while True:
            try:
                event = next(waiting, None)
            except ResponseFailed as exc:
                event, failed = None, exc
            is_text = event is not None and event["type"] == TEXT_DELTA
            if event is not None and is_text and self._begun and self._characters:
                size = len(event["delta"])
                if held and length + size <= self._characters and _in_one_place(held[0], event):
                    held.append(event)
                    length += size
                    continue
                if held:
                    yield _joined(held)
                held, length = [event], size
                continue
            if held:
                yield _joined(held)
                held = []
            if failed is not None:
                raise failed
            if event is None:
                return
            self._begun = self._begun or is_text
            yield event


def _in_one_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in _PLACE)


def _joined(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    if len(deltas) == 1:
        return deltas[0]
    return {**deltas[0], "delta": "".join([each["delta"] for each in deltas])}
