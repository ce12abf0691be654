from collections.abc import AsyncIterator, Iterator

import pytest

from chatkit_rag import ChatApp, CourseSource, EdgeIndex, MemoryStore, Principal, RagChatServer
from chatkit_rag.agent.models import choose_model
from chatkit_rag.testing import FakeModelServer, Fault, ProtocolClient, ToolCall

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    with FakeModelServer(answer="A robot that senses and acts [1].") as model:
        yield model


@pytest.fixture
async def client(model: FakeModelServer) -> AsyncIterator[ProtocolClient]:
    """A reader of a chat whose model is the fake one."""
    chosen = choose_model("fake", api_key="none", base_url=model.base_url)
    server = RagChatServer(MemoryStore(), sources=[CourseSource(EdgeIndex(".chatkit-rag/index"))], model=chosen)
    chat = ChatApp(server, authenticate=lambda _connection: Principal("ada"))
    async with chat.lifespan(), ProtocolClient("/", app=chat) as client:
        yield client


async def test_the_model_searches_again_before_it_answers(client: ProtocolClient, model: FakeModelServer) -> None:
    model.script = [ToolCall("search_course", {"query": "sensors"}), "It senses and acts [1]."]

    answer = await client.create_thread("What is Physical AI?")

    assert answer.text == "It senses and acts."
    assert len(model.requests) == 2


async def test_what_was_said_before_the_model_broke_off_is_kept(client: ProtocolClient, model: FakeModelServer) -> None:
    model.fault = Fault("cut", after=2)

    answer = await client.create_thread("What is Physical AI?")

    assert model.fired == {"cut": 1}
    assert ("".join(answer.deltas), len(answer.errors)) == ("A robot", 1)
