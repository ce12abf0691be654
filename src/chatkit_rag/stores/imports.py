"""Taking over what another system's database holds: repeatable, in batches, never over what was done here since.

What was taken over is remembered, as two hashes a record: which record, and what it said. So a later run adds what is
new, changes what has changed there and not here, and does not bring back what was deleted here. The memory outlives
its records on purpose; no name and no word of a reader's can be read out of it.

`ImportSource` is where records come from, `ImportTarget` where they go; neither is known here.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, Protocol, TypeVar

Kind = Literal["thread", "item", "attachment"]
KINDS: tuple[Kind, ...] = ("thread", "item", "attachment")
"""In the order in which they are taken over: an item needs its thread."""

Place = tuple[str, str, str, str]
"""Tenant, user, thread (empty but for items) and id: what a record is found under."""

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """A thread, an item or an attachment, as it will be stored here."""

    kind: Kind
    place: Place
    payload: str
    """The record as ChatKit's own JSON."""

    @cached_property
    def key(self) -> bytes:
        """What the record is remembered under."""
        return key_of(self.kind, self.place)

    @cached_property
    def digest(self) -> bytes:
        """What the record says, in short."""
        return digest_of(self.payload)

    @property
    def thread(self) -> Place:
        """The place of an item's thread."""
        tenant, user, thread_id, _ = self.place
        return (tenant, user, "", thread_id)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that cannot be taken over."""

    id: str
    reason: str
    """For people; without a word of what the row says."""
    key: bytes = b""
    """Of a thread whose owner is known: its items are not looked for then."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a report says of a row that was left where it is."""

    id: str
    reason: str


@dataclass(slots=True, kw_only=True)
class ImportReport:
    """What a run has added or changed; of a dry run, what it would."""

    threads: int = 0
    items: int = 0
    attachments: int = 0
    skipped: list[Skipped] = field(default_factory=list[Skipped])

    def to_json(self) -> dict[str, Any]:
        """For printing."""
        skipped = [{"id": row.id, "reason": row.reason} for row in self.skipped]
        return {"threads": self.threads, "items": self.items, "attachments": self.attachments, "skipped": skipped}


class ImportSource(Protocol):
    """A database that records are taken over from."""

    def pages(self, kind: Kind) -> AsyncGenerator[Sequence[Record | Unreadable]]:
        """All records of a kind, in bounded pages: each owner's threads, and each thread's items, in their order.

        Raises StoreUnavailable.
        """
        ...


class ImportBatch(Protocol):
    """A transaction on the target."""

    async def known(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Of those that are remembered, the digests of what was taken over."""
        ...

    async def present(self, kind: Kind, places: Sequence[Place]) -> Mapping[Place, bytes]:
        """Of those that are there now, the digests of what they say."""
        ...

    async def add(self, kind: Kind, records: Sequence[Record]) -> None:
        """Stores records behind those that are there, in the order given; nothing happens to one that is there."""
        ...

    async def replace(self, kind: Kind, records: Sequence[Record], before: Sequence[bytes]) -> None:
        """Stores records in the place of those whose digests are `before`; what says something else stays."""
        ...

    async def remember(self, records: Sequence[Record]) -> None:
        """Remembers what was taken over."""
        ...


class ImportTarget(Protocol):
    """A database that records are taken over into."""

    async def in_batch(self, work: Callable[[ImportBatch], Awaitable[T]]) -> T:
        """What `work` returns; all that it has done is there then, or nothing. It may be begun again.

        Raises StoreUnavailable.
        """
        ...


class NothingYet:
    """The target of a dry run where no database is there to look into."""

    async def in_batch(self, work: Callable[[ImportBatch], Awaitable[T]]) -> T:
        """See `ImportTarget.in_batch`."""
        return await work(self)

    async def known(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:  # noqa: ARG002 - the protocol's
        """See `ImportBatch.known`."""
        return {}

    async def present(self, kind: Kind, places: Sequence[Place]) -> Mapping[Place, bytes]:  # noqa: ARG002 - the protocol's
        """See `ImportBatch.present`."""
        return {}

    async def add(self, kind: Kind, records: Sequence[Record]) -> None:
        """Never called in a dry run."""

    async def replace(self, kind: Kind, records: Sequence[Record], before: Sequence[bytes]) -> None:
        """Never called in a dry run."""

    async def remember(self, records: Sequence[Record]) -> None:
        """Never called in a dry run."""


async def take_over(
    source: ImportSource,
    target: ImportTarget,
    *,
    dry_run: bool = False,
    on_progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Brings the target in step with the source, and reports what that took.

    A run that was cut off is made good by the next one. What comes into the source while it is read is left to the next
    run where its place was passed already.

    Args:
        source: is read only.
        target: is written a batch at a time.
        dry_run: whether nothing is written, and the report says what would be.
        on_progress: called after each batch with what was done so far.

    Raises:
        StoreUnavailable: one of the two cannot be read or written; what was taken over so far stays.
    """
    report = ImportReport()
    left_out: set[bytes] = set()
    for kind in KINDS:
        async with aclosing(source.pages(kind)) as pages:
            async for page in pages:
                records, skipped = _sorted_out(page, left_out)
                report.skipped += skipped
                done = await target.in_batch(_Step(kind, records, dry_run=dry_run))
                _count(report, kind, done)
                if on_progress is not None:
                    on_progress(report)
    return report


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done with the records of a page, in one transaction."""

    kind: Kind
    records: Sequence[Record]
    dry_run: bool = field(kw_only=True)

    async def __call__(self, batch: ImportBatch) -> int:
        """The number of records that were added or changed."""
        known = await batch.known([record.key for record in self.records])
        fresh = [record for record in self.records if record.key not in known]
        changed = [record for record in self.records if known.get(record.key, record.digest) != record.digest]
        if not fresh and not changed:
            return 0
        if self.kind == "item":
            fresh, orphans = await self._with_threads(batch, fresh)
        else:
            orphans = []
        present = await batch.present(self.kind, [record.place for record in (*fresh, *changed)])
        added = [record for record in fresh if record.place not in present]
        replaced = [record for record in changed if present.get(record.place) == known[record.key]]
        if not self.dry_run:
            if added:
                await batch.add(self.kind, added)
            if replaced:
                await batch.replace(self.kind, replaced, [known[record.key] for record in replaced])
            # Also what stays as it is here: whatever becomes of it, it is not new any more.
            await batch.remember([*fresh, *orphans, *changed])
        return len(added) + len(replaced)

    async def _with_threads(self, batch: ImportBatch, items: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """The items whose threads are there, and those whose threads were deleted here."""
        threads = list(dict.fromkeys(item.thread for item in items))
        present = await batch.present("thread", threads)
        gone = await batch.known([key_of("thread", thread) for thread in threads if thread not in present])
        deleted = {thread for thread in threads if thread not in present and key_of("thread", thread) in gone}
        there = set(threads) - deleted if self.dry_run else present.keys()
        return [item for item in items if item.thread in there], [item for item in items if item.thread in deleted]


def key_of(kind: Kind, place: Place) -> bytes:
    """What a record of that place is remembered under."""
    return sha256("\0".join((kind, *place)).encode()).digest()[:20]


def digest_of(payload: str) -> bytes:
    """What a record says, in short."""
    return sha256(payload.encode()).digest()


def _sorted_out(page: Iterable[Record | Unreadable], left_out: set[bytes]) -> tuple[list[Record], list[Skipped]]:
    """The records that can be taken over, and what is said of the others; `left_out` gets the threads among these."""
    records: dict[bytes, Record] = {}
    skipped: list[Skipped] = []
    for row in page:
        if isinstance(row, Unreadable):
            skipped.append(Skipped(row.id, row.reason))
            if row.key:
                left_out.add(row.key)
        elif row.key in records:
            skipped.append(Skipped(row.place[-1], "another of its kind has the same id, and came before it"))
        elif row.kind == "item" and key_of("thread", row.thread) in left_out:
            skipped.append(Skipped(row.place[-1], "its thread is left out"))
        else:
            records[row.key] = row
    return list(records.values()), skipped


def _count(report: ImportReport, kind: Kind, done: int) -> None:
    match kind:
        case "thread":
            report.threads += done
        case "item":
            report.items += done
        case "attachment":
            report.attachments += done
