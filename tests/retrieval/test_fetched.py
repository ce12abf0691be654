"""An index that is built elsewhere: one file, checked, fetched, taken over while it is served."""

import hashlib
import io
import shutil
import socket
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import web

from chatkit_rag.errors import IndexError_, IndexUnavailable, IndexUnreadable
from chatkit_rag.retrieval import archive as archives
from chatkit_rag.retrieval.archive import pack, unpack
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.fetched import FetchedIndex
from chatkit_rag.testing.index.part import course, passage, paths, record

pytestmark = pytest.mark.anyio

NEW = passage("/new", "New", "A zeppelin flies.")
SILENT = 0
"""In place of a status, where none was sent."""


@pytest.fixture(autouse=True)
def _apart(temporary: Path) -> None:
    """Private copies go to a folder of this test's own."""


@pytest.fixture
async def built(tmp_path: Path) -> Path:
    """An archive of the small course."""
    return await build(tmp_path / "built", tmp_path / "course.index", *course())


async def build(folder: Path, archive: Path, *published: Any) -> Path:
    async with EdgeIndex(folder) as index:
        name = await index.publish(*published)
    pack(folder / name, archive)
    return archive


def silent(archive: Path) -> Path:
    """The file that keeps a server of the archive from answering."""
    return archive.with_suffix(".silent")


@asynccontextmanager
async def serving(archive: Path, *, tags: bool = True) -> AsyncIterator[tuple[str, list[int]]]:
    """The address of the file, which answers with ETags, without, or not at all, and the statuses that were given."""
    statuses: list[int] = []

    async def get(request: web.Request) -> web.StreamResponse:
        if silent(archive).exists():
            statuses.append(SILENT)
            await anyio.sleep_forever()
        if not archive.exists():
            statuses.append(503)
            return web.Response(status=503)
        tag = str(archive.stat().st_mtime_ns)
        if request.headers.get("If-None-Match") == f'"{tag}"':
            statuses.append(304)
            return web.Response(status=304)
        statuses.append(200)
        return web.Response(body=archive.read_bytes(), headers={"ETag": f'"{tag}"'} if tags else {})

    app = web.Application()
    app.router.add_get("/course.index", get)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/course.index", statuses
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(20):
        while not await condition():
            await anyio.sleep(0.01)


class TestArchives:
    async def test_what_is_unpacked_is_what_was_packed(self, built: Path, tmp_path: Path):
        place = tmp_path / "place"
        place.mkdir()

        unpack(built, place)

        original = tmp_path / "built" / "gen-1"
        files = sorted(str(file.relative_to(original)) for file in original.rglob("*") if file.is_file())
        assert sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()) == files
        assert all((place / name).read_bytes() == (original / name).read_bytes() for name in files)

    @pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty", "missing"])
    async def test_a_damaged_one_is_named(self, built: Path, tmp_path: Path, damage: str):
        content = bytearray(built.read_bytes())
        if damage == "changed":
            rewrite(built, "pages.jsonl", b"{}")
        elif damage == "missing":
            rewrite(built, "pages.jsonl", None)
        else:
            built.write_bytes({"cut": content[: len(content) // 2], "foreign": b"<html>" * 100, "empty": b""}[damage])

        with pytest.raises(IndexUnreadable, match=r"course\.index (is damaged|is no index)"):
            unpack(built, tmp_path / "place")

    @pytest.mark.parametrize("checksums", [b"[]", b'"text"', b"{", b"[" * 2_000])
    async def test_one_whose_checksums_are_none_is_named(self, tmp_path: Path, checksums: bytes):
        with tarfile.open(tmp_path / "crafted", "w:gz") as archive:
            about = tarfile.TarInfo("checksums.json")
            about.size = len(checksums)
            archive.addfile(about, io.BytesIO(checksums))

        with pytest.raises(IndexUnreadable, match="no index"):
            unpack(tmp_path / "crafted", tmp_path / "place")

    @pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
    async def test_nothing_is_written_outside(self, tmp_path: Path, name: str):
        crafted = tmp_path / "crafted"
        with tarfile.open(crafted, "w:gz") as archive:
            for member, content in (("checksums.json", orjson.dumps({name: "x"})), (name, b"evil")):
                about = tarfile.TarInfo(member)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))

        with pytest.raises(IndexUnreadable):
            unpack(crafted, tmp_path / "deep" / "place")
        assert not list(tmp_path.rglob("outside"))

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
    @pytest.mark.parametrize("leads_to", ["passages", "link"])
    async def test_a_link_stands_for_no_file(self, tmp_path: Path, kind: bytes, leads_to: str):
        content = b"much" * 1_000
        digest = hashlib.sha256(content).hexdigest()
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, leads_to
        with tarfile.open(tmp_path / "crafted", "w:gz") as archive:
            checksums = orjson.dumps({"passages": digest, "link": digest})
            for member, held in (("checksums.json", checksums), ("passages", content)):
                about = tarfile.TarInfo(member)
                about.size = len(held)
                archive.addfile(about, io.BytesIO(held))
            archive.addfile(link)

        with pytest.raises(IndexUnreadable, match="link is not as it was written"):
            unpack(tmp_path / "crafted", tmp_path / "place")
        assert not (tmp_path / "place" / "link").exists()

    async def test_one_that_unpacks_to_too_much_is_given_up_on_the_way(
        self, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(archives, "_LARGEST", 1_000)

        with pytest.raises(IndexUnreadable, match="unpacks to more than 1000 bytes"):
            unpack(built, tmp_path / "place")
        assert not (tmp_path / "place").exists()

    async def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path, built: Path):
        with pytest.raises(IndexError_, match="cannot write"):
            pack(tmp_path / "built" / "gen-1", built / "below-a-file")


class TestFetching:
    async def test_it_is_served_and_a_new_one_taken_over(self, built: Path, tmp_path: Path):
        async with serving(built) as (url, statuses):
            async with FetchedIndex(url, tmp_path / "fetched", refresh=0.02) as index:
                assert paths((await index.search("process")).hits) == ["/nodes"]

                await build(tmp_path / "built", built, [record(NEW)], [NEW])

                async def is_new() -> bool:
                    return paths((await index.search("zeppelin")).hits) == ["/new"]

                await until(is_new)
            assert statuses.count(200) == 2
            assert 304 in statuses

    async def test_what_could_not_be_had_is_asked_for_again_when_it_is_opened_again(self, built: Path, tmp_path: Path):
        elsewhere = built.rename(tmp_path / "elsewhere")
        index = FetchedIndex(str(built), tmp_path / "fetched")
        with pytest.raises(IndexUnavailable):
            await index.open()

        elsewhere.rename(built)
        await index.open()

        assert paths((await index.search("process")).hits) == ["/nodes"]
        await index.close()

    async def test_a_damaged_or_missing_one_leaves_what_is_served(
        self, built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        async with serving(built) as (url, _), FetchedIndex(url, tmp_path / "fetched", refresh=0.02) as index:
            built.write_bytes(built.read_bytes()[:5000])

            async def is_told() -> bool:
                return "the index stays as it is" in caplog.text

            await until(is_told)
            assert f"{url} is no index" in caplog.text
            assert paths((await index.search("process")).hits) == ["/nodes"]

    async def test_one_whose_server_names_no_version_is_taken_over_once_it_is_another(
        self, built: Path, tmp_path: Path
    ):
        async with (
            serving(built, tags=False) as (url, statuses),
            FetchedIndex(url, tmp_path / "fetched", refresh=0.02) as index,
        ):

            async def is_looked_at_again() -> bool:
                return len(statuses) > 2

            async def is_new() -> bool:
                return paths((await index.search("zeppelin")).hits) == ["/new"]

            await until(is_looked_at_again)
            assert await index.generation() == "gen-1"
            await build(tmp_path / "built", built, [record(NEW)], [NEW])
            await until(is_new)

    async def test_one_that_is_whole_and_no_index_is_never_published(
        self, built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        (stranger / "generation.json").write_bytes(b'{"format": 99}')
        async with serving(built) as (url, _), FetchedIndex(url, tmp_path / "fetched", refresh=0.02) as index:
            before = await index.generation()
            pack(stranger, built)

            async def is_told() -> bool:
                return "no index that can be served here" in caplog.text

            await until(is_told)
            assert paths((await index.search("process")).hits) == ["/nodes"]
            async with EdgeIndex(tmp_path / "fetched") as restarted:
                assert await restarted.generation() == before

    async def test_what_was_noted_of_the_last_one_may_be_lost(self, built: Path, tmp_path: Path):
        async with serving(built) as (url, statuses):
            for noted in (b"", b"{", b"[]"):
                async with FetchedIndex(url, tmp_path / "fetched") as index:
                    assert paths((await index.search("process")).hits) == ["/nodes"]
                (tmp_path / "fetched" / "fetched.json").write_bytes(noted)
        assert statuses == [200, 200, 200]

    async def test_where_it_cannot_be_had_what_was_fetched_before_is_served(self, built: Path, tmp_path: Path):
        async with serving(built) as (url, _):
            async with FetchedIndex(url, tmp_path / "fetched"):
                pass
            built.unlink()
            async with FetchedIndex(url, tmp_path / "fetched") as index:
                assert paths((await index.search("process")).hits) == ["/nodes"]
            with pytest.raises(IndexUnavailable, match="answered 503"):
                async with FetchedIndex(url, tmp_path / "another"):
                    pytest.fail("it opened")

    async def test_it_is_closed_at_once_also_while_its_server_says_nothing(self, built: Path, tmp_path: Path):
        async with serving(built) as (url, statuses):
            index = FetchedIndex(url, tmp_path / "fetched", refresh=0.02)
            await index.open()
            silent(built).touch()

            async def says_nothing() -> bool:
                return statuses[-1] == SILENT

            await until(says_nothing)
            begun = anyio.current_time()
            await index.close()

        assert anyio.current_time() - begun < 15  # its patience with a server that it listens to is thirty

    async def test_a_file_is_looked_at_again_too(self, built: Path, tmp_path: Path):
        async with FetchedIndex(str(built), tmp_path / "fetched", refresh=0.02) as index:
            assert paths((await index.search("process")).hits) == ["/nodes"]

            await build(tmp_path / "built", built, [record(NEW)], [NEW])

            async def is_new() -> bool:
                return paths((await index.search("zeppelin")).hits) == ["/new"]

            await until(is_new)

    async def test_a_folder_is_named_as_one(self, tmp_path: Path):
        with pytest.raises(IndexUnreadable, match="is a folder"):
            await FetchedIndex(str(tmp_path), tmp_path / "fetched").open()

    async def test_two_processes_fetch_it_once(self, built: Path, tmp_path: Path):
        async with (
            serving(built) as (url, statuses),
            FetchedIndex(url, tmp_path / "fetched") as first,
            FetchedIndex(url, tmp_path / "fetched") as second,
        ):
            assert paths((await first.search("process")).hits) == paths((await second.search("process")).hits)
        assert statuses == [200, 304]

    async def test_a_file_that_is_not_there_is_named(self, tmp_path: Path):
        with pytest.raises(IndexUnavailable, match="No such file"):
            async with FetchedIndex(str(tmp_path / "nowhere"), tmp_path / "fetched"):
                pytest.fail("it opened")


def rewrite(archive: Path, name: str, content: bytes | None) -> None:
    """Puts another file in the place of one, and leaves the checksums as they were."""
    changed = archive.with_suffix(".changed")
    with tarfile.open(archive) as old, tarfile.open(changed, "w:gz") as new:
        for member in old.getmembers():
            given = old.extractfile(member)
            data = given.read() if given else b""
            if member.name == name:
                if content is None:
                    continue
                data = content
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    shutil.move(changed, archive)
