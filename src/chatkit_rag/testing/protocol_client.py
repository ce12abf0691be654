"""`ProtocolClient`: ChatKit's sixteen operations over HTTP, for the tests of any ChatKit server.

It is a strict client: what is not the protocol is a `ProtocolViolation`, where a browser's client would shrug.
"""

from collections.abc import Mapping
from copy import copy
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from chatkit.actions import Action
from chatkit.types import (
    Attachment,
    FeedbackKind,
    InferenceOptions,
    Page,
    StructuredInputSubmission,
    SyncCustomActionResponse,
    Thread,
    ThreadItem,
    TranscriptionResult,
    UserMessageContent,
    UserMessageInput,
    UserMessageTextContent,
)
from pydantic import TypeAdapter
from starlette.types import ASGIApp

from chatkit_rag.testing.endpoint import Endpoint, as_served
from chatkit_rag.testing.streamed_answer import StreamedAnswer

_THREAD = TypeAdapter(Thread)
_THREADS = TypeAdapter(Page[Thread])
_ITEMS: TypeAdapter[Page[ThreadItem]] = TypeAdapter(Page[ThreadItem])
_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)
_ACTION_RESPONSE = TypeAdapter(SyncCustomActionResponse)
_TRANSCRIPTION = TypeAdapter(TranscriptionResult)
_NOTHING = TypeAdapter(dict[str, Any])


class ProtocolClient:
    """A client of one ChatKit endpoint.

        async with ProtocolClient("http://127.0.0.1:8000/api/chatkit", token="…") as client:
            answer = await client.create_thread("What is a node?")
            assert answer.annotations

    Operations that stream return a `StreamedAnswer`, the others ChatKit's own types. All of them raise:

    - `Refused`: the server answered 400 or above.
    - `ProtocolViolation`: it answered something that is not the protocol.
    """

    def __init__(
        self,
        url: str,
        *,
        app: ASGIApp | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
    ) -> None:
        """A client; nothing is sent before its first operation.

        Args:
            url: the endpoint; a path is enough with `app`.
            app: an ASGI app to call without a network. Its answers are buffered: they arrive when they are complete,
                and leaving one is not noticed. What is about streaming needs a server, and its URL. The app's
                lifespan is not run.
            token: sent as `Authorization: Bearer …`.
            headers: sent with every request.
            metadata: sent as every request's `metadata`.
            timeout: seconds to wait for a connection, and for each piece of an answer.
        """
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=as_served(app)) if app is not None else None,
            base_url="http://localhost" if app is not None else "",
            timeout=timeout,
            follow_redirects=True,
        )
        self._endpoint = Endpoint(http=http, url=url).adding(_headers(headers, token=token), metadata or {})

    def with_options(
        self,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Self:
        """A client of the same endpoint, over the same connections, that sends this besides, or instead.

        Closing either closes both.
        """
        more = _headers(headers, token=token, idempotency_key=idempotency_key)
        other = copy(self)
        other._endpoint = self._endpoint.adding(more, metadata or {})  # noqa: SLF001 - it is of this very class
        return other

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._endpoint.http.aclose()

    def create_thread(self, message: str | UserMessageInput) -> StreamedAnswer:
        """`threads.create`: a new thread with its first message, and the answer."""
        return self._endpoint.stream("threads.create", input=_message(message))

    def add_user_message(self, thread_id: str, message: str | UserMessageInput) -> StreamedAnswer:
        """`threads.add_user_message`: the next message of a thread, and the answer."""
        return self._endpoint.stream("threads.add_user_message", thread_id=thread_id, input=_message(message))

    def add_client_tool_output(self, thread_id: str, result: Any) -> StreamedAnswer:
        """`threads.add_client_tool_output`: what the client's tool returned (JSON), and how the answer goes on."""
        return self._endpoint.stream("threads.add_client_tool_output", thread_id=thread_id, result=result)

    def add_structured_input(self, thread_id: str, item_id: str, answers: StructuredInputSubmission) -> StreamedAnswer:
        """`threads.add_structured_input`: the reader's answers to questions, and how the answer goes on."""
        return self._endpoint.stream(
            "threads.add_structured_input", thread_id=thread_id, item_id=item_id, input=answers
        )

    def retry_after_item(self, thread_id: str, item_id: str) -> StreamedAnswer:
        """`threads.retry_after_item`: another answer to a message."""
        return self._endpoint.stream("threads.retry_after_item", thread_id=thread_id, item_id=item_id)

    def custom_action(self, thread_id: str, action: Action[str, Any], item_id: str | None = None) -> StreamedAnswer:
        """`threads.custom_action`: what a widget's button does, streamed."""
        return self._endpoint.stream(
            "threads.custom_action", thread_id=thread_id, action=action, **_given(item_id=item_id)
        )

    async def sync_custom_action(
        self, thread_id: str, action: Action[str, Any], item_id: str | None = None
    ) -> SyncCustomActionResponse:
        """`threads.sync_custom_action`: what a widget's button does, as one changed item."""
        params = _given(item_id=item_id)
        return await self._endpoint.call(
            _ACTION_RESPONSE, "threads.sync_custom_action", thread_id=thread_id, action=action, **params
        )

    async def get_thread(self, thread_id: str) -> Thread:
        """`threads.get_by_id`: the thread with a page of its items."""
        return await self._endpoint.call(_THREAD, "threads.get_by_id", thread_id=thread_id)

    async def list_threads(
        self, *, limit: int | None = None, order: Literal["asc", "desc"] = "desc", after: str | None = None
    ) -> Page[Thread]:
        """`threads.list`: a page of the reader's threads."""
        return await self._endpoint.call(_THREADS, "threads.list", order=order, **_given(limit=limit, after=after))

    async def list_items(
        self,
        thread_id: str,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Page[ThreadItem]:
        """`items.list`: a page of a thread's items."""
        params = _given(limit=limit, after=after)
        return await self._endpoint.call(_ITEMS, "items.list", thread_id=thread_id, order=order, **params)

    async def update_thread(self, thread_id: str, title: str) -> Thread:
        """`threads.update`: another title."""
        return await self._endpoint.call(_THREAD, "threads.update", thread_id=thread_id, title=title)

    async def delete_thread(self, thread_id: str) -> None:
        """`threads.delete`: the thread and all that is in it."""
        await self._endpoint.call(_NOTHING, "threads.delete", thread_id=thread_id)

    async def give_feedback(self, thread_id: str, item_ids: list[str], kind: FeedbackKind) -> None:
        """`items.feedback`: thumbs for messages of a thread."""
        await self._endpoint.call(_NOTHING, "items.feedback", thread_id=thread_id, item_ids=item_ids, kind=kind)

    async def create_attachment(self, name: str, *, size: int, mime_type: str) -> Attachment:
        """`attachments.create`: announces a file of `size` bytes."""
        return await self._endpoint.call(_ATTACHMENT, "attachments.create", name=name, size=size, mime_type=mime_type)

    async def delete_attachment(self, attachment_id: str) -> None:
        """`attachments.delete`: takes a file back."""
        await self._endpoint.call(_NOTHING, "attachments.delete", attachment_id=attachment_id)

    async def transcribe(self, audio_base64: str, *, mime_type: str) -> TranscriptionResult:
        """`input.transcribe`: speech to text."""
        return await self._endpoint.call(
            _TRANSCRIPTION, "input.transcribe", audio_base64=audio_base64, mime_type=mime_type
        )

    async def send(self, body: bytes) -> httpx.Response:
        """Any bytes as a request, with this client's headers; whatever is answered, read to its end."""
        return await self._endpoint.send(body)


def _headers(
    headers: Mapping[str, str] | None, *, token: str | None, idempotency_key: str | None = None
) -> dict[str, str]:
    authorization = None if token is None else f"Bearer {token}"
    return {**(headers or {}), **_given(**{"Authorization": authorization, "Idempotency-Key": idempotency_key})}


def _message(message: str | UserMessageInput) -> UserMessageInput:
    if isinstance(message, UserMessageInput):
        return message
    content: list[UserMessageContent] = [UserMessageTextContent(text=message)]
    return UserMessageInput(content=content, attachments=[], inference_options=InferenceOptions())


def _given(**params: Any) -> dict[str, Any]:
    """The parameters that have a value: what is optional in the protocol is left out, not null."""
    return {name: value for name, value in params.items() if value is not None}
