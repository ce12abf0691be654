"""Reading a site over HTTP."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from loopback_site import Answer, Site, serving_site

from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion import crawling
from chatkit_rag.ingestion.crawling import read_url
from chatkit_rag.ingestion.fetching import FetchOptions
from chatkit_rag.ingestion.folders import SkippedPage
from chatkit_rag.ingestion.markdown import BrokenPage
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.ingestion.sitemaps import read_sitemap
from chatkit_rag.ingestion.sites import PageRead, ReadingPlan
from chatkit_rag.retrieval.manifest import PageRecord
from chatkit_rag.retrieval.memory import MemoryIndex

pytestmark = pytest.mark.anyio

OPTIONS = FetchOptions(allow_private=True, retry_wait_seconds=0.01, attempts=1, requests_per_second=10_000)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving_site() as site:
        yield site


async def read(url: str, **choices) -> tuple[list[PageRead], dict[str, str]]:
    found = [page async for page in read_url(url, options=OPTIONS, **choices)]
    pages = [page for page in found if isinstance(page, PageRead)]
    return pages, {page.page: page.reason for page in found if isinstance(page, SkippedPage)}


async def test_the_pages_of_a_sitemap_are_read_in_its_order(site: Site):
    names = [f"page-{number}" for number in range(9)]
    site.answers["/sitemap.xml"] = Answer.sitemap(*(f"{site.address}/docs/{name}/" for name in names))
    site.answers |= {f"/docs/{name}/": Answer.page(name.title()) for name in names}

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert [page.document.path for page in pages] == [f"/docs/{name}" for name in names]
    assert pages[0].document.address == "/docs/page-0/"
    assert pages[0].document.source == f"{site.address}/docs/page-0/"
    assert pages[0].document.sections[0].blocks == ("About Page-0.",)
    assert skipped == {}


async def test_an_index_of_sitemaps_also_a_packed_one_is_followed_once(site: Site):
    import gzip

    here = site.address
    packed = gzip.compress(Answer.sitemap(f"{here}/b").body.encode())
    site.answers |= {
        "/sitemap.xml": Answer.sitemap(
            f"{here}/one.xml", f"{here}/two.xml.gz", f"{here}/sitemap.xml", kind="sitemapindex"
        ),
        "/one.xml": Answer.sitemap(f"{here}/a"),
        "/two.xml.gz": Answer(packed, content_type="application/gzip"),
        "/a": Answer.page("A"),
        "/b": Answer.page("B"),
    }

    pages, skipped = await read(f"{here}/sitemap.xml")

    assert [page.document.title for page in pages] == ["A", "B"]
    assert skipped == {}
    assert site.hits.count("/sitemap.xml") == 1


async def test_a_single_page_is_read(site: Site):
    site.answers["/docs/intro"] = Answer.page("Intro")

    pages, _ = await read(f"{site.address}/docs/intro")

    assert [page.document.path for page in pages] == ["/docs/intro"]


async def test_paths_begin_below_the_sites_public_address(site: Site):
    site.answers["/docs/intro"] = Answer.page("Intro")

    pages, _ = await read(f"{site.address}/docs/intro", base_url="https://example.org/docs/")

    assert [page.document.path for page in pages] == ["/intro"]


async def test_what_lies_elsewhere_is_skipped_with_the_reason_and_never_asked_for(site: Site):
    with serving_site() as other:
        site.answers["/sitemap.xml"] = Answer.sitemap(
            f"{other.address}/a",
            "https://evil.example/",
            f"{site.address}/a",
            "file:///etc/passwd",
            f"{site.address}/a?b=c",
        )
        site.answers["/a"] = Answer.page("A")

        pages, skipped = await read(f"{site.address}/sitemap.xml")

        assert other.hits == []
    assert [page.document.title for page in pages] == ["A"]
    assert len(skipped) == 4
    assert "another host" in skipped[f"{other.address}/a"]
    assert "another host" in skipped["https://evil.example/"]
    assert "query" in skipped[f"{site.address}/a?b=c"]


async def test_robots_are_kept(site: Site):
    site.answers |= {
        "/robots.txt": Answer(
            "User-agent: chatkit-rag\nDisallow: /private/\nUser-agent: *\nDisallow: /", content_type="text/plain"
        ),
        "/sitemap.xml": Answer.sitemap(f"{site.address}/a", f"{site.address}/private/b"),
        "/a": Answer.page("A"),
        "/private/b": Answer.page("B"),
    }

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert [page.document.title for page in pages] == ["A"]
    assert "robots.txt" in skipped[f"{site.address}/private/b"]
    assert "/private/b" not in site.hits


async def test_the_delay_that_robots_ask_for_is_kept(site: Site):
    site.answers |= {
        "/robots.txt": Answer("User-agent: *\nCrawl-delay: 0.2", content_type="text/plain"),
        "/sitemap.xml": Answer.sitemap(f"{site.address}/a", f"{site.address}/b"),
        "/a": Answer.page("A"),
        "/b": Answer.page("B"),
    }
    import time

    started = time.monotonic()
    await read(f"{site.address}/sitemap.xml")

    assert (
        time.monotonic() - started >= 0.4
    )  # between robots.txt and three requests, the first of which may come at once


@pytest.mark.parametrize(
    "robots", [Answer("busy", 500), Answer("User-agent: *\nCrawl-delay: 3600", content_type="text/plain")]
)
async def test_a_site_whose_robots_cannot_be_kept_is_not_read(site: Site, robots: Answer):
    site.answers |= {"/robots.txt": robots, "/a": Answer.page("A")}

    with pytest.raises(IngestionError, match=r"robots\.txt"):
        await read(f"{site.address}/a")

    assert site.hits == ["/robots.txt"]


async def test_pages_that_cannot_be_read_are_named_and_the_others_go_on(site: Site):
    bad = {
        "/gone": Answer("no", 404),
        "/broken": Answer("no", 500),
        "/circle": Answer.redirect("/circle"),
        "/elsewhere": Answer.redirect("http://evil.example/page"),
        "/pdf": Answer(b"%PDF", content_type="application/pdf"),
        "/empty": Answer("<html><body><div id=root></div></body></html>"),
        "/deep": Answer("<div>" * 100_000),
        "/large": Answer(b"x" * 6_000_000),
        "/bomb": Answer(__import__("gzip").compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"}),
    }
    site.answers |= bad | {"/a": Answer.page("A"), "/z": Answer.page("Z"), "/moved": Answer.redirect("/a")}
    site.answers["/sitemap.xml"] = Answer.sitemap(*(f"{site.address}{path}" for path in ["/a", *bad, "/moved", "/z"]))

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert [page.document.title for page in pages] == ["A", "Z"]
    reasons = {page.removeprefix(site.address): reason for page, reason in skipped.items()}
    assert reasons.keys() == {*bad, "/moved"}
    assert "404" in reasons["/gone"]
    assert "500" in reasons["/broken"]
    assert "circle" in reasons["/circle"]
    assert reasons["/elsewhere"] == f"it redirects to http://evil.example/page, which is not on {site.address}"
    assert "application/pdf" in reasons["/pdf"]
    assert "no text" in reasons["/empty"]
    assert "deep" in reasons["/deep"]
    assert "MB" in reasons["/large"]
    assert "MB" in reasons["/bomb"] or "times" in reasons["/bomb"]
    assert "one address" in reasons["/moved"]


async def test_headers_that_are_no_utf_8_stop_no_reading(site: Site, tmp_path: Path):
    site.answers |= {
        "/a": Answer.page("A"),
        "/moved": Answer.redirect("/caf\xe9"),
        "/tagged": Answer.page("Tagged", etag='"caf\xe9"'),
        "/typed": Answer("no", content_type="text/caf\xe9"),
        "/refused": Answer("no", 403, reason="Acc\xe8s refus\xe9"),
    }
    site.answers["/sitemap.xml"] = Answer.sitemap(
        *(f"{site.address}{path}" for path in site.answers if path != "/sitemap.xml")
    )
    index = MemoryIndex()

    report = await ingest(f"{site.address}/sitemap.xml", index, fetching=OPTIONS, journal=tmp_path / "journal")

    assert [record.document.title for record in await index.records()] == ["A", "Tagged"]
    told = {page.page.removeprefix(site.address): page.reason for page in report.skipped}
    assert told["/moved"] == "it holds what is no text"
    assert "403 (Acc?s refus?)" in told["/refused"]
    assert "/typed" in told
    assert report.to_json() == orjson.loads(orjson.dumps(report.to_json()))


async def test_a_page_in_an_encoding_that_python_takes_for_no_encoding_is_named(site: Site):
    site.answers |= {
        "/a": Answer.page("A"),
        "/b": Answer(b"<main>caf\xe9</main>", content_type="text/html; charset=undefined"),
    }
    site.answers["/sitemap.xml"] = Answer.sitemap(f"{site.address}/a", f"{site.address}/b")

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert [page.document.title for page in pages] == ["A"]
    assert "UTF-8" in skipped[f"{site.address}/b"]


async def test_pages_that_do_not_want_to_be_found_are_left_out_in_silence(site: Site):
    site.answers |= {
        "/sitemap.xml": Answer.sitemap(f"{site.address}/a", f"{site.address}/b"),
        "/a": Answer('<meta name="robots" content="noindex"><main><h1>A</h1><p>Text.</p></main>'),
        "/b": Answer.page("B"),
    }

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert [page.document.title for page in pages] == ["B"]
    assert skipped == {}


async def test_a_page_that_has_not_changed_is_not_sent_again(site: Site):
    site.answers["/a"] = Answer.page("A", etag='"1"')
    [first], _ = await read(f"{site.address}/a")
    record = PageRecord.of(first.document, site="", base_url="", origin=first.origin)
    plan = ReadingPlan(known={record.document.source: record})

    [second], _ = await read(f"{site.address}/a", plan=plan)
    site.answers["/a"] = Answer.page("A", "New text.", etag='"2"')
    [third], _ = await read(f"{site.address}/a", plan=plan)

    assert site.headers_of("/a")["if-none-match"] == '"1"'
    assert second.document == first.document
    assert third.document.sections[0].blocks == ("New text.",)


async def test_a_sitemap_that_is_none_or_away_is_an_error(site: Site):
    site.answers["/index.xml"] = Answer.sitemap(
        f"{site.address}/gone.xml", f"{site.address}/a.xml", kind="sitemapindex"
    )
    site.answers["/a.xml"] = Answer.sitemap(f"{site.address}/a")
    site.answers["/a"] = Answer.page("A")
    site.answers["/cut.xml"] = Answer("<urlset><url><loc>x</loc>", content_type="application/xml")

    with pytest.raises(IngestionError, match="404"):
        await read(f"{site.address}/sitemap.xml")
    with pytest.raises(IngestionError, match="XML"):
        await read(f"{site.address}/cut.xml")
    site.answers["/page.xml"] = Answer.page("Welcome")  # what a site of scripts answers, whatever is asked for
    with pytest.raises(IngestionError, match="no sitemap, but text/html"):
        await read(f"{site.address}/page.xml")
    pages, skipped = await read(f"{site.address}/index.xml")

    assert [page.document.title for page in pages] == ["A"]
    assert "404" in skipped[f"{site.address}/gone.xml"]


def test_entities_of_a_sitemap_are_not_unfolded():
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE urlset [<!ENTITY l0 "lol">{lines}]><urlset><url><loc>http://x/&l9;</loc></url></urlset>'
    stranger = '<!DOCTYPE urlset [<!ENTITY x SYSTEM "file:///etc/passwd">]><urlset><url><loc>&x;</loc></url></urlset>'

    for text in (bomb, stranger):
        try:
            named = read_sitemap(text.encode()).pages
        except BrokenPage:
            continue
        assert sum(map(len, named)) < 100
        assert "root:" not in "".join(named)


@pytest.mark.parametrize(
    "text",
    [
        "<urlset>" + "<a/>" * 4_000_000 + "</urlset>",
        "<urlset><url>" + "<loc>http://x/</loc>" * 2_000_000 + "</url></urlset>",
        "<urlset " + "".join(f"a{n}='' " for n in range(20_000)) + "/>",
    ],
    ids=["elements", "one entry", "attributes"],
)
def test_what_belongs_into_no_sitemap_is_refused_before_it_takes_memory(text: str):
    with pytest.raises(BrokenPage, match="more than belongs"):
        read_sitemap(text.encode())


async def test_a_packed_sitemap_that_is_a_bomb_is_an_error(site: Site):
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(60)) + packer.flush()
    site.answers["/sitemap.xml.gz"] = Answer(bomb, content_type="application/gzip")

    with pytest.raises(IngestionError, match="100 times"):
        await read(f"{site.address}/sitemap.xml.gz")


async def test_a_server_that_goes_away_is_not_asked_for_page_after_page(site: Site):
    names = [f"page-{number:03}" for number in range(200)]
    site.answers["/sitemap.xml"] = Answer.sitemap(*(f"{site.address}/{name}" for name in names))
    site.answers |= {
        f"/{name}": Answer.page(name) if number < 20 else Answer("away", 503) for number, name in enumerate(names)
    }

    pages, skipped = await read(f"{site.address}/sitemap.xml")

    assert len(pages) == 20
    assert len(site.hits) == 34
    assert "168 were not asked for" in skipped[f"{site.address}/page-032"]


async def test_no_more_pages_are_looked_at_than_a_site_has(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(crawling, "_MOST_PAGES", 3)
    here = site.address
    site.answers["/sitemap.xml"] = Answer.sitemap(*(f"http://elsewhere.example/{number}" for number in range(9)))
    site.answers["/index.xml"] = Answer.sitemap(f"{here}/a.xml", f"{here}/sitemap.xml", kind="sitemapindex")
    site.answers["/a.xml"] = Answer.sitemap(f"{here}/a")
    site.answers["/a"] = Answer.page("A")

    pages, skipped = await read(f"{here}/index.xml")

    assert [page.document.title for page in pages] == ["A"]
    assert len(skipped) == 3
    assert "more than 3 pages" in skipped["http://elsewhere.example/2"]
