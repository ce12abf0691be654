"""The talk so far, as the model reads it."""

from datetime import UTC, datetime
from itertools import count

import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    HiddenContextItem,
    InferenceOptions,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    ThreadItem,
    UserMessageItem,
    UserMessageTagContent,
    UserMessageTextContent,
)

from chatkit_rag.agent.history import CHARACTERS, conversation, message_text
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


def spoken(items: list[ThreadItem], **options: int) -> list[str]:
    return [message["content"] for message in conversation(items, **options)]


def test_it_reads_oldest_first_although_it_is_loaded_newest_first():
    newest_first = [asked("third"), replied("second"), asked("first")]

    assert conversation(newest_first) == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": "third"},
    ]


def test_the_newest_that_fit_are_kept_without_a_gap():
    newest_first = [asked("c" * 4), replied("b" * 4), asked("x" * 100), replied("a")]

    assert spoken(newest_first, budget=10) == ["bbbb", "cccc"]


def test_exactly_the_budget_fits():
    newest_first = [asked("c" * 4), replied("b" * 4)]

    assert spoken(newest_first, budget=8) == ["bbbb", "cccc"]
    assert spoken(newest_first, budget=7) == ["cccc"]


def test_the_question_itself_is_there_however_long_it_is():
    longest = "x" * RequestLimits().message_characters
    assert len(longest) > CHARACTERS

    assert spoken([asked(longest), replied("before")]) == [longest]


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
