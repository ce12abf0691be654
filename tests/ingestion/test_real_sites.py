"""Sites that the generators themselves have built: every link opens at something, and no passage is navigation."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.async_api import async_playwright

from chatkit_rag.documents import Passage
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.ingestion.pipeline import IngestReport, ingest
from chatkit_rag.ingestion.sites import PageRead, read_folder
from chatkit_rag.retrieval.edge import EdgeIndex

SITES = Path(__file__).parent / "sites"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAVIGATION = (
    "A course of tests",
    "Navigation of the course",
    "Footer of the course",
    "Edit this page",
    "Skip to",
    "On this page",
    "Previous",
    "Made with",
    "Created using",
    "Built with",
    "Back to top",
    "View page source",
    "Show Source",
    "Select theme",
    "not available in your language",
    "Copy",
    "Version:",
    "Direct link",
    "Search",
    "¶",
)
"""What the themes put around the pages of these sites, and no page of them says."""

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]

Build = Callable[[Path], None]


def mkdocs(target: Path) -> None:
    run(sys.executable, "-m", "mkdocs", "build", "-q", "-f", SITES / "mkdocs/mkdocs.yml", "-d", target)


def sphinx(theme: str, sources: str = "sphinx") -> Build:
    def build(target: Path) -> None:
        run(sys.executable, "-m", "sphinx", "-q", "-D", f"html_theme={theme}", SITES / sources, target)

    return build


def docusaurus(target: Path) -> None:
    run("npx", "docusaurus", "build", "--out-dir", target, cwd=installed("docusaurus", target))


def starlight(target: Path) -> None:
    run("npx", "astro", "telemetry", "disable", cwd=(workplace := installed("starlight", target)))
    run("npx", "astro", "build", "--outDir", target, cwd=workplace)


def mdbook(target: Path) -> None:
    run("npx", "mdbook", "build", "--dest-dir", target, cwd=installed("mdbook", target))


def installed(site: str, target: Path) -> Path:
    """A copy of the sources, beside what is served, with the packages that build them."""
    workplace = target.parent.with_name(site)
    shutil.copytree(SITES / site, workplace)
    run("npm", "install", "--no-audit", "--no-fund", cwd=workplace)
    return workplace


def run(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def indexed(tmp_path: Path, source: str | Path, url: str) -> tuple[IngestReport, list[Passage]]:
    async with EdgeIndex(tmp_path / "index") as index:
        report = await ingest(source, index, url=url, fetching=FetchOptions(allow_private=True))
        records = await index.records()
    return report, [
        passage for record in records for passage in cut_passages(record.document, site="", base_url=record.base_url)
    ]


async def links_that_open_nowhere(urls: set[str]) -> list[str]:
    nowhere: list[str] = []
    async with async_playwright() as playwright:
        # A sandbox needs rights that a container's root does not have; the pages are our own.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(java_script_enabled=False)  # what the HTML has, before any script
        page = await context.new_page()
        for url in sorted(urls):
            await page.goto("about:blank")
            response = await page.goto(url)
            if response is None or not response.ok or ("#" in url and await page.locator(":target").count() != 1):
                nowhere.append(url)
        await browser.close()
    return nowhere


@pytest.mark.parametrize(
    ("build", "pages"),
    [
        pytest.param(mkdocs, 2, id="material"),
        pytest.param(sphinx("furo"), 3, id="furo"),
        pytest.param(sphinx("pydata_sphinx_theme"), 3, id="pydata"),
        pytest.param(sphinx("sphinx_rtd_theme"), 3, id="read-the-docs"),
        pytest.param(sphinx("furo", "myst"), 3, id="myst"),
        pytest.param(sphinx("alabaster"), 3, id="alabaster", marks=pytest.mark.soak),
        pytest.param(mdbook, 3, id="mdbook", marks=pytest.mark.soak),
        pytest.param(docusaurus, 6, id="docusaurus", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
        pytest.param(starlight, 4, id="starlight", marks=[pytest.mark.soak, pytest.mark.timeout(1800)]),
    ],
)
async def test_every_link_of_a_real_site_opens_at_an_element_and_no_passage_is_navigation(
    tmp_path: Path, build: Build, pages: int
):
    build(tmp_path / "served" / "book")
    with served(tmp_path / "served") as address:
        report, passages = await indexed(tmp_path, tmp_path / "served/book", f"{address}/book")
        urls = {passage.url for passage in passages}
        nowhere = await links_that_open_nowhere(urls)

    html = "".join(file.read_text("utf-8") for file in (tmp_path / "served").rglob("*.html"))
    assert "A course of tests" in html
    text = "\n\n".join(passage.text for passage in passages)
    assert (report.pages, report.skipped) == (pages, ())
    assert len([url for url in urls if "#" in url]) >= 5
    assert nowhere == []
    assert [words for words in NAVIGATION if words in text] == []
    for said in (
        "return -theta",
        "\\frac{g}{l}\\theta",
        "Angles are in radians.",
        "A ring of four boxes",
        "| P | 12 |",
    ):
        assert said in text
    about_motion = [passage for passage in passages if passage.heading_path[-1] == "Equations of motion"]
    assert text.count("\\frac{g}{l}\\sin\\theta") == len(about_motion) > 0


async def test_a_page_that_is_fetched_is_read_as_its_file_is(tmp_path: Path):
    mkdocs(tmp_path / "served" / "book")
    with served(tmp_path / "served") as address:
        _, fetched = await indexed(tmp_path / "one", f"{address}/book/guide/balance/", f"{address}/book")
        _, read = await indexed(tmp_path / "two", tmp_path / "served/book", f"{address}/book")

    assert fetched == [passage for passage in read if passage.path == "/guide/balance"]


@pytest.mark.parametrize(
    ("build", "folders"),
    [
        pytest.param(mkdocs, ["mkdocs", "mkdocs/docs"], id="mkdocs"),
        pytest.param(mdbook, ["mdbook", "mdbook/src"], id="mdbook", marks=pytest.mark.soak),
    ],
)
async def test_sources_are_read_with_the_addresses_and_anchors_of_the_built_site(
    tmp_path: Path, build: Build, folders: list[str]
):
    build(tmp_path / "served" / "book")

    def places(folder: Path) -> set[tuple[str, str, tuple[str, ...], str]]:
        pages = [page.document for page in read_folder(folder) if isinstance(page, PageRead)]
        return {
            (page.path, page.address, section.heading_path, section.anchor)
            for page in pages
            for section in page.sections
        }

    for folder in folders:
        assert places(SITES / folder) == places(tmp_path / "served" / "book")
