"""What an index knows of each page."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Document, Section
from chatkit_rag.retrieval import manifest
from chatkit_rag.retrieval.manifest import PageRecord, dump_records, load_records

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
sections = st.builds(
    Section,
    heading_path=st.lists(texts, min_size=1, max_size=4).map(tuple),
    anchor=texts,
    blocks=st.lists(texts, max_size=4).map(tuple),
)
documents = st.builds(
    Document,
    path=texts,
    title=texts,
    sections=st.lists(sections, max_size=4).map(tuple),
    source=texts,
    metadata=st.dictionaries(texts, values, max_size=3),
)
records = st.builds(PageRecord.of, documents, site=texts, base_url=texts)


@given(st.lists(records, max_size=4))
def test_records_come_back_as_they_were_dumped(pages: list[PageRecord]):
    assert load_records(dump_records(pages)) == pages


@given(st.lists(records, max_size=4))
def test_a_record_is_a_line(pages: list[PageRecord]):
    assert dump_records(pages).count(b"\n") == len(pages)


DOCUMENT = Document(
    path="/a", title="A", sections=(Section(heading_path=("A",), blocks=("b",)),), metadata={"x": 1, "y": 2}
)


def digest(document: Document = DOCUMENT, *, site: str = "s", base_url: str = "https://x.test") -> str:
    return PageRecord.of(document, site=site, base_url=base_url).digest


def test_the_same_page_has_the_same_digest_whatever_the_order_of_its_metadata():
    assert digest() == digest(replace(DOCUMENT, metadata={"y": 2, "x": 1}))


@pytest.mark.parametrize(
    "changed",
    [
        digest(replace(DOCUMENT, path="/b")),
        digest(replace(DOCUMENT, title="B")),
        digest(replace(DOCUMENT, sections=())),
        digest(replace(DOCUMENT, sections=(Section(heading_path=("A",), blocks=("c",)),))),
        digest(replace(DOCUMENT, sections=(Section(heading_path=("A",), anchor="a", blocks=("b",)),))),
        digest(replace(DOCUMENT, metadata={"x": 1})),
        digest(site="t"),
        digest(base_url="https://y.test"),
    ],
)
def test_whatever_a_passage_is_made_of_changes_the_digest(changed: str):
    assert changed != digest()


def test_pages_that_were_cut_by_other_rules_count_as_changed(monkeypatch: pytest.MonkeyPatch):
    before = digest()

    monkeypatch.setattr(manifest, "PASSAGES_FORMAT", manifest.PASSAGES_FORMAT + 1)

    assert digest() != before


def without(name: str) -> bytes:
    fields = orjson.loads(dump_records([PageRecord.of(DOCUMENT, site="s", base_url="")]))
    del fields[name]
    return orjson.dumps(fields)


@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b"\xff", b'{"document": 1}', without("site"), without("document")])
def test_what_was_never_dumped_is_refused(data: bytes):
    with pytest.raises((ValueError, KeyError, TypeError)):
        load_records(data)
