from collections.abc import AsyncIterator

import pytest

from chatkit_rag import ChatApp, CourseSource, EdgeIndex, MemoryStore, Principal, RagChatServer
from chatkit_rag.testing import ChatServerContract, ProtocolClient


@pytest.fixture
async def client() -> AsyncIterator[ProtocolClient]:
    """A reader called ada, of a chat without threads."""
    server = RagChatServer(MemoryStore(), sources=[CourseSource(EdgeIndex(".chatkit-rag/index"))])
    chat = ChatApp(server, authenticate=lambda connection: Principal(connection.headers["x-reader"]))
    async with chat.lifespan(), ProtocolClient("/", app=chat, headers={"X-Reader": "ada"}) as client:
        yield client


@pytest.mark.anyio
async def test_an_answer_cites_the_heading_that_it_is_from(client: ProtocolClient) -> None:
    answer = await client.create_thread("What is Physical AI?")

    assert answer.annotations[0].source.url.endswith("/what-is-physical-ai#what-is-physical-ai")


class TestChat(ChatServerContract):
    question = "What is Physical AI?"
    capabilities = frozenset({"retry", "clean_errors", "aware_times", "clamped_limits", "owners"})

    @pytest.fixture
    def other_client(self, client: ProtocolClient) -> ProtocolClient:
        return client.with_options(headers={"X-Reader": "grace"})
