"""Sources of MkDocs and mdBook, and plain folders: where their pages stand, and which ids their headings have."""

from pathlib import Path

import pytest

from chatkit_rag.documents import Document
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.sites import PageRead, read_folder
from chatkit_rag.ingestion.slugs import MdBookSlugs, MkDocsSlugs


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return root


def read(root: Path, kind: str = "auto") -> dict[str, Document]:
    pages = [page.document for page in read_folder(root, kind=kind) if isinstance(page, PageRead)]
    return {page.source: page for page in pages}


def blocks(text: str, root: Path) -> tuple[str, ...]:
    return read(write(root, {"mkdocs.yml": "", "docs/a.md": text}))["a.md"].sections[0].blocks


class TestMkDocs:
    @pytest.mark.parametrize(
        ("settings", "file", "path", "address"),
        [
            ("", "docs/index.md", "/", ""),
            ("", "docs/a/README.md", "/a", "/a/"),
            ("", "docs/a/01-b.md", "/a/01-b", "/a/01-b/"),
            ("docs_dir: text", "text/a.md", "/a", "/a/"),
            ("use_directory_urls: false", "docs/a/b.md", "/a/b.html", ""),
            ("use_directory_urls: false", "docs/a/index.md", "/a", "/a/index.html"),
        ],
    )
    def test_a_page_stands_where_mkdocs_publishes_it(
        self, tmp_path: Path, settings: str, file: str, path: str, address: str
    ):
        [page] = read(write(tmp_path, {"mkdocs.yml": settings, file: "Text."})).values()

        assert (page.path, page.address) == (path, address)

    @pytest.mark.parametrize("settings", [{"mkdocs.yml": ""}, {"docusaurus.config.js": ""}])
    def test_an_index_goes_before_the_readme_beside_it(self, tmp_path: Path, settings: dict[str, str]):
        root = write(tmp_path, {**settings, "docs/README.md": "For developers.", "docs/index.md": "For readers."})

        assert read(root).keys() == {"index.md"}

    def test_settings_that_name_python_are_read_all_the_same(self, tmp_path: Path):
        settings = """
site_name: !ENV NAME
docs_dir: text
markdown_extensions:
  - toc:
      slugify: !!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}
  - pymdownx.emoji:
      emoji_index: !!python/name:material.extensions.emoji.twemoji
"""
        root = write(tmp_path, {"mkdocs.yml": settings, "text/a.md": "# A\n\n## مقدمة في\n\nText."})

        assert [section.anchor for section in read(root)["a.md"].sections] == ["", "مقدمة-في"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('!!! note "A title"\n    One.\n\n    Two.\n\nAfter.', ("Note: A title\nOne.", "Two.", "After.")),
            ("!!! warning inline end\n    One.\n", ("Warning: One.",)),
            ('??? tip "T"\n    ```py\n    !!! x "y"\n    ```\n', ("Tip: T", '```py\n!!! x "y"\n```')),
            (
                '=== "A"\n    Text.\n\n    !!! note\n        In it.\n\n=== "B"\n    More.\n',
                ("A\nText.", "Note: In it.", "B\nMore."),
            ),
            ("Text.\n\n{: .class }\n\n[TOC]\n\n--8<-- 'x.md'\n", ("Text.",)),
        ],
    )
    def test_python_markdowns_blocks_are_read(self, tmp_path: Path, text: str, expected: tuple[str, ...]):
        assert blocks(text, tmp_path) == expected

    def test_ids_are_python_markdowns(self, tmp_path: Path):
        text = "# T\n\n## One {#own .x}\n\n## Größe & `code`!\n\n## One\n\n## One\n\n## 🚀\n\n## {: x } \n\n# Second\n"
        page = read(write(tmp_path, {"mkdocs.yml": "", "docs/a.md": text}))["a.md"]

        assert [section.anchor for section in page.sections][1:6] == ["own", "groe-code", "one", "one_1", "_1"]
        assert page.sections[-1].anchor == "second"

    @pytest.mark.parametrize("settings", ["a: [", "- a\n- b"])
    def test_broken_settings_are_an_error_that_names_the_file_or_are_none(self, tmp_path: Path, settings: str):
        root = write(tmp_path, {"mkdocs.yml": settings, "docs/a.md": "Text."})

        if settings.startswith("a"):
            with pytest.raises(IngestionError, match=r"mkdocs\.yml"):
                read(root)
        else:
            assert list(read(root)) == ["a.md"]


SUMMARY = """# Summary

[Preface](README.md)

- [One](a/one.md)
  - [Two `x`](./a/two.md)
- [Draft]()
"""
ONE = """# One

{{#title X}}

## What's a *node*?

```rust
# use x;
fn main() {}
```

## Own {#id}
"""
BOOK = {
    "book.toml": '[book]\ntitle = "B"\n',
    "src/SUMMARY.md": SUMMARY,
    "src/README.md": "Preface text.\n",
    "src/a/one.md": ONE,
    "src/a/two.md": "Text.\n",
    "src/unlisted.md": "Nobody links here.\n",
}


class TestMdBook:
    def test_the_chapters_of_the_summary_are_read_where_mdbook_publishes_them(self, tmp_path: Path):
        pages = read(write(tmp_path, BOOK))

        assert {place: (page.path, page.address, page.title) for place, page in pages.items()} == {
            "README.md": ("/", "", "Preface"),
            "a/one.md": ("/a/one.html", "", "One"),
            "a/two.md": ("/a/two.html", "", "Two x"),
        }

    def test_ids_are_mdbooks_and_lines_that_it_hides_are_left_out(self, tmp_path: Path):
        page = read(write(tmp_path, BOOK))["a/one.md"]

        assert [section.anchor for section in page.sections] == ["", "whats-a-node", "id"]
        assert page.sections[1].blocks == ("```rust\nfn main() {}\n```",)

    def test_the_folder_of_its_sources_is_known_too(self, tmp_path: Path):
        assert read(write(tmp_path, BOOK) / "src").keys() == read(tmp_path).keys()

    def test_a_book_without_a_summary_is_an_error(self, tmp_path: Path):
        with pytest.raises(IngestionError, match=r"SUMMARY\.md"):
            read(write(tmp_path, {"book.toml": "", "src/a.md": "x"}))


def test_a_plain_folder_is_read_as_it_stands(tmp_path: Path):
    pages = read(write(tmp_path, {"01-a/02-b.md": "# B\n\n## C c\n\nText.", "README.md": "Home."}), "plain")

    assert [page.path for page in pages.values()] == ["/01-a/02-b", "/"]
    assert pages["01-a/02-b.md"].sections[1].anchor == "c-c"


def test_a_docusaurus_project_is_read_at_its_docs(tmp_path: Path):
    files = {"docusaurus.config.js": "", "README.md": "Not a page.", "docs/01-a.md": "# A\n\nText."}

    assert [page.path for page in read(write(tmp_path, files)).values()] == ["/a"]


@pytest.mark.parametrize(("kind", "file"), [("mkdocs", "mkdocs.yml"), ("mdbook", "book.toml")])
def test_a_kind_whose_settings_are_not_there_is_an_error(tmp_path: Path, kind: str, file: str):
    with pytest.raises(IngestionError, match=file):
        read(write(tmp_path / "x", {"a.md": "Text."}), kind)


def test_sources_of_sphinx_are_an_error_that_says_what_to_do(tmp_path: Path):
    with pytest.raises(IngestionError, match="sphinx-build"):
        read(write(tmp_path, {"conf.py": "", "index.rst": "Text"}))


@pytest.mark.parametrize(
    ("texts", "ids"),
    [(["a", "a", "a_1"], ["a", "a_1", "a_2"]), (["", "日本"], ["_1", "_2"]), (["A - b -- c"], ["a-b-c"])],
)
def test_mkdocs_ids_are_never_given_twice(texts: list[str], ids: list[str]):
    slugs = MkDocsSlugs()

    assert [slugs.slug(text) for text in texts] == ids


def test_mdbooks_ids_count_up():
    slugs = MdBookSlugs()

    assert [slugs.slug(text) for text in ("A b", "a b", "Ünï (x)")] == ["a-b", "a-b-1", "ünï-x"]
