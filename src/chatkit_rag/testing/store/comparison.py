"""The store against dictionaries: after any history, the two agree."""

from typing import ClassVar

import pytest
from anyio import to_thread

from chatkit_rag.stores.base import Store
from chatkit_rag.testing.store.compared import Compared
from chatkit_rag.testing.store.part import Part

STEPS = 50


class Comparison(Part):
    """The store against dictionaries."""

    examples: ClassVar[int] = 200
    """How many histories are tried, of up to fifty steps each."""
    capabilities: ClassVar[frozenset[str]]

    async def test_after_any_history_it_agrees_with_dictionaries(self, store: Store) -> None:
        pytest.importorskip("hypothesis", reason="histories are drawn by hypothesis: pip install hypothesis")
        from chatkit_rag.testing.store.histories import machine  # noqa: PLC0415 - it needs hypothesis

        readers = [self.ada]
        if "owners" in self.capabilities:
            readers += [self.context_of("ada", "evening"), self.context_of("eve", "morning")]
        histories = machine(lambda: Compared(store, readers, orphans="no_orphans" not in self.capabilities))

        # Its steps are plain calls: it draws them in a thread of its own, and each comes back to this event loop.
        await to_thread.run_sync(histories, self.examples, STEPS)
