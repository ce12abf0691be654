"""What an index knows of each page that it was built from: enough to tell what changed, and to show the page again."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from chatkit_rag.documents import Document, Section

PASSAGES_FORMAT = 5
"""Raised when the same page would be cut or analysed in another way than before: every page then counts as changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a page was read from, so that it need not be read again as long as that is the same."""

    fingerprint: str = ""
    """A hash of the file's or answer's bytes and of all that decides how they are read; empty for what has none."""
    etag: str = ""
    """What a server called the version that it sent."""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRecord:
    """One page of one site."""

    site: str
    base_url: str
    digest: str
    """Changes whenever the passages of the page would."""
    document: Document
    origin: Origin = Origin()
    passages: int = 0
    """How many passages the page was cut into; 0 before it was."""

    @classmethod
    def of(
        cls, document: Document, *, site: str, base_url: str, signature: str = "", origin: Origin | None = None
    ) -> "PageRecord":
        """The record of a page that was just read, for an index of this `signature`."""
        content = orjson.dumps([PASSAGES_FORMAT, signature, site, base_url, document], option=orjson.OPT_SORT_KEYS)
        digest = hashlib.sha256(content).hexdigest()
        return cls(site=site, base_url=base_url, digest=digest, document=document, origin=origin or Origin())


def dump_records(records: Iterable[PageRecord]) -> bytes:
    """JSON, one record a line."""
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def load_records(data: bytes) -> list[PageRecord]:
    """The reverse of `dump_records`.

    Raises:
        ValueError: the data is not what `dump_records` wrote (also as KeyError and TypeError).
    """
    return [_record(orjson.loads(line)) for line in data.splitlines()]


def _record(fields: Mapping[str, Any]) -> PageRecord:
    document: dict[str, Any] = fields["document"]
    sections: Any = tuple(
        Section(heading_path=tuple(section["heading_path"]), anchor=section["anchor"], blocks=tuple(section["blocks"]))
        for section in document["sections"]
    )
    return PageRecord(
        site=fields["site"],
        base_url=fields["base_url"],
        digest=fields["digest"],
        document=Document(**(document | {"sections": sections})),
        origin=Origin(**fields.get("origin", {})),  # records of before have none
        passages=fields.get("passages", 0),
    )
