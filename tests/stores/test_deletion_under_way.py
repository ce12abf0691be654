"""A reader, or a thread of theirs, is deleted at any await of an answer that is under way: nothing comes back."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from chatkit import types as ck

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import Conflict, NotFound
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.privacy import KINDS, delete_user
from chatkit_rag.testing.store.privacy import held
from protocol.frames import COVERED, message, request

pytestmark = pytest.mark.anyio

MOMENTS = 80
"""More than any answer here has."""
SECRET = "a secret of more than thirty-two bytes"
PDF = b"%PDF-1.7\n" + b"\n" * 64


class Interrupted:
    """A store in front of which something happens, once, before the call or behind the event that is numbered."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.left = -1
        self.happens: Callable[[], Awaitable[Any]] | None = None
        for name in dir(store):
            if not name.startswith("_") and callable(getattr(store, name)):
                setattr(self, name, self._interrupted(name))

    def _interrupted(self, name: str) -> Any:
        method = getattr(self.store, name)
        if name in ("generate_thread_id", "generate_item_id", "holdings", "unused_attachments"):
            return method

        async def call(*arguments: Any) -> Any:
            await self.moment()
            return await method(*arguments)

        return call

    async def moment(self) -> None:
        self.left -= 1
        if self.left == 0 and self.happens is not None:
            await self.happens()


class Server(RagChatServer):
    """Answers like a site that keeps things of its own about its readers."""

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[ck.ThreadStreamEvent]:
        store = self.store
        notes = await store.load_thread("thr_notes", context)
        summary = ck.ThreadMetadata(id=store.generate_thread_id(context), created_at=utc_now(), title="What Ada asked")
        await store.save_thread(summary, context)
        place: dict[str, Any] = {"thread_id": thread.id, "created_at": utc_now()}
        reply = ck.AssistantMessageItem(id="reply", content=[], **place)
        yield ck.ThreadItemAddedEvent(item=reply)
        part = ck.AssistantMessageContentPartAdded(content_index=0, content=ck.AssistantMessageContent(text=""))
        yield ck.ThreadItemUpdatedEvent(item_id="reply", update=part)
        for number in range(2):
            delta = ck.AssistantMessageContentPartTextDelta(content_index=0, delta=f"Ada, {number}.")
            yield ck.ThreadItemUpdatedEvent(item_id="reply", update=delta)
        notes.metadata["asked"] = COVERED
        await store.save_thread(notes, context)
        picture = ck.FileAttachment(id="atc_drawn", name="for Ada.pdf", mime_type="application/pdf")
        await store.save_attachment(picture, context)
        thread.title = "Ada's question"
        yield ck.ThreadItemDoneEvent(
            item=reply.model_copy(update={"content": [ck.AssistantMessageContent(text="Ada, 0.Ada, 1.")]})
        )


@pytest.fixture
def files(tmp_path: Path) -> LocalAttachmentStore:
    return LocalAttachmentStore(tmp_path / "files", secret=SECRET, base_url="http://chat.test")


class Case:
    """A reader with a thread, who asks something in it or in a new one, with a file or without."""

    def __init__(self, store: Any, files: LocalAttachmentStore, index: EdgeIndex) -> None:
        self.plain = store
        self.store = Interrupted(store)
        self.files = files
        self.server = Server(
            self.store,  # type: ignore[arg-type]
            sources=[CourseSource(index)],
            model=ExtractiveModel(),
            attachment_store=files,
        )

    async def prepare(self, reader: Principal) -> dict[str, str]:
        """Two threads, and a file that is in no message; their ids."""
        context = RequestContext(principal=reader)
        attachment = self.files.describe("Ada.pdf", "application/pdf", context)
        size = await self.files.write(attachment, pieces(), context)
        await self.plain.save_attachment(self.files.complete(attachment, size, context), context)
        for id_ in ("thr_1", "thr_notes"):
            await self.plain.save_thread(ck.ThreadMetadata(id=id_, created_at=utc_now()), context)
        return {"thread": "thr_1", "file": attachment.id}

    async def ask(
        self, reader: Principal, body: dict[str, Any], happens: Callable[[], Awaitable[Any]], moment: int
    ) -> bool:
        """Whether `happens` has happened, at the numbered moment of an answer."""
        self.store.left, self.store.happens = moment, happens
        context = RequestContext(principal=reader, idempotency_key="key")
        with suppress(NotFound, Conflict):  # refused before it began
            result: Any = await self.server.process(json.dumps(body), context)
            async with aclosing(result.json_events) as events:
                async for _ in events:
                    await self.store.moment()
        return self.store.left <= 0


async def pieces() -> AsyncIterator[bytes]:
    yield PDF


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def case(
    request: pytest.FixtureRequest,
    make_store: Callable[[str], Any],
    files: LocalAttachmentStore,
    course_index: EdgeIndex,
) -> Case:
    return Case(make_store(request.param), files, course_index)


def asking(thread: str | None, file: str | None) -> dict[str, Any]:
    sent = message(COVERED, attachments=[file] if file else [])
    if thread is None:
        return request("threads.create", input=sent)
    return request("threads.add_user_message", thread_id=thread, input=sent)


@pytest.mark.parametrize("begins", ["a new thread", "a thread that is there"])
async def test_a_reader_who_is_deleted_at_any_moment_of_an_answer_leaves_nothing(case: Case, begins: str):
    others = RequestContext(principal=Principal("eve", tenant="school"))
    await case.plain.save_thread(ck.ThreadMetadata(id="thr_1", created_at=utc_now()), others)
    before = await held(case.plain, others)
    happened = 0

    for moment in range(1, MOMENTS):
        ada = Principal(f"ada {moment}", tenant="school")
        ids = await case.prepare(ada)
        body = asking(None if begins == "a new thread" else ids["thread"], ids["file"])
        if not await case.ask(ada, body, partial(delete_user, case.plain, case.files, ada), moment):
            break
        happened += 1
        assert await held(case.plain, RequestContext(principal=ada)) == {kind: [] for kind in KINDS}, moment
        assert not await case.files.holds(ids["file"], RequestContext(principal=ada))

    assert 10 < happened < MOMENTS - 1
    assert await held(case.plain, others) == before


async def test_a_thread_that_is_deleted_at_any_moment_of_an_answer_does_not_come_back(case: Case):
    happened = 0

    for moment in range(1, MOMENTS):
        ada = Principal(f"ada {moment}", tenant="school")
        await case.prepare(ada)
        context = RequestContext(principal=ada)

        async def delete(context: RequestContext = context) -> None:
            for id_ in ("thr_1", "thr_notes"):
                await case.plain.delete_thread(id_, context)

        if not await case.ask(ada, asking("thr_1", None), delete, moment):
            break
        happened += 1
        left = await held(case.plain, context)
        assert not {"thr_1", "thr_notes"} & {row["id"] for row in left["threads"]}, moment
        assert not {"thr_1", "thr_notes"} & {row["thread_id"] for row in left["items"]}, moment

    assert 10 < happened < MOMENTS - 1
