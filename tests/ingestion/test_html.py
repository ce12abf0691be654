"""What a built page says, whoever built it."""

import contextlib
import time
from pathlib import Path, PurePosixPath

import pytest

from chatkit_rag.documents import Section
from chatkit_rag.ingestion.built import BuiltLayout
from chatkit_rag.ingestion.html import HtmlPage, read_html
from chatkit_rag.ingestion.html_tree import decode_html
from chatkit_rag.ingestion.markdown import BrokenPage

SHAPES = sorted((Path(__file__).parent / "shapes").glob("*.html"))
SAID = {
    "": ("A node is *one* process.",),
    "create": ("node.py", "```python\ndef spin():\n    return 1\n```", "Note: Stop it after use."),
    "install": (
        "Linux\nUse apt.",
        "macOS\nUse brew.",
        "| Gain | Value |\n| --- | --- |\n| P | 1\\|2 |",
        "Figure: A ring of four boxes",
        "Energy is $E=mc^2$.",
    ),
}


def read(body: str, *, head: str = "") -> HtmlPage:
    return read_html(f"<html><head>{head}</head><body><main>{body}</main></body></html>", fallback="Fallback")


def sections(body: str) -> dict[str, tuple[str, ...]]:
    return {section.anchor: section.blocks for section in read(body).sections}


def blocks(body: str) -> tuple[str, ...]:
    return sections(body)[""]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.stem)
class TestShapes:
    def test_the_same_page_says_the_same_whoever_built_it(self, shape: Path):
        page = read_html(shape.read_text("utf-8"), fallback="nodes")

        said = {section.anchor: tuple(" \n".join(section.blocks).split()) for section in page.sections}
        assert page.title == "Nodes"
        assert [section.heading_path for section in page.sections] == [
            ("Nodes",),
            ("Nodes", "Create a node"),
            ("Nodes", "Install"),
        ]
        assert said == {anchor: tuple(" \n".join(texts).split()) for anchor, texts in SAID.items()}

    def test_no_navigation_is_among_it(self, shape: Path):
        page = read_html(shape.read_text("utf-8"), fallback="nodes")

        assert "NAVIGATION" in shape.read_text("utf-8")
        assert "NAVIGATION" not in page.title + "".join("".join(section.blocks) for section in page.sections)

    def test_code_keeps_its_lines_and_its_language(self, shape: Path):
        page = read_html(shape.read_text("utf-8"), fallback="nodes")

        assert SAID["create"][1] in page.sections[1].blocks


class TestAnchors:
    @pytest.mark.parametrize(
        "heading",
        [
            '<h2 id="x">One</h2>',
            '<section id="x"><h2>One</h2></section>',
            '<div class="section" id="x"><h2>One</h2></div>',
            '<section id="x"><span id="alias"></span><h2>One</h2></section>',
            '<div id="x"><div><h2>One</h2></div></div>',
            '<h2><a id="x"></a>One</h2>',
            '<h2><a name="x">One</a></h2>',
            '<a id="x"></a><h2>One</h2>',
            '<p><a name="x"></a></p> <h2>One</h2>',
            '<i id="x"></i><h2>One <a href="#x">#</a></h2>',
        ],
    )
    def test_they_are_where_the_page_has_them(self, heading: str):
        page = read(f"<h1>Title</h1><p>Start.</p>{heading}<p>Text.</p>")

        assert [(section.anchor, section.blocks) for section in page.sections] == [("", ("Start.",)), ("x", ("Text.",))]

    def test_a_heading_of_one_sign_is_no_link_to_itself(self):
        page = read('<h1>T</h1><h2 id="x"><a href="#x">\N{ROCKET}</a></h2><p>Up.</p>')

        assert page.sections[-1] == Section(heading_path=("T", "\N{ROCKET}"), anchor="x", blocks=("Up.",))

    def test_a_heading_without_one_goes_by_the_one_above_it(self):
        assert [
            section.anchor for section in read("<h1>T</h1><h2 id=a>A</h2><h3>B</h3><p>b</p><h2>C</h2>").sections
        ] == [
            "",
            "a",
            "a",
            "",
        ]

    def test_the_content_as_a_whole_is_no_anchor_of_its_first_heading(self):
        page = read_html("<div id=content><h2>One</h2><p>Text.</p></div>", fallback="T")

        assert page.sections[-1] == Section(heading_path=("T", "One"), anchor="", blocks=("Text.",))

    def test_definitions_of_a_reference_are_sections_and_end(self):
        page = read(
            '<h1>T</h1><h2 id="r">Reference</h2><dl class="py class"><dt class="sig sig-object" id="C">class C'
            '<a class="headerlink" href="#C">¶</a></dt><dd><p>Keeps.</p><dl class="py method"><dt class="sig" id="C.s">'
            "s()</dt><dd><p>Steps.</p></dd></dl></dd></dl><p>After.</p>"
        )

        assert [
            (section.heading_path[1:], section.anchor, section.blocks) for section in page.sections if section.blocks
        ] == [
            (("Reference", "class C"), "C", ("Keeps.",)),
            (("Reference", "class C", "s()"), "C.s", ("Steps.",)),
            (("Reference",), "r", ("After.",)),
        ]


class TestTitles:
    @pytest.mark.parametrize(
        ("html", "title"),
        [
            ("<main><h1>A <code>b</code></h1></main>", "A b"),
            ("<title>Page | Site</title><main><p>x</p></main>", "Page"),
            ("<title>Page — Site 1.0 documentation</title><main><p>x</p></main>", "Page"),
            ("<title>Well-known</title><main><p>x</p></main>", "Well-known"),
            ("<main><p>x</p></main>", "Fallback"),
            ("<h1>Outside</h1><main><p>x</p></main>", "Outside"),
            ("<header><h1>Site</h1></header><main><p>x</p></main>", "Fallback"),
            ("<main><h1>🚀</h1><p>x</p></main>", "🚀"),
            ("<main><h1>مقدمة</h1><p>x</p></main>", "مقدمة"),
        ],
    )
    def test_they_are_the_pages_own(self, html: str, title: str):
        assert read_html(html, fallback="Fallback").title == title


class TestText:
    @pytest.mark.parametrize(
        ("html", "block"),
        [
            ("<p>a <b>b</b>  c\n d</p>", "a **b** c d"),
            ("<p>a<br>b</p>", "a\nb"),
            ("<p>run <code>a  b</code> and <code>`</code></p>", "run `a b` and `` ` ``"),
            ("<p><strong> a </strong>b</p>", "**a** b"),
            ("<p>x<sup>2</sup> + H<sub>2</sub>O, the 1<sup>st</sup></p>", "x^2 + H_2O, the 1st"),
            ('<p>So<sup><a href="#fn1" class="footnote-ref">1</a></sup> it is.</p>', "So it is."),
            ('<p>See <a href="x">here</a>.</p>', "See here."),
            ("<ul><li>a<ul><li>b</li></ul></li><li><p>c</p><p>d</p></li></ul>", "- a\n  - b\n- c\n\n  d"),
            ('<ol start="3"><li>a</li><li>b</li></ol>', "3. a\n4. b"),
            ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
            ("<dl><dt>Damping</dt><dd>What takes energy.</dd></dl>", "Damping: What takes energy."),
            ("<details><summary>Answer</summary><p>42</p></details>", "Answer\n42"),
            ("<table><tr><td>a</td><td><p>b</p><p>c</p></td></tr></table>", "| a | b c |\n| --- | --- |"),
            ('<p><script type="math/tex">a^2</script></p>', "$a^2$"),
            ('<div class="math">\\[a\n= b\\]</div>', "$$\na\n= b\n$$"),
            ("<p>a\u200bb\u202ec\U000e0041</p>", "abc"),
            ("<p>שלום עולם</p>", "שלום עולם"),
            ('<figure><img alt="A ring"><figcaption>A ring</figcaption></figure>', "A ring"),
            ('<pre><code class="language-js">a\n\n  b</code></pre>', "```js\na\n\n  b\n```"),
            ('<div class="highlight-source-rust"><pre>x</pre></div>', "```rust\nx\n```"),
            ("<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"),
            ("<div>loose <i>text</i></div>", "loose *text*"),
            ('<p>See <a href="#x">it<img alt="!"></a><a href="#x">\u21a9</a></p>', "See it!"),
            (
                "<table><tr><td><pre>x</pre></td><td><pre>y</pre></td></tr><tr><td>1</td><td>2</td></tr></table>",
                "| x | y |\n| --- | --- |\n| 1 | 2 |",
            ),
        ],
    )
    def test_it_is_written_as_markdown(self, html: str, block: str):
        assert blocks(f"<h1>Fallback</h1>{html}") == (block,)

    @pytest.mark.parametrize(
        "html",
        [
            "<p hidden>x</p>",
            '<p style="display: none">x</p>',
            '<p aria-hidden="true">x</p>',
            "<template>x</template>",
            "<noscript>x</noscript>",
            "<style>x</style><script>x</script>",
            '<span class="sr-only">x</span>',
            "<nav>x</nav>",
            "<!-- x -->",
            "<form><label>x</label></form>",
        ],
    )
    def test_what_no_reader_sees_is_left_out(self, html: str):
        assert blocks(f"{html}<p>Text.</p>") == ("Text.",)


class TestHead:
    def test_version_locale_and_description_are_metadata(self):
        page = read_html(
            '<html lang="fr-CA"><meta name="docsearch:version" content="1.2"><meta name="description" content="D"><p>x',
            fallback="T",
        )

        assert page.metadata == {"locale": "fr-CA", "version": "1.2", "description": "D"}

    @pytest.mark.parametrize(
        "head",
        [
            '<meta name="robots" content="noindex, nofollow">',
            '<meta http-equiv="refresh" content="0; url=/x">',
            '<meta name="docusaurus_tag" content="doc_tag_doc_list">',
        ],
    )
    def test_a_page_that_does_not_want_to_be_found_says_so(self, head: str):
        assert read("<p>x</p>", head=head).unlisted


class TestBuiltFolders:
    @pytest.mark.parametrize(
        ("place", "canonical", "path", "address"),
        [
            ("index.html", "", "/", ""),
            ("index.html", "https://x.example/book/", "/", ""),
            ("a/b/index.html", "", "/a/b", "/a/b/"),
            ("a/b/index.html", "https://x.example/book/a/b/", "/a/b", "/a/b/"),
            ("a/b/index.html", "https://x.example/book/a/b", "/a/b", ""),
            ("a/b.html", "", "/a/b.html", ""),
            ("a/b.html", "https://x.example/a/b.html", "/a/b.html", ""),
            ("a/b.html", "https://x.example/a/b", "/a/b", ""),
            ("a/b.html", "http://[::1", "/a/b.html", ""),
            (
                "a/ماڈیول/index.html",
                "https://x.example/a/%D9%85%D8%A7%DA%88%DB%8C%D9%88%D9%84/",
                "/a/ماڈیول",
                "/a/ماڈیول/",
            ),
        ],
    )
    def test_a_page_stands_where_the_site_serves_it(self, place: str, canonical: str, path: str, address: str):
        html = f'<link rel="canonical" href="{canonical}"><main><h1>T</h1><p>x</p></main>'

        document = BuiltLayout().read(PurePosixPath(place), html.encode())

        assert document is not None
        assert (document.path, document.address) == (path, address)

    def test_pages_that_generators_write_besides_are_none(self):
        html = b"<main><h1>T</h1><p>x</p></main>"

        assert [
            BuiltLayout().read(PurePosixPath(f"{name}.html"), html) for name in ("404", "search", "genindex", "print")
        ] == [None] * 4

    @pytest.mark.parametrize(
        ("place", "version"),
        [("en/v1.2/a.html", "v1.2"), ("2.0/a.html", "2.0"), ("latest/a.html", "latest"), ("a/b.html", None)],
    )
    def test_a_version_is_read_from_the_path(self, place: str, version: str | None):
        document = BuiltLayout().read(PurePosixPath(place), b"<main><h1>T</h1><p>x</p></main>")

        assert document is not None
        assert document.metadata.get("version") == version

    def test_a_page_of_a_known_make_that_says_nothing_is_not_its_surroundings(self):
        page = b"<body><main class='book-page'><header>Menu</header><article class='markdown'> </article></main></body>"

        with pytest.raises(BrokenPage, match="no text"):
            BuiltLayout().read(PurePosixPath("tags/index.html"), page)

    def test_a_page_that_a_script_draws_is_skipped_with_the_reason(self):
        with pytest.raises(BrokenPage, match="script"):
            BuiltLayout().read(PurePosixPath("a.html"), b"<body><div id=root></div><script>draw()</script></body>")


class TestTrouble:
    def test_control_characters_come_out_of_no_reference_and_no_attribute(self):
        page = read(
            '<h1>A&#27;[2J</h1><p>Text&#7;.</p><img alt="b&#27;">', head='<meta name="description" content="c&#27;d">'
        )

        assert page.title == "A[2J"
        assert page.sections[0].blocks == ("Text.", "Figure: b")
        assert page.metadata["description"] == "cd"

    @pytest.mark.parametrize(
        "html",
        [
            "<div>" * 100_000 + "x",
            "<b><i>" * 50_000 + "x",
            "<table><tr><td>" * 50_000,
            "<ul><li>" * 50_000,
            "<blockquote>" * 100_000,
            "<div>" * 900 + "</x>" * 100_000,
            "<p " + " ".join(f"a{number}=1" for number in range(100_000)) + ">x</p>",
            "<p>x" * 200_000,
            "<" * 500_000,
            "&#" * 500_000,
            "<!--" * 200_000,
            "<pre>" + "\n" * 500_000 + "</pre>",
            "<p>" + "a " * 500_000,
            "<h2>x</h2>" * 10_000,
            "<table>" + "<tr><td>a<td>b" * 10_000,
            "\x00" * 100_000,
            "",
            '<p><label class="tab-label">x</label>' + '<label class="tab-label">x</label>' * 30_000,
            "<figure><img alt=a>" * 80 + "<b>x</b>" * 20_000,
            '<div class="admonition note">' * 90 + "<b>x</b>" * 30_000,
        ],
        ids=range(20),
    )
    def test_no_page_takes_long(self, html: str):
        started = time.process_time()
        with contextlib.suppress(BrokenPage):
            read_html(html, fallback="T")

        # Up to five where coverage is measured on a busy machine; what is not linear takes half a minute and more.
        assert time.process_time() - started < 20

    @pytest.mark.parametrize("html", ["<div>" * 100_000, "<p>x" * 200_000], ids=["deep", "many"])
    def test_one_that_is_too_much_says_what_is_wrong_with_it(self, html: str):
        with pytest.raises(BrokenPage, match=r"deep|elements"):
            read_html(html, fallback="T")

    @pytest.mark.parametrize(
        ("data", "charset", "text"),
        [
            ("Größe".encode(), "", "Größe"),
            (b"\xef\xbb\xbfx", "", "x"),
            ("Größe".encode("latin-1"), "iso-8859-1", "Größe"),
            (b'<meta charset="latin-1">' + "Größe".encode("latin-1"), "", '<meta charset="latin-1">Größe'),
            ("Größe".encode("utf-16"), "", "\ufeffGröße"),
        ],
    )
    def test_the_encoding_is_found(self, data: bytes, charset: str, text: str):
        assert decode_html(data, charset=charset).removeprefix("\ufeff") == text.removeprefix("\ufeff")

    def test_what_is_no_text_is_refused(self):
        with pytest.raises(BrokenPage, match="UTF-8"):
            decode_html(b"\x81\xff", charset="ascii")
