"""`EdgeIndex`: searching while others publish, and what happens to files that are not as they were written."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from chatkit_rag.documents import Document, Passage, Section
from chatkit_rag.errors import IndexError_, IndexUnreadable
from chatkit_rag.retrieval import edge, edge_generation, edge_slices, generations, knowledge
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.generations import Generations
from chatkit_rag.retrieval.index import Matches
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.testing.index_contract import WordsEmbedder
from small_disk import Ballast, small_disk

pytestmark = pytest.mark.anyio

PAGES = {
    "/nodes": ("Nodes", "A node is a process that does one thing in a robot."),
    "/topics": ("Topics", "Nodes send messages over a topic; any number of nodes may subscribe."),
    "/gait": ("Gait", "Walking has a double support phase and a swing phase."),
    "/quaternions": ("Quaternions", "A quaternion describes an orientation without gimbal lock."),
}


def passage(path: str, title: str, text: str, *, site: str = "", number: int = 0) -> Passage:
    return Passage(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{site}{path}{number}")),
        path=path,
        anchor="",
        title=title,
        heading_path=(title,),
        text=text,
        url=f"https://course.test{path}",
        site=site,
        metadata={"week": 1, "deep": {"list": [1, None, "\N{SNOWMAN}"]}},
    )


def course(pages: dict[str, tuple[str, str]], *, site: str = "") -> tuple[list[PageRecord], list[Passage]]:
    records = [
        PageRecord.of(
            Document(path=path, title=title, sections=(Section(heading_path=(title,), blocks=(text,)),)),
            site=site,
            base_url="https://course.test",
        )
        for path, (title, text) in pages.items()
    ]
    return records, [passage(path, title, text, site=site) for path, (title, text) in pages.items()]


def paths(matches: Matches) -> list[str]:
    return [hit.passage.path for hit in matches.hits]


def copies(folder: Path) -> list[Path]:
    return list(folder.glob(f"{generations._PREFIX_OF_OWN}*"))


class Gate:
    """A function that is not carried out until the test has looked at what happens meanwhile."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._begun, self._open = threading.Event(), threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self._begun.set()
        assert self._open.wait(20)
        return self._function(*arguments)

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[None]:
        """While somebody stands before it."""
        try:
            async with asyncio.timeout(10):
                assert await asyncio.to_thread(self._begun.wait, 10)
                yield
        finally:
            self._open.set()


@pytest.fixture(autouse=True)
def _apart(temporary: Path) -> None:
    """Private copies go to a folder of this test's own."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
async def index(folder: Path) -> AsyncIterator[EdgeIndex]:
    """An index of the four pages."""
    async with EdgeIndex(folder) as opened:
        await opened.publish(*course(PAGES))
        await opened.open()
        yield opened


PUBLISHER = """
import asyncio, json, sys
from chatkit_rag.documents import Document, Passage
from chatkit_rag.retrieval import knowledge
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.manifest import PageRecord

folder, pages, stop_half_way = sys.argv[1], json.loads(sys.argv[2]), len(sys.argv) > 3
records = [
    PageRecord.of(Document(path=page["path"], title=page["title"], sections=()), site="", base_url="") for page in pages
]
passages = [Passage(**(page | {"heading_path": tuple(page["heading_path"])})) for page in pages]

dump = knowledge.dump_records
def wait_then_dump(records):
    if stop_half_way:
        print("half way", flush=True)
        sys.stdin.readline()
    return dump(records)
knowledge.dump_records = wait_then_dump

async def main():
    async with EdgeIndex(folder) as index:
        print(await index.publish(records, passages), flush=True)

asyncio.run(main())
"""


READER = """
import asyncio, sys
from chatkit_rag.retrieval.edge import EdgeIndex

index = EdgeIndex(sys.argv[1])
asyncio.run(index.open())
print("ready", flush=True)
sys.stdin.readline()
"""


def publisher(folder: Path, passages: Sequence[Passage], *arguments: str) -> subprocess.Popen[str]:
    """Another process that publishes the passages."""
    pages = json.dumps(
        [{name: getattr(passage, name) for name in Passage.__dataclass_fields__} for passage in passages]
    )
    command = [sys.executable, "-c", PUBLISHER, str(folder), pages, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestSearching:
    @pytest.mark.parametrize(
        ("question", "path"),
        [
            ("what is a node", "/nodes"),
            ("How can I subscribe to messages?", "/topics"),
            ("double support", "/gait"),
            ("whta is a quaternoin", "/quaternions"),
        ],
    )
    async def test_the_passage_that_answers_comes_first(self, index: EdgeIndex, question: str, path: str):
        matches = await index.search(question)

        assert paths(matches)[0] == path
        assert [hit.score for hit in matches.hits] == sorted((hit.score for hit in matches.hits), reverse=True)
        assert 0 < matches.confidence <= 1

    async def test_a_passage_comes_back_as_it_was_published(self, index: EdgeIndex):
        [published] = [passage for passage in course(PAGES)[1] if passage.path == "/gait"]

        assert (await index.search("gait")).hits[0].passage == published

    async def test_asking_again_gives_the_same_again(self, index: EdgeIndex):
        first = await index.search("nodes and messages")

        assert await index.search("nodes and messages") == first
        assert (await index.search("nodes and messages", limit=1)).hits == first.hits[:1]

    @pytest.mark.parametrize(
        "question", ["", "   ", "?!", "the of and", "zeppelin", "\x00", "\N{SNOWMAN}", "a" * 20_000]
    )
    async def test_a_question_of_which_the_course_holds_nothing_finds_nothing(self, index: EdgeIndex, question: str):
        matches = await index.search(question)

        assert matches.hits == ()
        assert matches.confidence == 0

    async def test_no_more_than_the_limit_are_found(self, index: EdgeIndex):
        assert len((await index.search("node nodes robot quaternion gait", limit=2)).hits) == 2

    async def test_confidence_is_lower_where_less_of_the_question_is_held(self, index: EdgeIndex):
        whole = await index.search("double support phase")
        part = await index.search("double support zeppelin")

        assert whole.confidence == pytest.approx(1)
        assert part.confidence < whole.confidence

    async def test_a_heading_that_says_what_is_asked_wins(self, folder: Path):
        same = "The robot walks; walking needs a gait and a gait needs balance."
        pages = {"/a": ("Notes", same), "/b": ("Gait", same), "/c": ("Gait and many other things of no use", same)}
        async with EdgeIndex(folder) as index:
            await index.publish(*course(pages))

            assert paths(await index.search("gait"))[0] == "/b"

    async def test_equal_scores_come_in_the_order_of_their_ids(self, folder: Path):
        passages = [passage("/page", "Page", "A node is a process.", number=number) for number in range(40)]
        async with EdgeIndex(folder) as index:
            await index.publish([], passages)

            for _ in range(5):
                ids = [hit.passage.id for hit in (await index.search("node")).hits]
                assert ids == sorted(passage.id for passage in passages)

    async def test_a_large_course_is_searched_as_one_though_it_is_cut_into_slices(
        self, index: EdgeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(edge_slices, "_SLICE", 1)

        async with EdgeIndex(tmp_path / "cut") as cut:
            await cut.publish(*course(PAGES))
            assert len(list((tmp_path / "cut" / await cut.generation() / "slices").iterdir())) == len(PAGES)

            for question in ("node robot process", "a topic has messages", "double support phase of a robot"):
                whole, in_slices = await index.search(question, limit=3), await cut.search(question, limit=3)
                assert paths(in_slices) == paths(whole) != []
                assert [hit.score for hit in in_slices.hits] == pytest.approx([hit.score for hit in whole.hits])
                assert in_slices.confidence == whole.confidence

    async def test_a_course_in_another_language_is_searched_by_its_stems(self, folder: Path):
        async with EdgeIndex(folder, language="german") as index:
            await index.publish(*course({"/k": ("Knoten", "Die Knoten tauschen Nachrichten.")}))

            assert paths(await index.search("der Nachricht")) == ["/k"]
        async with EdgeIndex(folder) as index:  # the index knows its language
            assert paths(await index.search("der Nachricht")) == ["/k"]


class TestSites:
    @pytest.fixture
    async def two_sites(self, folder: Path) -> AsyncIterator[EdgeIndex]:
        first = course({"/nodes": ("Nodes", "A node is a process."), "/only": ("Only", "A node alone.")}, site="one")
        second = course({"/nodes": ("Nodes", "A node is a point of a graph.")}, site="two")
        async with EdgeIndex(folder) as index:
            await index.publish([*second[0], *first[0]], [*second[1], *first[1]])
            yield index

    async def test_a_search_stays_within_its_site(self, two_sites: EdgeIndex):
        for site in ("one", "two"):
            matches = await two_sites.search("node", where=Filter(site=site))
            assert {hit.passage.site for hit in matches.hits} == {site}
        assert (await two_sites.search("node", where=Filter(site="three"))).hits == ()
        assert {hit.passage.site for hit in (await two_sites.search("node")).hits} == {"one", "two"}

    async def test_a_page_is_the_sites_own(self, two_sites: EdgeIndex):
        for site, text in (("one", "A node is a process."), ("two", "A node is a point of a graph.")):
            page = await two_sites.page("/nodes", site=site)
            assert page is not None
            assert page.sections[0].blocks == (text,)
        assert await two_sites.page("/only", site="two") is None
        assert await two_sites.page("/only") is not None
        assert await two_sites.page("/nowhere") is None

    async def test_records_come_in_the_order_of_their_paths(self, two_sites: EdgeIndex):
        found = [(record.document.path, record.site) for record in await two_sites.records()]

        assert found == [("/nodes", "one"), ("/nodes", "two"), ("/only", "one")]
        assert {record.site for record in await two_sites.records(site="two")} == {"two"}


class TestPublishing:
    async def test_an_index_that_was_never_published_opens_empty(self, folder: Path):
        async with EdgeIndex(folder) as index:
            assert await index.search("node") == Matches()
            assert await index.page("/nodes") is None
            assert await index.records() == []
            assert await index.generation() == ""
        assert not folder.exists()

    async def test_a_generation_of_nothing_finds_nothing(self, folder: Path):
        async with EdgeIndex(folder) as index:
            assert await index.publish([], []) == "gen-1"
            assert await index.search("node") == Matches()
            assert await index.records() == []

    async def test_a_generation_is_exactly_what_was_published(self, index: EdgeIndex):
        assert await index.generation() == "gen-1"
        records, passages = course({"/new": ("New", "A zeppelin flies.")})

        assert await index.publish(records, passages) == "gen-2"

        assert await index.records() == records
        assert paths(await index.search("zeppelin node")) == ["/new"]
        assert await index.page("/nodes") is None

    async def test_more_passages_than_a_batch_are_all_there(self, folder: Path):
        passages = [passage("/page", "Page", f"The node number n{number}x.", number=number) for number in range(150)]
        async with EdgeIndex(folder) as index:
            await index.publish([], passages)

            assert len((await index.search("node", limit=200)).hits) == 150

    async def test_it_is_there_when_it_is_opened_again(self, index: EdgeIndex, folder: Path):
        before = await index.search("nodes and messages")
        await index.close()

        async with EdgeIndex(folder) as again:
            assert await again.search("nodes and messages") == before
            assert await again.records() == await index.records()

    async def test_an_error_leaves_the_current_as_it_was(self, index: EdgeIndex):
        before = await index.search("node")
        records, [broken] = course({"/new": ("New", "A zeppelin.")})

        with pytest.raises(Exception, match=r"(?i)uuid"):
            await index.publish(records, [Passage(**{**_fields(broken), "id": "no uuid"})])

        assert await index.generation() == "gen-1"
        assert await index.search("node") == before
        assert await index.publish(records, [broken]) == "gen-2"

    async def test_a_publisher_that_is_killed_leaves_the_current_as_it_was(self, index: EdgeIndex, folder: Path):
        before = await index.search("node")
        with publisher(folder, course({"/new": ("New", "A zeppelin.")})[1], "stop half way") as other:
            assert await asyncio.to_thread(other.stdout.readline) == "half way\n"
            other.kill()
            assert other.wait(10) == -signal.SIGKILL

        async with EdgeIndex(folder) as again:
            assert await again.search("node") == before
        assert await index.publish(*course({"/new": ("New", "A zeppelin.")})) == "gen-2"
        assert {path.name for path in folder.iterdir() if path.is_dir()} == {"gen-1", "gen-2"}

    async def test_while_one_publishes_another_is_told_to_wait(
        self, index: EdgeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(generations, "_PATIENCE", 0.2)
        with publisher(folder, course({"/new": ("New", "A zeppelin.")})[1], "stop half way") as other:
            try:
                assert await asyncio.to_thread(other.stdout.readline) == "half way\n"

                with pytest.raises(IndexError_, match="another process"):
                    await index.publish(*course(PAGES))
                assert paths(await index.search("node"))[0] == "/nodes"
            finally:
                other.kill()


def _fields(passage: Passage) -> dict[str, Any]:
    return {name: getattr(passage, name) for name in Passage.__dataclass_fields__}


class TestTakingOver:
    async def test_a_search_sees_what_another_process_published(self, index: EdgeIndex, folder: Path, temporary: Path):
        with publisher(folder, course({"/new": ("New", "A zeppelin flies.")})[1]) as other:
            name, _ = await asyncio.to_thread(other.communicate, timeout=20)

        assert name == "gen-2\n"
        assert paths(await index.search("zeppelin")) == ["/new"]
        assert await index.generation() == "gen-2"
        assert len(copies(temporary)) == 1

    async def test_an_index_that_was_opened_empty_sees_the_first_generation(self, folder: Path):
        async with EdgeIndex(folder) as reader, EdgeIndex(folder) as writer:
            assert await reader.search("node") == Matches()
            await writer.publish(*course(PAGES))

            assert paths(await reader.search("node"))[0] == "/nodes"

    async def test_an_index_that_was_removed_is_served_on_until_it_is_built_anew(self, index: EdgeIndex, folder: Path):
        shutil.rmtree(folder)
        assert paths(await index.search("node"))[0] == "/nodes"
        await asyncio.sleep(0.02)  # a clock that tells files apart may tick a hundred times a second

        async with EdgeIndex(folder) as other:
            assert await other.publish(*course({"/new": ("New", "A zeppelin flies.")})) == "gen-1"

        assert paths(await index.search("zeppelin")) == ["/new"]

    async def test_who_asks_while_a_new_one_is_opened_has_the_one_before(
        self, index: EdgeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        async with EdgeIndex(folder) as other:
            await other.publish(*course({"/new": ("New", "A zeppelin flies.")}))
        gate = Gate(edge_generation.PrivateCopy)
        monkeypatch.setattr(edge_generation, "PrivateCopy", gate)

        finding = asyncio.ensure_future(index.search("zeppelin"))
        async with gate.reached():
            assert paths(await index.search("node"))[0] == "/nodes"

        assert paths(await finding) == ["/new"]

    async def test_what_another_one_names_is_taken_over_while_this_one_builds(
        self, index: EdgeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        await index.publish(*course({"/new": ("New", "A zeppelin flies.")}))
        assert await index.generation() == "gen-2"
        gate = Gate(edge.build)
        monkeypatch.setattr(edge, "build", gate)

        building = asyncio.ensure_future(index.publish(*course(PAGES)))
        async with gate.reached():
            Generations(folder)._point_at("gen-1")  # as another builder does, which has the lock then
            assert paths(await index.search("node"))[0] == "/nodes"

        assert await building == "gen-3"

    @pytest.mark.parametrize("keep", [1, 2])
    async def test_searches_go_on_while_another_publishes(self, index: EdgeIndex, folder: Path, keep: int):
        published = asyncio.Event()
        searches = 0

        async def search() -> None:
            nonlocal searches
            while not published.is_set():
                matches = await index.search("node")
                page = await index.page("/nodes")
                assert paths(matches)[0] == "/nodes"
                assert page is not None
                searches += 1
                await asyncio.sleep(0)

        async def publish() -> None:
            async with EdgeIndex(folder, keep=keep) as other:
                for number in range(8):
                    await other.publish(*course(PAGES | {f"/new-{number}": ("New", "A node more.")}))
            published.set()

        await asyncio.gather(publish(), *(search() for _ in range(5)))

        assert await index.generation() == "gen-9"
        assert await index.page("/new-7") is not None
        assert searches > 8

    async def test_a_generation_that_is_removed_while_it_is_read_gives_way_to_the_next(
        self, index: EdgeIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        await index.publish(*course(PAGES))
        reader = EdgeIndex(folder)
        real = edge_generation.PrivateCopy
        overtaken: list[str] = []

        def overtake(shard: Path) -> Any:
            monkeypatch.setattr(edge_generation, "PrivateCopy", real)
            overtaken.append(asyncio.run(_publish(folder, {"/new": ("New", "A zeppelin flies.")}, keep=1)))
            return real(shard)

        monkeypatch.setattr(edge_generation, "PrivateCopy", overtake)
        try:
            assert paths(await reader.search("zeppelin")) == ["/new"]
            assert overtaken == ["gen-3"]
        finally:
            await reader.close()

    async def test_vectors_are_taken_of_one_that_was_taken_over_while_others_were_made(self, folder: Path):
        embedder = WordsEmbedder()
        records, passages = course(PAGES)
        async with EdgeIndex(folder, embedder=embedder) as index, EdgeIndex(folder, embedder=embedder) as other:
            await index.publish(records, passages)
            await index.open()
            kept = await index._kept_vectors()
            await other.publish(records, passages)
            assert await index.generation() == "gen-2"

            assert set(await kept([passage.id for passage in passages])) == {passage.id for passage in passages}


async def _publish(folder: Path, pages: dict[str, tuple[str, str]], *, keep: int) -> str:
    async with EdgeIndex(folder, keep=keep) as index:
        return await index.publish(*course(pages))


class TestWhatCannotBeOpened:
    """A new generation that cannot be had leaves a server with the one that it has."""

    @pytest.fixture(autouse=True)
    def tried_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(edge, "_TRY_AGAIN_SECONDS", 0)

    async def test_it_is_served_when_it_can_be_read_again(self, folder: Path, caplog: pytest.LogCaptureFixture):
        async with EdgeIndex(folder) as index, EdgeIndex(folder) as builder:
            await index.publish(*course({"/a": ("A", "An apple.")}))
            await index.search("apple")
            await builder.publish(*course({"/a": ("A", "A pear.")}))
            file = folder / "gen-2" / "lexicon.json"
            content = file.read_bytes()
            file.unlink()

            assert paths(await index.search("apple")) == ["/a"]
            assert "the index before is served: the index in" in caplog.text
            with pytest.raises(IndexUnreadable):
                await index.activate("gen-2")

            file.write_bytes(content)
            assert paths(await index.search("pear")) == ["/a"]

    async def test_a_pointer_that_cannot_be_read_leaves_what_is_open(
        self, index: EdgeIndex, folder: Path, caplog: pytest.LogCaptureFixture
    ):
        (folder / "CURRENT").write_bytes(b"")

        for _ in range(2):
            assert paths(await index.search("node"))[0] == "/nodes"

        assert caplog.text.count("the index that is open is served: the index in") == 1
        await index.publish(*course({"/new": ("New", "A zeppelin flies.")}))
        assert paths(await index.search("zeppelin")) == ["/new"]

    async def test_a_full_disk_does_not_end_the_server(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        with small_disk(megabytes=60) as disk:
            monkeypatch.setattr(tempfile, "tempdir", str(disk))
            ballast = Ballast(disk / "ballast")
            async with EdgeIndex(folder) as index, EdgeIndex(folder) as builder:
                await index.publish(*course({"/a": ("A", "An apple.")}))
                await index.search("apple")
                await builder.publish(*course({"/a": ("A", "A pear.")}))
                # There is room for a copy, and none for what the engine makes of it when it looks through its holes.
                reserve = disk / "reserve"
                reserve.write_bytes(bytes(1 << 20))
                await ballast.put()
                reserve.unlink()

                assert paths(await index.search("apple")) == ["/a"]
                with pytest.raises(IndexUnreadable, match="No space left on device"):
                    await index.publish(*course({"/a": ("A", "A plum.")}))

                await ballast.drop()
                assert paths(await index.search("plum")) == ["/a"]


class TestUnreadable:
    @pytest.fixture
    async def published(self, folder: Path) -> Path:
        async with EdgeIndex(folder) as index:
            await index.publish(*course(PAGES))
        return folder / "gen-1"

    @pytest.mark.parametrize("name", ["generation.json", "lexicon.json", "pages.jsonl"])
    @pytest.mark.parametrize("content", [None, b" ", b"{", b"{}", b"[]", b"null", b'"text"', b"\xff"])
    async def test_a_damaged_file_is_named_with_what_to_do_and_nothing_is_left_behind(
        self, published: Path, folder: Path, temporary: Path, name: str, content: bytes | None
    ):
        (published / name).unlink()
        if content is not None:
            (published / name).write_bytes(content)
        index = EdgeIndex(folder)

        with pytest.raises(IndexUnreadable) as caught:
            await index.open()
        with pytest.raises(IndexUnreadable):
            await index.search("node")
        await index.close()

        assert str(caught.value) == f"the index in {folder} is damaged; remove {folder} and index the pages again"
        assert copies(temporary) == []

    async def test_so_are_counts_that_are_not_whole(self, published: Path, folder: Path):
        lexicon = orjson.loads((published / "lexicon.json").read_bytes())
        (published / "lexicon.json").write_bytes(orjson.dumps(lexicon | {"phrases": lexicon["phrases"][1:]}))
        index = EdgeIndex(folder)

        with pytest.raises(IndexUnreadable, match="is damaged; remove"):
            await index.open()
        await index.close()

    async def test_so_are_the_engines_own_files(self, published: Path, folder: Path, temporary: Path):
        for file in (published / "slices").rglob("*.json"):
            file.write_text("{")
        index = EdgeIndex(folder)

        with pytest.raises(IndexUnreadable, match="is damaged; remove"):
            await index.open()
        await index.close()

        assert copies(temporary) == []

    async def test_so_is_what_the_engine_panics_at(self, published: Path, folder: Path, temporary: Path):
        for file in (published / "slices").rglob("status.dat"):
            file.write_bytes(b"")
        index = EdgeIndex(folder)

        with pytest.raises(IndexUnreadable, match="is damaged; remove"):
            await index.open()
        await index.close()

        assert copies(temporary) == []

    async def test_so_is_what_it_finds_out_when_it_is_asked(self, folder: Path):
        embedder = WordsEmbedder()
        async with EdgeIndex(folder, embedder=embedder) as index:
            await index.publish(*course(PAGES))
        for file in (folder / "gen-1" / "slices").rglob("chunk_0.mmap"):
            file.write_bytes(b"")

        async with EdgeIndex(folder, embedder=embedder) as index:
            with pytest.raises(IndexUnreadable, match="is damaged; remove"):
                await index.search("node", vector=await embedder.embed_query("node"))

    async def test_a_missing_generation_is_damage(self, published: Path, folder: Path):
        shutil.rmtree(published)

        with pytest.raises(IndexUnreadable, match="is damaged; remove"):
            async with EdgeIndex(folder):
                pytest.fail("it opened")

    async def test_publishing_anew_mends_it(self, published: Path, folder: Path):
        shutil.rmtree(published)

        index = EdgeIndex(folder)
        with pytest.raises(IndexUnreadable):
            await index.open()

        await index.publish(*course(PAGES))

        assert paths(await index.search("node"))[0] == "/nodes"
        await index.close()

    async def test_an_index_of_an_older_version_asks_to_be_built_anew(self, published: Path, folder: Path):
        about = json.loads((published / "generation.json").read_text())
        (published / "generation.json").write_text(json.dumps(about | {"format": knowledge.FORMAT - 1}))

        with pytest.raises(IndexUnreadable, match="older chatkit-rag; remove it, and index the pages again"):
            async with EdgeIndex(folder):
                pytest.fail("it opened")

    async def test_an_index_of_a_newer_version_asks_for_an_upgrade(self, published: Path, folder: Path):
        about = json.loads((published / "generation.json").read_text())
        (published / "generation.json").write_text(json.dumps(about | {"format": knowledge.FORMAT + 1}))

        with pytest.raises(IndexUnreadable, match="newer chatkit-rag; upgrade"):
            async with EdgeIndex(folder):
                pytest.fail("it opened")

    @pytest.mark.usefixtures("published")
    async def test_a_full_disk_is_not_called_damage(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
    ):
        def full(_source: str, _target: str) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(generations, "copy_ready", full)

        with pytest.raises(IndexUnreadable, match="No space left on device"):
            async with EdgeIndex(folder):
                pytest.fail("it opened")
        assert copies(temporary) == []


class TestLifecycle:
    async def test_closing_leaves_nothing_behind(self, folder: Path, temporary: Path):
        before = set(threading.enumerate())
        index = EdgeIndex(folder)
        await index.publish(*course(PAGES))
        for _ in range(3):
            await index.publish(*course(PAGES))
        await index.search("node")
        assert len(copies(temporary)) == 1

        await index.close()

        assert copies(temporary) == []
        assert set(threading.enumerate()) <= before
        assert [file for file in _open_files() if file.startswith(str(temporary))] == []

    @pytest.mark.usefixtures("index")
    async def test_an_index_that_cannot_be_opened_leaves_nothing_running(self, folder: Path):
        (folder / "gen-1" / "generation.json").unlink()
        before = set(threading.enumerate())

        with pytest.raises(IndexUnreadable):
            async with EdgeIndex(folder):
                pytest.fail("it opened")

        assert set(threading.enumerate()) <= before

    async def test_opening_and_closing_twice_is_as_doing_it_once(self, index: EdgeIndex, temporary: Path):
        await asyncio.gather(index.open(), index.open())
        assert len(copies(temporary)) == 1

        await asyncio.gather(index.close(), index.close())
        await index.close()

        assert copies(temporary) == []
        await index.open()
        assert paths(await index.search("node"))[0] == "/nodes"

    async def test_a_search_that_is_cancelled_while_the_index_opens_leaves_nothing_behind(
        self, index: EdgeIndex, folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
    ):
        await index.close()
        opening, go_on = threading.Event(), threading.Event()
        real = edge_generation.PrivateCopy

        def slow(shard: Path) -> Any:
            copy = real(shard)
            opening.set()
            go_on.wait(10)
            return copy

        monkeypatch.setattr(edge_generation, "PrivateCopy", slow)
        reader = EdgeIndex(folder)
        search = asyncio.ensure_future(reader.search("node"))
        await asyncio.to_thread(opening.wait, 10)
        assert len(copies(temporary)) == 1

        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        go_on.set()
        await reader.close()

        assert copies(temporary) == []

    @pytest.mark.usefixtures("index")
    async def test_it_opens_after_a_cancelled_search(self, folder: Path, temporary: Path):
        for turns in range(12):
            reader = EdgeIndex(folder)
            search = asyncio.ensure_future(reader.search("node"))
            for _ in range(turns):
                await asyncio.sleep(0.002)
            search.cancel()
            await asyncio.wait({search})

            assert paths(await reader.search("node"))[0] == "/nodes"
            await reader.close()
            assert len(copies(temporary)) == 1  # `index` has its own

    async def test_while_what_was_cancelled_is_built_to_its_end_closing_lets_others_go_on(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        building, go_on = threading.Event(), threading.Event()
        real = edge.build

        def slow(place: Path, content: Any) -> None:
            building.set()
            go_on.wait(10)
            real(place, content)

        monkeypatch.setattr(edge, "build", slow)
        index = EdgeIndex(folder)
        publishing = asyncio.ensure_future(index.publish(*course(PAGES)))
        await asyncio.to_thread(building.wait, 10)
        publishing.cancel()
        await asyncio.wait({publishing})

        closing = asyncio.ensure_future(index.close())
        await asyncio.sleep(0.01)

        assert not closing.done()
        go_on.set()
        await closing
        async with EdgeIndex(folder) as opened:
            assert paths(await opened.search("gait")) == ["/gait"]

    @pytest.mark.usefixtures("index")
    async def test_it_is_closed_also_when_its_scope_is_cancelled(self, folder: Path, temporary: Path):
        with anyio.CancelScope() as scope:
            async with EdgeIndex(folder) as reader:
                await reader.search("node")
                assert len(copies(temporary)) == 2
                scope.cancel()
                await anyio.sleep(10)

        assert scope.cancelled_caught
        assert len(copies(temporary)) == 1

    def test_one_index_serves_one_event_loop_after_another(self, folder: Path, temporary: Path):
        index = EdgeIndex(folder)

        async def use() -> list[str]:
            await index.publish(*course(PAGES))
            found = await asyncio.gather(*(index.search("node") for _ in range(5)))
            await index.close()
            await asyncio.gather(*(index.open() for _ in range(5)))
            await index.close()
            return paths(found[0])

        assert asyncio.run(use())[0] == "/nodes"
        assert asyncio.run(use())[0] == "/nodes"
        assert copies(temporary) == []

    @pytest.mark.usefixtures("index")
    async def test_the_copy_of_a_killed_process_is_swept_by_the_next(
        self, folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
    ):
        command = [sys.executable, "-c", READER, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
            assert len(copies(temporary)) == 2
            other.kill()
            other.wait(10)

        monkeypatch.setattr(generations, "_GRACE", 0.0)
        async with EdgeIndex(folder):
            assert len(copies(temporary)) == 2  # `index` and this one
        assert len(copies(temporary)) == 1


def _open_files() -> list[str]:
    """The paths of the files that this process holds open, where the system tells."""
    paths = []
    for number in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            paths.append(str(number.readlink()))
    return paths
