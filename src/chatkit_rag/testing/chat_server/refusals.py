"""What cannot be done, and how that is told."""

from collections.abc import Awaitable, Callable

import pytest

from chatkit_rag.testing.chat_server.part import Part, assert_refused
from chatkit_rag.testing.contract import requires
from chatkit_rag.testing.endpoint import Refused
from chatkit_rag.testing.protocol_client import ProtocolClient
from chatkit_rag.testing.streamed_answer import StreamedAnswer

_NO_REQUESTS = {
    "nothing": b"",
    "half of JSON": b'{"type": "threads.create", ',
    "no object": b"[]",
    "an unknown operation": b'{"type": "threads.levitate", "params": {}}',
    "missing parameters": b'{"type": "threads.create"}',
    "a parameter of the wrong type": b'{"type": "threads.get_by_id", "params": {"thread_id": 1}}',
    "bytes that are no text": b'{"type": "\xff"}',
}
_NOWHERE = "thr_that_is_not_there"
_READING: dict[str, Callable[[ProtocolClient], Awaitable[object]]] = {
    "threads.get_by_id": lambda client: client.get_thread(_NOWHERE),
    "items.list": lambda client: client.list_items(_NOWHERE),
    "threads.update": lambda client: client.update_thread(_NOWHERE, "A title"),
}
_STREAMING: dict[str, Callable[[ProtocolClient], StreamedAnswer]] = {
    "threads.add_user_message": lambda client: client.add_user_message(_NOWHERE, "Hello?"),
    "threads.retry_after_item": lambda client: client.retry_after_item(_NOWHERE, "msg_that_is_not_there"),
    "threads.add_client_tool_output": lambda client: client.add_client_tool_output(_NOWHERE, {}),
}


class Refusals(Part):
    """What cannot be done, and how that is told."""

    @requires("clean_errors")
    @pytest.mark.parametrize("body", _NO_REQUESTS.values(), ids=_NO_REQUESTS)
    async def test_a_body_that_is_no_request_is_a_mistake_of_the_client_s(
        self, client: ProtocolClient, body: bytes
    ) -> None:
        response = await client.send(body)

        assert 400 <= response.status_code < 500
        assert "Traceback" not in response.text

    @requires("clean_errors")
    @pytest.mark.parametrize("operation", _READING)
    async def test_a_thread_that_is_not_there_is_not_found(self, client: ProtocolClient, operation: str) -> None:
        with pytest.raises(Refused) as refused:
            await _READING[operation](client)

        assert refused.value.status == 404

    @requires("clean_errors")
    @pytest.mark.parametrize("operation", _STREAMING)
    async def test_a_thread_that_is_not_there_never_breaks_a_stream(
        self, client: ProtocolClient, operation: str
    ) -> None:
        await assert_refused(_STREAMING[operation](client))

        assert (await client.list_threads()).data == []
