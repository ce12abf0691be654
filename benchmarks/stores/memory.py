"""A page of twenty out of memory, by the length of its thread: our `MemoryStore`, and the documentation's."""

import time
from typing import Any

from chatkit.types import ThreadMetadata
from data import NOW, answer
from sample_store import MyChatKitStore

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.memory import MemoryStore

SIZES = {"10": 10, "1k": 1_000, "10k": 10_000, "100k": 100_000}
PAGE = 20


async def filled(store: Any, context: Any, count: int) -> Any:
    """The store, with one thread of so many items."""
    await store.save_thread(ThreadMetadata(id="thr_0", created_at=NOW), context)
    for number in range(count):
        await store.add_thread_item("thr_0", answer(f"msg_{number}", "thr_0"), context)
    return store


async def stores(count: int) -> dict[str, tuple[Any, Any]]:
    """Each store with its context, a thread of `count` items in it."""
    ours = RequestContext(principal=Principal("reader-0"))
    return {
        "ours": (await filled(MemoryStore(), ours, count), ours),
        "sample": (await filled(MyChatKitStore(), {}, count), {}),
    }


async def page_cost(store: Any, context: Any, seconds: float) -> float:
    """CPU microseconds of the newest page of twenty."""
    pages, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        await store.load_thread_items("thr_0", None, PAGE, "desc", context)
        pages += 1
    return 1e6 * spent / pages
