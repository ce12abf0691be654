"""Keeping an index in step with a site: only what changed is read, nothing that is only out of sight is removed."""

import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import anyio
import pytest
from loopback_site import Answer, Site, serving_site

from chatkit_rag.documents import Document, Section
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion import docusaurus, pipeline
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.pipeline import IngestProgress, IngestReport, Progress, ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.filters import Filter
from chatkit_rag.retrieval.memory import MemoryIndex

pytestmark = pytest.mark.anyio

OPTIONS = FetchOptions(allow_private=True, retry_wait_seconds=0.01, attempts=1, requests_per_second=10_000)


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[EdgeIndex]:
    async with EdgeIndex(tmp_path / "index") as index:
        yield index


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_site() as site:
        yield site


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(20):
        (folder / f"page-{number}.md").write_text(f"# Page {number}\n\nAbout the number {number}.\n")
    return folder


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.removed, report.unchanged


def publish(site: Site, names: list[str]) -> str:
    site.answers = {f"/{name}": Answer.page(name, etag=f'"{name}"') for name in names}
    site.answers["/sitemap.xml"] = Answer.sitemap(*(f"{site.address}/{name}" for name in names))
    return f"{site.address}/sitemap.xml"


def together(*names: str) -> Callable[[str], AsyncIterator[Document]]:
    """Sources of a page each, by their names, none of which gives its own before all are read."""
    reading: set[str] = set()
    all_read = anyio.Event()

    async def documents(name: str) -> AsyncIterator[Document]:
        reading.add(name)
        if reading == set(names):
            all_read.set()
        await all_read.wait()
        yield Document(path=f"/{name}", title=name, sections=(Section(heading_path=(name,), blocks=("Text.",)),))

    return documents


class TestFolders:
    async def test_only_pages_that_changed_are_read_again(
        self, index: EdgeIndex, docs: Path, monkeypatch: pytest.MonkeyPatch
    ):
        read: list[str] = []
        genuine = docusaurus.read_sections
        monkeypatch.setattr(
            docusaurus, "read_sections", lambda body, **choices: read.append(body) or genuine(body, **choices)
        )
        first = await ingest(docs, index)
        read.clear()
        (docs / "page-7.md").write_text("# Page 7\n\nAbout another number.\n")
        for file in docs.iterdir():
            os.utime(file, (0, 0))  # a checkout gives every file a new time

        second = await ingest(docs, index)

        assert counts(first) == (20, 0, 0, 0)
        assert counts(second) == (0, 1, 0, 19)
        assert read == ["# Page 7\n\nAbout another number.\n"]
        assert second.passages == first.passages == 20

    async def test_an_unchanged_site_of_500_pages_takes_under_a_second(self, index: EdgeIndex, tmp_path: Path):
        folder = tmp_path / "large"
        folder.mkdir()
        for number in range(500):
            text = "\n\n".join(f"## Part {part}\n\n" + "Words about it. " * 20 for part in range(3))
            (folder / f"page-{number}.md").write_text(f"# Page {number}\n\n{text}\n")
        first = await ingest(folder, index)

        started = time.process_time()
        second = await ingest(folder, index)

        assert counts(second) == (0, 0, 0, 500)
        assert second.generation == first.generation
        assert time.process_time() - started < 1

    async def test_a_page_that_cannot_be_read_any_more_stays_as_it_was(self, index: EdgeIndex, docs: Path):
        await ingest(docs, index)
        (docs / "page-3.md").write_text("---\ntitle: a: b\n---\nBroken.")

        report = await ingest(docs, index)

        assert counts(report) == (0, 0, 0, 20)
        assert [page.page for page in report.skipped] == ["page-3.md"]
        assert await index.page("/page-3") is not None

    async def test_half_a_site_is_not_removed_unless_that_is_wanted(self, index: EdgeIndex, docs: Path):
        await ingest(docs, index)
        for number in range(11):
            (docs / f"page-{number}.md").unlink()

        with pytest.raises(IngestionError, match=r"11 of the site's 20 pages.*--allow-removals"):
            await ingest(docs, index)
        assert len(await index.records()) == 20
        report = await ingest(docs, index, allow_removals=True)

        assert counts(report) == (0, 0, 11, 9)

    async def test_a_few_pages_go_without_asking(self, index: EdgeIndex, docs: Path):
        await ingest(docs, index)
        for number in range(8):
            (docs / f"page-{number}.md").unlink()

        assert counts(await ingest(docs, index)) == (0, 0, 8, 12)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
    async def test_a_folder_that_cannot_be_read_removes_nothing(self, index: EdgeIndex, docs: Path):
        (docs / "part").mkdir()
        (docs / "part/page.md").write_text("# Part\n\nText.")
        await ingest(docs, index)
        (docs / "part").chmod(0)
        (docs / "page-1.md").unlink()

        report = await ingest(docs, index)

        assert counts(report) == (0, 0, 0, 21)

    async def test_a_dry_run_says_what_would_be_done_and_does_nothing(
        self, index: EdgeIndex, docs: Path, tmp_path: Path
    ):
        await ingest(docs, index)
        (docs / "page-1.md").write_text("# One\n\nAnew.")
        (docs / "page-2.md").unlink()
        (docs / "new.md").write_text("# New\n\nText.")
        journal = tmp_path / "journal"

        report = await ingest(docs, index, dry_run=True, journal=journal)

        assert counts(report) == (1, 1, 1, 18)
        assert await index.generation() == "gen-1"
        assert not journal.exists()

    async def test_progress_tells_pages_passages_and_how_many_there_are(self, index: EdgeIndex, docs: Path):
        told: list[IngestProgress] = []

        await ingest(docs, index, on_progress=told.append)

        assert [progress.pages for progress in told] == list(range(1, 21))
        assert told[-1] == IngestProgress(pages=20, passages=20, total=20, page="/page-9")

    async def test_a_built_site_is_told_by_what_is_there_unless_its_kind_is_named(
        self, index: EdgeIndex, tmp_path: Path
    ):
        (tmp_path / "site").mkdir()
        (tmp_path / "site/index.html").write_text("<main><h1>Home</h1><p>Text.</p></main>")

        report = await ingest(tmp_path / "site", index)

        assert counts(report) == (1, 0, 0, 0)
        with pytest.raises(IngestionError, match="no page"):
            await ingest(tmp_path / "site", index, kind="docusaurus")
        with pytest.raises(IngestionError, match="auto, docusaurus"):
            await ingest(tmp_path / "site", index, kind="wordpress")


class TestSites:
    async def test_an_unchanged_site_is_asked_and_not_sent_again(self, index: EdgeIndex, site: Site):
        url = publish(site, ["a", "b", "c"])
        first = await ingest(url, index, fetching=OPTIONS)
        site.answers["/b"] = Answer.page("b", "New.", etag='"2"')

        second = await ingest(url, index, fetching=OPTIONS)

        assert counts(first) == (3, 0, 0, 0)
        assert counts(second) == (0, 1, 0, 2)
        assert site.headers_of("/a")["if-none-match"] == '"a"'
        hits = (await index.search("new")).hits
        assert hits[0].passage.url == f"{site.address}/b"

    @pytest.mark.parametrize("status", [404, 410, 500, 503])
    async def test_pages_that_fail_in_the_middle_stay(self, index: EdgeIndex, site: Site, status: int):
        url = publish(site, [f"page-{number}" for number in range(12)])
        await ingest(url, index, fetching=OPTIONS)
        for number in range(2, 9):
            site.answers[f"/page-{number}"] = Answer("away", status)

        report = await ingest(url, index, fetching=OPTIONS)

        assert counts(report) == (0, 0, 0, 12)
        assert len(report.skipped) == 7
        assert len(await index.records()) == 12

    async def test_a_site_that_is_away_is_an_error_and_changes_nothing(self, index: EdgeIndex, site: Site):
        url = publish(site, ["a", "b"])
        await ingest(url, index, fetching=OPTIONS)
        site.answers = {"/robots.txt": Answer("away", 503)}

        with pytest.raises(IngestionError, match="503"):
            await ingest(url, index, fetching=OPTIONS)

        assert len(await index.records()) == 2

    async def test_a_sitemap_that_lost_most_of_its_pages_removes_none(self, index: EdgeIndex, site: Site):
        names = [f"page-{number}" for number in range(12)]
        url = publish(site, names)
        await ingest(url, index, fetching=OPTIONS)
        publish(site, names[:4])

        with pytest.raises(IngestionError, match="8 of the site's 12"):
            await ingest(url, index, fetching=OPTIONS)

        assert len(await index.records()) == 12

    @pytest.mark.parametrize("forbidden", [False, True])
    async def test_a_part_of_the_sitemap_that_is_away_or_forbidden_removes_nothing(
        self,
        index: EdgeIndex,
        site: Site,
        forbidden: bool,  # noqa: FBT001 - a table
    ):
        here = site.address
        publish(site, ["a", "b", "c"])
        site.answers |= {
            "/index.xml": Answer.sitemap(f"{here}/one.xml", f"{here}/two.xml", kind="sitemapindex"),
            "/one.xml": Answer.sitemap(f"{here}/a"),
            "/two.xml": Answer.sitemap(f"{here}/b", f"{here}/c"),
        }
        await ingest(f"{here}/index.xml", index, fetching=OPTIONS)
        if forbidden:
            site.answers["/robots.txt"] = Answer("User-agent: *\nDisallow: /two.xml\n", content_type="text/plain")
        else:
            del site.answers["/two.xml"]

        report = await ingest(f"{here}/index.xml", index, fetching=OPTIONS)

        assert counts(report) == (0, 0, 0, 3)
        assert report.skipped[0].page == f"{here}/two.xml"

    async def test_an_interrupted_run_goes_on_where_it_stopped(self, index: EdgeIndex, site: Site, tmp_path: Path):
        names = [f"page-{number}" for number in range(12)]
        url = publish(site, names)
        journal = tmp_path / "journal.jsonl"

        def stop_after(pages: int) -> Progress:
            def stop(progress: IngestProgress) -> None:
                if progress.pages == pages:
                    raise KeyboardInterrupt

            return stop

        for pages in (6, 9):
            with pytest.raises(KeyboardInterrupt):
                await ingest(url, index, fetching=OPTIONS, journal=journal, on_progress=stop_after(pages))
            with journal.open("ab") as file:
                file.write(b'{"site": "cut o')
        assert await index.generation() == ""
        site.requests.clear()
        report = await ingest(url, index, fetching=OPTIONS, journal=journal)

        assert counts(report) == (12, 0, 0, 0)
        assert len([path for path in site.hits if path.startswith("/page")]) == 12 - 8
        assert not journal.exists()

    async def test_patterns_are_asked_before_a_page_is_fetched(self, index: EdgeIndex, site: Site):
        url = publish(site, ["guide/a", "guide/b", "blog/c"])

        report = await ingest(url, index, fetching=OPTIONS, include=["guide/*"], exclude=["*/b"])

        assert report.pages == 1
        assert not {"/guide/b", "/blog/c"} & set(site.hits)

    async def test_what_is_no_address_stops_no_crawl(self, index: EdgeIndex, site: Site):
        here = site.address
        site.answers["/sitemap.xml"] = Answer.sitemap("http://[::1", f"{here}/moved", f"{here}/a", f"{here}/b")
        site.answers["/moved"] = Answer.redirect("http://[::1")
        site.answers["/a"] = Answer.page("A")
        page = str(Answer.page("B").body)
        site.answers["/b"] = Answer(page.replace("<body>", '<link rel="canonical" href="http://[::1"><body>'))

        report = await ingest(f"{here}/sitemap.xml", index, fetching=OPTIONS, exclude=["c/*"])

        assert report.pages == 2
        assert {skipped.page for skipped in report.skipped} == {"http://[::1", f"{here}/moved"}

    async def test_private_addresses_are_refused_unless_they_are_allowed(self, index: EdgeIndex, site: Site):
        url = publish(site, ["a"])

        with pytest.raises(IngestionError, match="this machine's own; --allow-private"):
            await ingest(url, index)

        assert site.hits == []


class TestDocuments:
    async def test_documents_of_any_origin_come_and_go_alike(self, index: EdgeIndex):
        async def documents(*names: str) -> AsyncIterator[Document]:
            for name in names:
                section = Section(heading_path=(name,), blocks=(f"About {name}.",))
                yield Document(path=f"/{name}", title=name, sections=(section,), metadata={"version": "1"})

        await ingest(documents("a", "b"), index, site="one")
        await ingest(documents("x"), index, site="two")
        report = await ingest(documents("b", "c"), index, site="one")

        assert counts(report) == (1, 0, 1, 1)
        assert [record.document.path for record in await index.records()] == ["/b", "/c", "/x"]
        assert (await index.search("about c", where=Filter(site="one"))).hits[0].passage.metadata == {"version": "1"}

    async def test_what_cannot_be_kept_is_named_and_the_others_go_on(self, index: EdgeIndex):
        async def documents() -> AsyncIterator[Document]:
            text = (Section(heading_path=("A",), blocks=("Text.",)),)
            yield Document(path="/a", title="A", sections=text)
            yield Document(path="/a", title="Again", sections=text, source="cms/17")
            yield Document(path="/b", title="B", sections=text, metadata={"by": object()})
            yield Document(path="/c", title="\ud800", sections=text)
            yield Document(path="/d", title="D", sections=(Section(heading_path=(), blocks=("Text.",)),))

        report = await ingest(documents(), index)

        assert [hit.passage.title for hit in (await index.search("text")).hits] == ["A"]
        reasons = {skipped.page: skipped.reason for skipped in report.skipped}
        assert reasons.keys() == {"cms/17", "/b", "/c", "/d"}
        assert "one address, /a" in reasons["cms/17"]
        assert "no JSON" in reasons["/b"]
        assert "heading path" in reasons["/d"]

    async def test_one_that_cannot_be_kept_any_more_stays_as_it_was(self, index: EdgeIndex):
        async def documents(by: object) -> AsyncIterator[Document]:
            for name in "ab":
                section = Section(heading_path=(name,), blocks=("Text.",))
                yield Document(path=f"/{name}", title=name, sections=(section,), metadata={"by": by} if by else {})

        await ingest(documents(None), index)
        with pytest.raises(IngestionError, match="no page could be indexed"):
            await ingest(documents(object()), MemoryIndex())
        report = await ingest(documents(object()), index)

        assert counts(report) == (0, 0, 0, 2)
        assert [record.document.path for record in await index.records()] == ["/a", "/b"]

    @pytest.mark.parametrize(("include", "told"), [(["week-9/*"], "--include"), ([], "there is none")])
    async def test_nothing_to_index_is_an_error_that_says_why(self, index: EdgeIndex, include: list[str], told: str):
        async def documents() -> AsyncIterator[Document]:
            if include:
                yield Document(path="/a", title="A", sections=())

        with pytest.raises(IngestionError, match=told):
            await ingest(documents(), index, include=include)

    async def test_more_text_than_memory_has_room_for_is_an_error(
        self, index: EdgeIndex, monkeypatch: pytest.MonkeyPatch
    ):
        async def endless() -> AsyncIterator[Document]:
            for number in count():
                section = Section(heading_path=("A",), blocks=("Text. " * 100,))
                yield Document(path=f"/{number}", title="A", sections=(section,))

        monkeypatch.setattr(pipeline, "_MOST_TEXT", 10_000)
        with pytest.raises(IngestionError, match="nothing was done"):
            await ingest(endless(), index)

        assert await index.generation() == ""

    async def test_of_two_readings_at_once_none_undoes_the_other(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        documents = together("a", "b")

        async def read(name: str) -> None:
            async with EdgeIndex(tmp_path / "index") as index:
                await ingest(documents(name), index, site=name, journal=tmp_path / "index" / f"{name}.jsonl")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "a")
            tasks.start_soon(read, "b")

        async with EdgeIndex(tmp_path / "index") as index:
            assert [record.document.path for record in await index.records()] == ["/a", "/b"]
        assert "waiting until it is done" in caplog.text

    async def test_of_two_readings_into_one_index_object_none_undoes_the_other(self, index: EdgeIndex):
        documents = together("a", "b")

        async with anyio.create_task_group() as tasks:
            for name in "ab":
                tasks.start_soon(lambda name=name: ingest(documents(name), index, site=name))

        assert [record.document.path for record in await index.records()] == ["/a", "/b"]

    async def test_a_journal_that_no_disk_has_room_for_stops_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        async def documents() -> AsyncIterator[Document]:
            for name in "abc":
                section = Section(heading_path=(name,), blocks=("Many words. " * 2_000,))
                yield Document(path=f"/{name}", title=name, sections=(section,))

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
        try:
            async with MemoryIndex() as index:
                report = await ingest(documents(), index, journal=tmp_path / "journal.jsonl")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

        assert report.added == 3
        assert "cannot be written" in caplog.text

    async def test_documents_that_end_in_an_error_change_nothing(self, index: EdgeIndex):
        async def documents(*, fails: bool) -> AsyncIterator[Document]:
            yield Document(path="/a", title="A", sections=(Section(heading_path=("A",), blocks=("Text.",)),))
            if fails:
                raise ConnectionError("the CMS went away")

        await ingest(documents(fails=False), index)
        with pytest.raises(ConnectionError):
            await ingest(documents(fails=True), index)

        assert await index.generation() == "gen-1"
