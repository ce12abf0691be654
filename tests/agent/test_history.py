"""The talk so far, as the model reads it."""

from datetime import UTC, datetime
from itertools import count

import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    GeneratedImageItem,
    HiddenContextItem,
    InferenceOptions,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    ThreadItem,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
    WidgetItem,
)
from chatkit.widgets import Button, Card, Text

from chatkit_rag.agent.history import HistoryOptions, conversation, message_text
from chatkit_rag.protocol.requests import RequestLimits

NOW = datetime(2030, 1, 1, tzinfo=UTC)
numbers = count()


def asked(*texts: str) -> UserMessageItem:
    content = [UserMessageTextContent(text=text) for text in texts]
    return UserMessageItem(
        id=f"u{next(numbers)}", thread_id="t", created_at=NOW, content=content, inference_options=InferenceOptions()
    )


def replied(*texts: str) -> AssistantMessageItem:
    content = [AssistantMessageContent(text=text) for text in texts]
    return AssistantMessageItem(id=f"a{next(numbers)}", thread_id="t", created_at=NOW, content=content)


def letters(tokens: int) -> HistoryOptions:
    """A budget in which every letter is a token."""
    return HistoryOptions(tokens=tokens, count=len)


def spoken(items: list[ThreadItem], tokens: int = 6_000, first: UserMessageItem | None = None) -> list[str]:
    return [message["content"] for message in conversation(items, letters(tokens), first=first)]


def called(output: object) -> ClientToolCallItem:
    place = {"id": f"c{next(numbers)}", "thread_id": "t", "created_at": NOW}
    return ClientToolCallItem(**place, status="completed", call_id="call", name="theme", arguments={}, output=output)


def widget(copy_text: str | None = None) -> WidgetItem:
    card = Card(children=[Text(value="Pick a gait"), Button(label="Walk")])
    return WidgetItem(id="w", thread_id="t", created_at=NOW, widget=card, copy_text=copy_text)


def test_it_reads_oldest_first_although_it_is_loaded_newest_first():
    newest_first = [asked("third"), replied("second"), asked("first")]

    assert conversation(newest_first) == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": "third"},
    ]


def test_the_newest_that_fit_are_kept_without_a_gap():
    newest_first = [asked("c" * 40), replied("b" * 10), asked("x" * 10), replied("a" * 10), asked("first")]

    assert spoken(newest_first, 66) == ["first", "x" * 10, "b" * 10, "c" * 40]
    assert spoken(newest_first, 75) == ["first", "a" * 10, "x" * 10, "b" * 10, "c" * 40]


def test_exactly_the_budget_fits():
    newest_first = [asked("c" * 4), replied("b" * 4), asked("a")]

    assert spoken(newest_first, 16) == ["a", "bbbb", "cccc"]
    assert spoken([replied("b" * 5), replied("a" * 2)], 8) == ["aa", "b" * 5]
    assert spoken([replied("b" * 7), replied("a" * 2)], 8) == ["b" * 7]


def test_the_question_itself_is_there_however_long_it_is():
    longest = "x" * RequestLimits().message_characters
    assert len(longest) > HistoryOptions().tokens

    assert spoken([asked(longest), replied("before")]) == [longest]


def test_the_first_question_stays_when_what_followed_it_goes():
    between = [said for _ in range(50) for said in (replied("r" * 20), asked("q" * 20))]

    within = spoken([asked("now"), *between, asked("What is a node?")], 100)
    before = spoken([asked("now"), *between], 100, first=asked("What is a node?"))

    assert within == before
    assert within[0] == "What is a node?"
    assert within[-1] == "now"
    assert len(within) == 2 + 4


def test_one_long_message_does_not_take_the_place_of_the_others():
    log = "begin" + "x" * 1000 + "ended"

    first, pasted, reply, _ = spoken([asked("now"), replied("reply"), asked(log), asked("first")], 200)

    assert (first, reply) == ("first", "reply")
    assert pasted.startswith("beginx")
    assert pasted.endswith("xended")
    assert len(pasted) <= 200 // 4 + len(" […] ")


def test_what_tools_returned_goes_before_words():
    newest_first = [asked("now"), called("r" * 20), replied("words"), asked("first")]

    assert [message.get("type") for message in conversation(newest_first, letters(200))] == [
        None,
        None,
        "function_call",
        "function_call_output",
        None,
    ]
    assert spoken(newest_first, 24) == ["first", "words", "now"]


def test_what_a_tool_has_just_returned_is_cut_to_the_budget():
    *_, output = conversation([called("r" * 5000), asked("first")], letters(100))

    assert output["type"] == "function_call_output"
    assert 50 < len(output["output"]) <= 100 + len(" […] ")


def test_a_card_is_told_by_what_can_be_read_on_it():
    assert spoken([widget()]) == [
        "(Note of the chat, not of the reader: a card was shown, which says: Pick a gait\nWalk)"
    ]
    assert spoken([widget("Two gaits")])[0].endswith("which says: Two gaits)")


def test_an_image_is_told_to_have_been_shown():
    assert spoken([GeneratedImageItem(id="i", thread_id="t", created_at=NOW)]) == [
        "(Note of the chat, not of the reader: an image was made and shown)"
    ]


def test_what_says_nothing_and_what_is_hidden_is_left_out():
    hidden = HiddenContextItem(id="h", thread_id="t", created_at=NOW, content="secret")

    assert spoken([asked("now"), replied(""), hidden, replied(" \n"), asked("before")]) == ["before", "now"]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (asked(" one ", "two "), "one \ntwo"),
        (
            asked("See").model_copy(
                update={"content": [UserMessageTagContent(id="t", text="Lab 3", data={"secret": 1})]},
            ),
            "Lab 3",
        ),
    ],
)
def test_a_message_is_its_texts_and_its_tags_by_their_text(message: UserMessageItem, text: str):
    assert message_text(message) == text


def test_a_tool_of_the_browser_is_told_with_what_it_returned():
    place = {"thread_id": "t", "created_at": NOW}
    call = ClientToolCallItem(
        id="c",
        **place,
        status="completed",
        call_id="call_1",
        name="theme",
        arguments={"to": "dark"},
        output={"ok": True},
    )
    waiting = ClientToolCallItem(id="w", **place, call_id="call_2", name="theme", arguments={})

    assert conversation([waiting, call, asked("Dark, please.")]) == [
        {"role": "user", "content": "Dark, please."},
        {"type": "function_call", "call_id": "call_1", "name": "theme", "arguments": '{"to":"dark"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"ok":true}'},
    ]


def test_answers_to_questions_are_told_as_the_readers_words():
    inputs = [
        StructuredInputFreeform(id="q1", question="Which robot?", answer=StructuredInputAnswer(values=["Spot"])),
        StructuredInputFreeform(id="q2", question="Why?", answer=StructuredInputAnswer(skipped=True)),
    ]
    place = {"id": "s", "thread_id": "t", "created_at": NOW}

    answered = StructuredInputItem(**place, status="answered", inputs=inputs)

    assert conversation([answered]) == [{"role": "user", "content": "Which robot?\nSpot\n\nWhy?\n(skipped)"}]
    assert conversation([StructuredInputItem(**place, inputs=inputs)]) == []
