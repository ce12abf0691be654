"""What a filter says by itself; what engines make of it is in the index contract."""

from chatkit_rag.retrieval.filters import field_kinds
from chatkit_rag.testing.index.part import passage


def test_a_field_that_wants_no_index_is_one_all_the_same():
    pages = [
        passage("/a", "A", "A.", {"part": 1, "level": "x", 'a"b': "x"}),
        passage("/b", "B", "B.", {"part": "one", "level": "y", "deep": {"a": 1}}),
    ]

    assert field_kinds(pages) == {'a"b': "", "level": "keyword", "part": ""}
    assert field_kinds(pages, most=0) == {'a"b': "", "level": "", "part": ""}


def test_what_is_called_as_a_field_of_the_passage_itself_is_none():
    pages = [passage("/a", "A", "A.", {"site": 1, "path": "A"}), passage("/b", "B", "B.", {"site": "one"})]

    assert field_kinds(pages) == {}
