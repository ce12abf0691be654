"""What some servers can do besides: feedback, files, speech, tools, questions, actions, and once is once."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import pytest
from chatkit.actions import Action
from chatkit.types import (
    Attachment,
    ClientToolCallItem,
    InferenceOptions,
    StructuredInputAnswerSubmission,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputSubmission,
    ThreadItem,
    UserMessageInput,
    UserMessageTextContent,
    WidgetItem,
)

from chatkit_rag.testing.chat_server.part import Part, assert_refused, items_of
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.endpoint import Refused
from chatkit_rag.testing.protocol_client import ProtocolClient

Item = TypeVar("Item")


class Extras(Part):
    """What some servers can do besides."""

    speech: ClassVar[tuple[str, str]] = ("c3BlZWNo", "audio/webm")
    """Audio that the server can read, in Base64, and its media type."""
    client_tool_question: ClassVar[str] = ""
    """What makes the server call a tool of the client's."""
    structured_question: ClassVar[str] = ""
    """What makes the server ask the reader questions."""
    widget_question: ClassVar[str] = ""
    """What makes the server show a widget."""
    widget_action: ClassVar[Action[str, Any]] = Action(type="", payload=None)
    """An action that this widget sends."""

    @requires("feedback")
    async def test_the_last_word_on_an_answer_counts(
        self, client: ProtocolClient, read_feedback: Callable[[str, str], Awaitable[str | None]]
    ) -> None:
        answer = await client.create_thread(self.question)

        await client.give_feedback(answer.thread.id, [answer.reply.id], "positive")
        first = await read_feedback(answer.thread.id, answer.reply.id)
        await client.give_feedback(answer.thread.id, [answer.reply.id], "negative")
        last = await read_feedback(answer.thread.id, answer.reply.id)

        assert (first, last) == ("positive", "negative")

    @requires("attachments")
    async def test_a_file_is_announced_and_sent_along(
        self, client: ProtocolClient, upload_file: Callable[[Attachment, bytes], Awaitable[None]]
    ) -> None:
        file = await client.create_attachment("notes.txt", size=5, mime_type="text/plain")
        await upload_file(file, b"notes")

        answer = await client.create_thread(_with_file(self.question, file.id))

        assert (file.name, file.mime_type) == ("notes.txt", "text/plain")
        assert [(sent.id, sent.thread_id) for sent in answer.question.attachments] == [(file.id, answer.thread.id)]
        [stored] = [item for item in await items_of(client, answer.thread.id) if item.id == answer.question.id]
        assert stored == answer.question

    @requires("attachments", "clean_errors")
    async def test_a_file_that_was_taken_back_cannot_be_sent(
        self, client: ProtocolClient, upload_file: Callable[[Attachment, bytes], Awaitable[None]]
    ) -> None:
        file = await client.create_attachment("notes.txt", size=5, mime_type="text/plain")
        await upload_file(file, b"notes")

        await client.delete_attachment(file.id)

        await assert_refused(client.create_thread(_with_file(self.question, file.id)))

    @requires("transcription")
    async def test_speech_becomes_text(self, client: ProtocolClient) -> None:
        audio, mime_type = self.speech

        heard = await client.transcribe(audio, mime_type=mime_type)

        assert heard.text

    @requires("client_tools")
    async def test_the_output_of_a_client_s_tool_is_kept_and_the_answer_goes_on(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.client_tool_question)
        call = _one_of(answer.items, ClientToolCallItem)

        continued = await client.add_client_tool_output(answer.thread.id, {"fits": True})

        assert (call.status, continued.errors) == ("pending", [])
        kept = _one_of(await items_of(client, answer.thread.id), ClientToolCallItem)
        assert (kept.id, kept.status, kept.output) == (call.id, "completed", {"fits": True})

    @requires("structured_input")
    async def test_a_reader_s_answers_are_kept_and_the_answer_goes_on(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.structured_question)
        asked = _one_of(answer.items, StructuredInputItem)
        values = {
            one.id: [one.options[0].value] if isinstance(one, StructuredInputMultipleChoice) else ["In a word"]
            for one in asked.inputs
        }
        submission = {id_: StructuredInputAnswerSubmission(values=given) for id_, given in values.items()}

        continued = await client.add_structured_input(
            answer.thread.id, asked.id, StructuredInputSubmission(answers=submission)
        )

        assert (asked.status, continued.errors) == ("pending", [])
        kept = _one_of(await items_of(client, answer.thread.id), StructuredInputItem)
        assert (kept.id, kept.status) == (asked.id, "answered")
        assert {one.id: one.answer.values for one in kept.inputs if one.answer} == values

    @requires("actions")
    async def test_a_widget_s_action_is_answered(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.widget_question)
        widget = _one_of(answer.items, WidgetItem)

        acted = await client.custom_action(answer.thread.id, self.widget_action, widget.id)

        assert acted.errors == []
        assert acted.kinds[0] == "stream_options"
        stored = await items_of(client, answer.thread.id)
        assert [item for item in acted.items if item not in stored] == []

    @requires("sync_actions")
    async def test_a_widget_s_action_is_answered_at_once(self, client: ProtocolClient) -> None:
        answer = await client.create_thread(self.widget_question)
        widget = _one_of(answer.items, WidgetItem)

        response = await client.sync_custom_action(answer.thread.id, self.widget_action, widget.id)

        assert response.updated_item is not None
        assert response.updated_item.id == widget.id

    @requires("idempotency")
    async def test_a_request_with_the_same_key_is_carried_out_once(self, client: ProtocolClient) -> None:
        keyed = client.with_options(idempotency_key=uuid.uuid4().hex)

        first = await keyed.create_thread(self.question)
        again = await keyed.create_thread(self.question)

        assert (again.question, again.reply) == (first.question, first.reply)
        assert [thread.id for thread in (await client.list_threads()).data] == [first.thread.id]
        assert await items_of(client, first.thread.id) == first.items

    @requires("idempotency")
    async def test_a_key_stands_for_one_request(self, client: ProtocolClient) -> None:
        keyed = client.with_options(idempotency_key=uuid.uuid4().hex)
        first = await keyed.create_thread(self.question)

        with pytest.raises(Refused) as refused:
            await keyed.create_thread("Something else?")

        assert 400 <= refused.value.status < 500
        assert [thread.id for thread in (await client.list_threads()).data] == [first.thread.id]


def _with_file(text: str, file_id: str) -> UserMessageInput:
    content: list[Any] = [UserMessageTextContent(text=text)]
    return UserMessageInput(content=content, attachments=[file_id], inference_options=InferenceOptions())


def _one_of(items: list[ThreadItem], kind: type[Item]) -> Item:
    found = [item for item in items if isinstance(item, kind)]
    assert len(found) == 1, f"one {kind.__name__} was expected among {[item.type for item in items]}"
    return found[0]
