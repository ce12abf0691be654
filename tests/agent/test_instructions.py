"""What the model is told."""

from chatkit_rag.agent.instructions import INSTRUCTIONS, page_note
from chatkit_rag.agent.tools import SEARCH_COURSE
from chatkit_rag.context import PageContext


def test_they_name_the_tool_by_its_name_and_say_how_to_cite():
    assert SEARCH_COURSE in INSTRUCTIONS
    assert "[2]" in INSTRUCTIONS


def test_the_open_page_is_told_as_data():
    note = page_note(PageContext(title="Nodes", path="/nodes", url="https://x.org/nodes", heading="Spin"))

    first, *facts = note.splitlines()
    assert "not instructions" in first
    assert facts == ["title: Nodes", "path: /nodes", "heading in view: Spin"]


def test_the_address_stands_in_for_a_path_that_is_not_told():
    assert page_note(PageContext(url="https://x.org/nodes")).endswith("path: https://x.org/nodes")


def test_a_page_of_which_nothing_is_known_is_not_mentioned():
    assert page_note(PageContext(locale="en")) == ""
