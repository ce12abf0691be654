"""A generation and its slices: written by this process or by others, they are the same."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatkit_rag.documents import Passage
from chatkit_rag.errors import IndexError_, IndexUnreadable
from chatkit_rag.retrieval import edge_building, edge_processes, edge_slices
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.edge_processes import SliceProcess
from chatkit_rag.retrieval.edge_slices import Share, SliceWriter
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.index import Matches
from chatkit_rag.retrieval.passage_file import PassageFile, write_passages
from chatkit_rag.testing.index.part import WordsEmbedder
from small_disk import Ballast, small_disk

pytestmark = pytest.mark.anyio

SUBJECTS = ("robot", "topic", "node", "gait", "camera", "battery", "planner", "joint")


def passages(number: int = 48) -> list[Passage]:
    """Passages of which each says something else, and no two as much."""
    return [
        Passage(
            id=f"00000000-0000-4000-8000-{position:012}",
            path=f"/page-{position // 4}",
            anchor=f"a{position // 2}",
            title=f"Page {position // 4}",
            heading_path=(f"Page {position // 4}", SUBJECTS[position // 2 % 8]),
            text=" ".join([SUBJECTS[position % 8]] * (1 + position % 5) + [f"word{position}", SUBJECTS[position % 3]]),
            url=f"/page-{position // 4}",
            site="course",
            metadata={"week": position % 3},
        )
        for position in range(number)
    ]


def found(matches: Matches) -> list[tuple[str, float]]:
    return [(hit.passage.id, pytest.approx(hit.score, rel=1e-5)) for hit in (*matches.hits, *matches.near)]


async def built(folder: Path, *, embedder: Any = None) -> EdgeIndex:
    index = EdgeIndex(folder, embedder=embedder)
    await index.publish([], passages())
    return index


@pytest.mark.parametrize("room", [0, 1 << 60])
async def test_what_other_processes_write_is_found_as_what_this_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
):
    here = await built(tmp_path / "here", embedder=WordsEmbedder())
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr(edge_processes, "_MEMORY", memory)
    monkeypatch.setattr(edge_processes, "_ROOM", room)
    monkeypatch.setattr(edge_building, "_FEW", 0)
    monkeypatch.setattr(edge_building, "_SHARE", 20)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    there = await built(tmp_path / "there", embedder=WordsEmbedder())

    try:
        for question in ("robot gait", "a node on topic word17", "camera battery of the planner"):
            vector = await WordsEmbedder().embed_query(question)
            for where in (None, Filter(week=1)):
                one = await here.search(question, vector=vector, limit=48, where=where)
                other = await there.search(question, vector=vector, limit=48, where=where)
                assert found(other) == found(one) != []
        assert len(list((tmp_path / "there" / "gen-1" / "slices").iterdir())) == 3
        beside = await there.around(passages()[18:22])
        assert beside == await here.around(passages()[18:22])
        assert [beside[one.id].before is not None for one in passages()[18:22]] == [False, True, False, True]
        assert list(memory.iterdir()) == []
    finally:
        await here.close()
        await there.close()


async def test_where_no_process_can_be_started_it_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise PermissionError

    monkeypatch.setattr(edge_building, "_FEW", 0)
    monkeypatch.setattr(edge_building, "_SHARE", 20)
    monkeypatch.setattr(edge_processes, "Popen", refuse)

    index = await built(tmp_path)

    assert (await index.search("word17")).hits[0].passage == passages()[17]
    await index.close()


@pytest.mark.parametrize("megabytes_left", [0, 1])
@pytest.mark.parametrize("memory", ["/dev/shm", "/nowhere"])
async def test_a_full_disk_leaves_the_index_as_it_was(
    monkeypatch: pytest.MonkeyPatch, megabytes_left: int, memory: str
):
    monkeypatch.setattr(edge_processes, "_MEMORY", Path(memory))
    with small_disk(megabytes=100) as disk:
        ballast = Ballast(disk / "ballast")
        index = await built(disk / "index")
        reserve = disk / "reserve"
        reserve.write_bytes(bytes(megabytes_left << 20))
        await ballast.put()
        reserve.unlink()

        with pytest.raises((IndexError_, OSError), match=r"[Nn]o space"):
            await index.publish([], passages(60))

        assert (await index.search("word17")).hits[0].passage == passages()[17]
        assert await index.generation() == "gen-1"
        await ballast.drop()
        await index.publish([], passages(60))
        assert (await index.search("word59")).hits[0].passage == passages(60)[59]
        await index.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits are set where systems have them")
async def test_what_the_engine_cannot_write_here_is_named_and_leaves_the_index_as_it_was(tmp_path: Path):
    import resource

    async with EdgeIndex(tmp_path / "index") as index:
        await index.publish([], passages())
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        try:
            with pytest.raises(IndexError_, match=r"the index cannot be written: .*File too large"):
                await index.publish([], passages())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert await index.generation() == "gen-1"
    assert {place.name for place in (tmp_path / "index").iterdir()} == {"CURRENT", "lock", "gen-1"}


async def test_a_slice_that_is_missing_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edge_slices, "_SLICE", 300)
    index = await built(tmp_path)
    await index.close()
    _, second, *_ = sorted((tmp_path / "gen-1" / "slices").iterdir())
    shutil.rmtree(second)

    with pytest.raises(IndexUnreadable, match="is damaged; remove"):
        await index.open()
    await index.close()


@pytest.mark.parametrize("content", [b"", b"half a li", b"no json at all\n" * 48])
async def test_so_are_passages_that_are_missing(tmp_path: Path, content: bytes):
    index = await built(tmp_path)
    await index.close()
    (tmp_path / "gen-1" / "passages.jsonl").write_bytes(content)

    with pytest.raises(IndexUnreadable, match="is damaged; remove"):
        await index.search("robot")
    await index.close()


class TestSliceProcess:
    @pytest.fixture
    def share(self, tmp_path: Path) -> Share:
        (tmp_path / "slices").mkdir()
        write_passages(tmp_path / "passages", passages())
        return Share(
            passages=tmp_path / "passages",
            rows=range(8),
            slices=tmp_path / "slices",
            language="english",
            dimension=0,
            has_sites=False,
            is_ordered=True,
        )

    def test_counts_what_this_process_counts(self, share: Share):
        with SliceProcess(share) as process:
            assert process.count() == SliceWriter(share).count()

    def test_says_why_passages_cannot_be_read(self, share: Share):
        share.passages.unlink()

        with SliceProcess(share) as process, pytest.raises(IndexError_, match="cannot be written: FileNotFoundError"):
            process.count()

    def test_says_why_a_slice_cannot_be_written(self, share: Share):
        (share.slices / "00000000").mkdir()

        with SliceProcess(share) as process:
            average_length = process.count().average_length
            with pytest.raises(IndexError_, match="cannot be written: FileExistsError"):
                process.write(average_length, [])

    @pytest.mark.parametrize("task", ["count", "write"])
    def test_says_so_when_it_is_killed(self, share: Share, task: str):
        with SliceProcess(share) as process:
            if task == "write":
                process.count()
            process._process.kill()
            with pytest.raises(IndexError_, match="cannot be written: exit status -9"):
                process.count() if task == "count" else process.write(1.0, [])

    def test_says_so_when_it_ends_within_its_answer(self, share: Share, monkeypatch: pytest.MonkeyPatch):
        answer = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(list(range(9)))[:-5])"
        monkeypatch.setattr(edge_processes, "_COMMAND", (sys.executable, "-c", answer))

        with SliceProcess(share) as process, pytest.raises(IndexError_, match="cannot be written: exit status 0"):
            process.count()

    @pytest.mark.skipif(not hasattr(os, "setpriority"), reason="priorities are set where systems have them")
    def test_is_gone_when_its_priority_cannot_be_set(self, share: Share, monkeypatch: pytest.MonkeyPatch):
        started: list[int] = []

        def refuse(_which: int, number: int, _priority: int) -> None:
            started.append(number)
            raise PermissionError

        monkeypatch.setattr(os, "setpriority", refuse)

        with pytest.raises(PermissionError):
            SliceProcess(share)

        with pytest.raises(ProcessLookupError):
            os.kill(started[0], 0)

    def test_is_gone_when_building_fails(self, share: Share):
        process = SliceProcess(share)

        with pytest.raises(ZeroDivisionError), process:
            raise ZeroDivisionError

        assert process._process.returncode == -9

    def test_writes_where_there_is_room_in_memory_and_leaves_nothing_there(
        self, share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        memory = tmp_path / "memory"
        memory.mkdir()
        monkeypatch.setattr(edge_processes, "_MEMORY", memory)
        monkeypatch.setattr(edge_processes, "_ROOM", 0)

        with SliceProcess(share) as process:
            assert len(list(memory.iterdir())) == 1
            process.write(process.count().average_length, [])

        assert list(memory.iterdir()) == []
        assert (share.slices / "00000000" / "edge_config.json").exists()

    @pytest.mark.parametrize("sent", [0, 1, 2])
    def test_a_process_whose_master_is_gone_ends(self, share: Share, sent: int):
        command = [sys.executable, "-m", "chatkit_rag.retrieval.edge_worker"]
        share = share._replace(dimension=2)
        said = [share, SliceWriter(share).count().average_length][:sent]

        done = subprocess.run(
            command, input=b"".join(map(pickle.dumps, said)), capture_output=True, check=False, timeout=60
        )

        assert (done.returncode, done.stderr) == (1, b"")


class TestPassageFile:
    def test_reads_what_was_written_by_row(self, tmp_path: Path):
        write_passages(tmp_path / "file", passages(5))

        file = PassageFile(tmp_path / "file")

        assert [file.read(row) for row in range(len(file))] == passages(5)
        assert [file.rows[passage.id] for passage in passages(5)] == [0, 1, 2, 3, 4]
        file.close()

    def test_may_be_empty(self, tmp_path: Path):
        write_passages(tmp_path / "file", [])

        assert len(PassageFile(tmp_path / "file")) == 0
