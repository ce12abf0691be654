"""The documentation of libraries, over both of Context7's interfaces, and what is done when it gives nothing."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from chatkit_rag.agent.context7_mcp import Context7Mcp
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import LibraryPassage
from chatkit_rag.retrieval.retriever import Retrieved
from chatkit_rag.sources.context7 import Context7
from chatkit_rag.sources.library_docs import LibraryDocsOptions, LibraryDocsSource
from chatkit_rag.sources.together import search_together
from context7_server import CODE, EXPLAINED, ROS, SOURCE, Context7Server

pytestmark = pytest.mark.anyio

ADA = RequestContext(principal=Principal("ada"))
QUESTION = "Which QoS policies match in ROS 2?"


@pytest.fixture
def context7() -> Iterator[Context7Server]:
    with Context7Server() as server:
        yield server


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(source: LibraryDocsSource) -> AsyncIterator[LibraryDocsSource]:
    await source.open()
    try:
        yield source
    finally:
        await source.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["http", "mcp"])
async def source(
    request: pytest.FixtureRequest, context7: Context7Server, clock: Clock
) -> AsyncIterator[LibraryDocsSource]:
    """Context7 over each of its interfaces."""
    over = {"http": Context7(api_key="key", url=context7.api), "mcp": Context7Mcp(api_key="key", url=context7.mcp)}
    async with opened(LibraryDocsSource(over[request.param], clock=clock)) as source:
        yield source


@pytest.fixture
async def over_http(context7: Context7Server, clock: Clock) -> AsyncIterator[LibraryDocsSource]:
    async with opened(LibraryDocsSource(Context7(api_key="key", url=context7.api), clock=clock)) as source:
        yield source


async def test_a_hit_gives_passages_of_the_library_with_their_addresses(source: LibraryDocsSource):
    found = await source.search(QUESTION, ADA)

    passages = [hit.passage for hit in found.hits]
    assert not found.weak
    assert [(passage.type, passage.url) for passage in passages] == [
        ("library_docs", SOURCE),
        ("library_docs", f"{SOURCE}#_snippet_0"),
    ]
    assert [passage.library for passage in passages if isinstance(passage, LibraryPassage)] == ["ros2", "ros2"]
    assert passages[0].text == EXPLAINED
    assert passages[1].text == f"Asks for best effort.\n\n```python\n{CODE}\n```"
    assert passages[1].heading == "Set a policy"


async def test_the_library_is_the_first_that_is_called_so_and_is_found_out_once(
    source: LibraryDocsSource, context7: Context7Server
):
    for question in (QUESTION, "What is a ROS 2 action?"):
        await source.search(question, ADA)

    assert [asked.get("libraryId", asked.get("libraryName")) for asked in context7.asked] == ["ros2", ROS, ROS]


async def test_a_site_s_own_id_is_not_looked_up(context7: Context7Server):
    service = Context7(url=context7.api)
    async with opened(LibraryDocsSource(service, libraries={"ros2": "/ros2/docs/jazzy"})) as source:
        await source.search(QUESTION, ADA)

    assert [asked["libraryId"] for asked in context7.asked] == ["/ros2/docs/jazzy"]
    assert context7.keys == [""]


async def test_the_same_question_is_asked_once_while_it_is_remembered(
    source: LibraryDocsSource, context7: Context7Server, clock: Clock
):
    once = await source.search(QUESTION, ADA)
    again = await source.search(QUESTION.lower() + " ", ADA)
    questions = len(context7.asked)
    clock.now += LibraryDocsOptions().remembered_seconds + 1
    await source.search(QUESTION, ADA)

    assert [hit.passage.id for hit in again.hits] == [hit.passage.id for hit in once.hits]
    assert (questions, len(context7.asked)) == (2, 3)


async def test_many_who_ask_the_same_at_once_are_one_question_and_one_who_leaves_is_not_missed(
    over_http: LibraryDocsSource, context7: Context7Server
):
    asking = [asyncio.ensure_future(over_http.search(QUESTION, ADA)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking[1:])

    assert {len(one.hits) for one in found} == {2}
    assert len(context7.asked) == 2


async def test_what_is_asked_for_is_given_up_when_the_source_is_closed(context7: Context7Server):
    context7.hangs = True
    source = LibraryDocsSource(Context7(url=context7.api))
    before = asyncio.all_tasks()
    asking = asyncio.ensure_future(source.search(QUESTION, ADA))
    await asyncio.sleep(0)

    async with asyncio.timeout(1):
        await source.close()
        await asyncio.wait([asking])

    assert asking.cancelled()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("question", ["What is inertia?", "How does torch train?"])
async def test_what_names_no_library_and_what_is_not_known_is_a_miss(source: LibraryDocsSource, question: str):
    assert await source.search(question, ADA) == Retrieved()


async def test_a_reader_may_do_without(source: LibraryDocsSource, context7: Context7Server):
    without = RequestContext(principal=Principal("ada"), metadata={"use_library_docs": False})

    assert await source.search(QUESTION, without) == Retrieved()
    assert context7.asked == []


async def test_a_service_that_hangs_is_waited_for_so_long_and_after_three_times_left_alone(
    request: pytest.FixtureRequest, context7: Context7Server
):
    context7.hangs = True
    for service in (Context7(url=context7.api), Context7Mcp(url=context7.mcp)):
        options = LibraryDocsOptions(seconds=0.5)
        async with opened(LibraryDocsSource(service, options=options)) as source:
            context7.asked.clear()
            for number in range(4):
                begun = asyncio.get_running_loop().time()
                assert await source.search(f"{QUESTION} {number}", ADA) == Retrieved()
                assert asyncio.get_running_loop().time() - begun < 5.0
        assert len(context7.asked) == 3


async def test_a_quota_is_honoured_for_as_long_as_it_lasts(
    over_http: LibraryDocsSource, context7: Context7Server, clock: Clock
):
    context7.status, context7.headers = 429, {"Retry-After": "3600"}
    await over_http.search(QUESTION, ADA)
    context7.status = 200

    clock.now = 3_599
    early = await over_http.search(QUESTION, ADA)
    clock.now = 3_601
    later = await over_http.search(QUESTION, ADA)

    assert (early.weak, later.weak) == (True, False)
    assert len(context7.asked) == 3


@pytest.mark.parametrize(
    ("status", "questions"),
    [(401, 1), (402, 1), (403, 1), (429, 1), (404, 4), (422, 4), (202, 4), (301, 4), (500, 3), (503, 3)],
)
async def test_what_it_answers_decides_whether_it_is_asked_again(
    over_http: LibraryDocsSource, context7: Context7Server, status: int, questions: int
):
    context7.status, context7.headers = status, {"Location": f"{context7.api}/elsewhere"}

    for library in ("ros", "torch", "tf", "cv2"):
        assert await over_http.search(f"What is {library}?", ADA) == Retrieved()

    assert len(context7.asked) == questions


@pytest.mark.parametrize(
    "text",
    [
        "Rate limited or quota exceeded. Create a free API key.",
        "Invalid API key. Please check your API key. API keys should start with 'ctx7sk' prefix.",
    ],
)
async def test_a_refusal_in_words_is_one(context7: Context7Server, clock: Clock, text: str):
    context7.text = text
    async with opened(LibraryDocsSource(Context7Mcp(url=context7.mcp), clock=clock)) as source:
        found = [await source.search(f"{QUESTION} {number}", ADA) for number in range(3)]
        asked = len(context7.asked)
        context7.text, clock.now = None, 61.0

        context7.asked.clear()
        later = await source.search("cv2 or ros2?", ADA)

    assert found == [Retrieved()] * 3
    assert asked == 1
    assert not later.weak


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>", {}),
        (b"[]", {}),
        (b'{"results": 7}', {}),
        (b'{"results": []}' + b" " * 2_000_000, {}),
        (gzip.compress(b'{"results": []}' + b" " * 50_000_000), {"Content-Encoding": "gzip"}),
    ],
)
async def test_an_answer_that_is_none_or_too_large_is_not_taken(
    over_http: LibraryDocsSource, context7: Context7Server, body: bytes, headers: dict[str, str], caplog
):
    context7.body, context7.headers = body, headers

    assert await over_http.search(QUESTION, ADA) == Retrieved()
    assert "cannot be looked into" in caplog.text


async def test_a_server_that_is_not_there_is_a_miss_and_found_when_it_comes(clock: Clock):
    with Context7Server() as gone:
        pass
    service = Context7Mcp(url=gone.mcp, retry_seconds=0.0)
    async with opened(LibraryDocsSource(service, clock=clock)) as source:
        missed = await source.search(QUESTION, ADA)
        with Context7Server(port=gone.port):
            async with asyncio.timeout(10):
                while (found := await source.search(QUESTION, ADA)).weak:
                    clock.now += 60
                    await asyncio.sleep(0.01)

    assert missed == Retrieved()
    assert len(found.hits) == 2


async def test_a_long_snippet_is_cut_at_a_line(context7: Context7Server):
    context7.text = f"### Long\n\nSource: {SOURCE}\n\n" + "word word word\n" * 100
    service = Context7Mcp(url=context7.mcp)
    options = LibraryDocsOptions(characters=100)
    async with opened(LibraryDocsSource(service, libraries={"ros2": ROS}, options=options)) as source:
        found = await source.search(QUESTION, ADA)

    assert found.hits[0].passage.text == "\n".join(["word word word"] * 6)


class Meeting:
    """A source that finds something only while the other one is searching, too."""

    def __init__(self, barrier: asyncio.Barrier) -> None:
        self.barrier = barrier

    async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
        await self.barrier.wait()
        return Retrieved(weak=False)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...


async def test_all_sources_are_searched_at_the_same_time():
    barrier = asyncio.Barrier(2)

    async with asyncio.timeout(5):
        found = await search_together([Meeting(barrier), Meeting(barrier)], "?", ADA)

    assert not found.weak


async def test_where_the_first_source_fails_no_other_goes_on_searching():
    class Failing(Meeting):
        async def search(self, question: str, context: RequestContext, *, limit: int | None = None) -> Retrieved:
            await asyncio.sleep(0)
            raise OSError

    before = asyncio.all_tasks()
    with pytest.raises(OSError):
        await search_together([Failing(asyncio.Barrier(2)), Meeting(asyncio.Barrier(2))], "?", ADA)

    assert asyncio.all_tasks() == before
