"""Reading a folder of pages."""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from chatkit_rag.documents import Document
from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion import folders
from chatkit_rag.ingestion.docusaurus import page_path
from chatkit_rag.ingestion.folders import SkippedPage
from chatkit_rag.ingestion.sites import PageRead, read_folder


def write(root: Path, pages: dict[str, str | bytes]) -> Path:
    for name, text in pages.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(root: Path) -> list[Document]:
    return [page.document for page in read_folder(root) if isinstance(page, PageRead)]


def skipped(root: Path) -> dict[str, str]:
    return {page.page: page.reason for page in read_folder(root) if isinstance(page, SkippedPage)}


class TestPages:
    def test_a_page_is_read_with_its_path_title_sections_and_front_matter(self, tmp_path: Path):
        write(tmp_path, {"week-1/01-nodes.mdx": "---\ntags: [ros]\n---\n# Nodes\n\n{/* c */}\n\n## Why\n\nBecause.\n"})

        [page] = read(tmp_path)

        assert (page.path, page.title, page.source) == ("/week-1/nodes", "Nodes", "week-1/01-nodes.mdx")
        assert [section.anchor for section in page.sections] == ["", "why"]
        assert page.metadata == {"tags": ["ros"], "week": 1}

    def test_they_come_in_the_order_of_their_paths(self, tmp_path: Path):
        names = ["a.md", "b/a.md", "b/c/a.md", "b/d.md", "b-a.md", "c.mdx"]
        write(tmp_path, dict.fromkeys(reversed(names), "Text."))

        assert [page.source for page in read(tmp_path)] == ["a.md", "b/a.md", "b/c/a.md", "b/d.md", "b-a.md", "c.mdx"]

    def test_a_page_without_a_title_is_called_after_its_file(self, tmp_path: Path):
        root = write(tmp_path / "my_course", {"02-first-steps.md": "a", "week-1/index.md": "b", "index.md": "c"})

        assert [page.title for page in read(root)] == ["First steps", "My course", "Week 1"]

    def test_drafts_partials_and_hidden_files_are_left_out_in_silence(self, tmp_path: Path):
        write(
            tmp_path,
            {
                "page.md": "Text.",
                "draft.md": "---\ndraft: true\n---\nText.",
                "unlisted.md": "---\nunlisted: true\n---\nText.",
                "_partial.mdx": "Text.",
                "_parts/page.md": "Text.",
                ".hidden/page.md": "Text.",
                ".page.md": "Text.",
                "node_modules/lib/README.md": "Text.",
                "image.svg": "<svg/>",
                "data.json": "{}",
            },
        )

        assert [page if isinstance(page, SkippedPage) else page.document.source for page in read_folder(tmp_path)] == [
            "page.md"
        ]

    def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(self, tmp_path: Path):
        write(tmp_path, {"page.md": b"\xef\xbb\xbf---\r\ntitle: T\r\n---\r\nOne\r\nparagraph.\r\n"})

        [page] = read(tmp_path)

        assert page.title == "T"
        assert page.sections[0].blocks == ("One paragraph.",)

    @pytest.mark.parametrize(
        ("name", "front_matter", "blocks"),
        [
            ("page.md", "", ("The set {1}.",)),
            ("page.mdx", "", ("The set .",)),
            ("page.mdx", "mdx:\n  format: md\n", ("The set {1}.",)),
            ("page.md", "mdx:\n  format: mdx\n", ("The set .",)),
        ],
    )
    def test_the_suffix_says_what_a_page_is_written_in_unless_the_page_does(
        self, tmp_path: Path, name: str, front_matter: str, blocks: tuple[str, ...]
    ):
        write(tmp_path, {name: f"---\n{front_matter}---\nThe set {{1}}."})

        assert read(tmp_path)[0].sections[0].blocks == blocks


class TestPaths:
    @pytest.mark.parametrize(
        ("file", "front_matter", "path"),
        [
            ("index.md", {}, "/"),
            ("README.md", {}, "/"),
            ("intro.md", {}, "/intro"),
            ("a/b/c.mdx", {}, "/a/b/c"),
            ("a/index.md", {}, "/a"),
            ("a/ReadMe.md", {}, "/a"),
            ("a/b/B.md", {}, "/a/b"),
            ("01-a/01-a.md", {}, "/a"),
            ("01-a/a.md", {}, "/a/a"),
            ("a/01-index.md", {}, "/a/index"),
            ("01-Intro/002 - My Page.md", {}, "/Intro/My Page"),
            ("1.a/2_b/03---c.md", {}, "/a/b/c"),
            ("2024-05-01-notes.md", {}, "/2024-05-01-notes"),
            ("8.0/18_2-migration.md", {}, "/8.0/18_2-migration"),
            ("01/01-.md", {}, "/01/01-"),
            ("4x.md", {}, "/4x"),
            ("01-a/02-b.md", {"parse_number_prefixes": False}, "/01-a/02-b"),
            ("01-a/02-b.md", {"id": "03-c"}, "/a/03-c"),
            ("a/index.md", {"id": "c"}, "/a"),
            ("01-a/b.md", {"slug": "/x/y/"}, "/x/y"),
            ("01-a/b.md", {"slug": "/"}, "/"),
            ("01-a/b.md", {"slug": "x"}, "/a/x"),
            ("01-a/index.md", {"slug": "x", "id": "y"}, "/a/x"),
            ("a/b/c.md", {"slug": "../x/./y"}, "/a/x/y"),
            ("a/b.md", {"slug": "../../../x"}, "/x"),
            ("a/b.md", {"slug": 2024}, "/a/2024"),
            ("ماڈیول/نوڈز.md", {}, "/ماڈیول/نوڈز"),
        ],
    )
    def test_they_are_docusaurus_own(self, file: str, front_matter: dict[str, Any], path: str):
        assert page_path(PurePosixPath(file), front_matter) == path

    @pytest.mark.parametrize(
        ("folder", "front_matter", "expected"),
        [
            ("module-1/week-2", "", {"module": 1, "week": 2}),
            ("Module 4", "", {"module": 4}),
            ("02-module-3/week3", "", {"module": 3, "week": 3}),
            ("week-1/week-02", "", {"week": 2}),
            ("weekend-1/modules", "", {}),
            ("module-1", "module: 7\nweek: '8'\n", {"module": 7, "week": 8}),
            ("module-1", "module: Basics\n", {"module": "Basics"}),
        ],
    )
    def test_modules_and_weeks_are_read_from_them(
        self, tmp_path: Path, folder: str, front_matter: str, expected: dict[str, Any]
    ):
        write(tmp_path, {f"{folder}/page.md": f"---\n{front_matter}---\nText."})

        assert read(tmp_path)[0].metadata == expected

    def test_of_two_pages_with_one_path_the_second_is_skipped_and_both_are_named(self, tmp_path: Path):
        write(tmp_path, {"01-a.md": "First.", "a.md": "Second."})

        assert [page.source for page in read(tmp_path)] == ["01-a.md"]
        assert "01-a.md and a.md" in skipped(tmp_path)["a.md"]


@pytest.mark.parametrize("kind", ["docusaurus", "plain"])
def test_a_truth_value_between_quotation_marks_is_one(tmp_path: Path, kind: str):
    page = "---\npublished: 'False'\nlevel: 'true'\n---\nText."
    write(tmp_path, {"a.md": page})

    [read_page] = read_folder(tmp_path, kind=kind)

    assert isinstance(read_page, PageRead)
    assert read_page.document.metadata == {"published": False, "level": "true"}


class TestTrouble:
    def test_pages_that_cannot_be_read_are_reported_and_the_others_go_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(folders, "MOST_BYTES", 1_000)
        write(
            tmp_path,
            {
                "a-latin.md": "Größe".encode("latin-1"),
                "b-yaml.md": "---\ntitle: a: b\n---\n",
                "c-large.md": "x" * 1_001,
                "d-id.md": "---\nid: a/b\n---\n",
                "e-slug.md": "---\nslug: /a?b\n---\n",
                "f-good.md": "Text.",
            },
        )
        os.mkfifo(tmp_path / "g-pipe.md")

        reasons = skipped(tmp_path)

        assert [page.path for page in read(tmp_path)] == ["/f-good"]
        assert "UTF-8" in reasons["a-latin.md"]
        assert "YAML (line 2)" in reasons["b-yaml.md"]
        assert "MB" in reasons["c-large.md"]
        assert "slash" in reasons["d-id.md"]
        assert "?" in reasons["e-slug.md"]
        assert "regular file" in reasons["g-pipe.md"]

    def test_a_name_that_is_not_utf_8_is_reported(self, tmp_path: Path):
        write(tmp_path, {"a.md": "Text."})
        os.rename(tmp_path / "a.md", os.fsencode(tmp_path) + b"/\xff.md")  # noqa: PTH104 - a path of bytes
        write(tmp_path, {"b.md": "Text."})

        assert skipped(tmp_path) == {"?.md": "its name is not UTF-8, or holds control characters: rename it"}

    def test_control_characters_reach_no_title_no_text_and_no_address(self, tmp_path: Path):
        write(
            tmp_path,
            {
                "a.md": '---\ntitle: "One\\e[2J\\nline"\n---\n## A \x1b[31mheading\n\nText \x07and\x9b more.',
                "b.md": '---\nslug: "b\\nc"\n---\nText.',
                "c\x1b[2J.md": "Text.",
            },
        )

        [page] = read(tmp_path)

        assert page.title == "One[2J line"
        assert page.sections[1].heading_path == ("One[2J line", "A [31mheading")
        assert page.sections[1].blocks == ("Text and more.",)
        reasons = skipped(tmp_path)
        assert reasons.keys() == {"b.md", "c?[2J.md"}
        assert all("control characters" in reason for reason in reasons.values())

    def test_a_page_that_vanishes_while_others_are_read_is_reported(self, tmp_path: Path):
        write(tmp_path, {"a.md": "Text.", "b.md": "Text."})
        pages = read_folder(tmp_path)
        next(pages)

        (tmp_path / "b.md").unlink()

        assert next(pages) == SkippedPage("b.md", "it cannot be read: No such file or directory")

    def test_links_are_followed_within_the_folder_only(self, tmp_path: Path):
        outside = write(tmp_path / "outside", {"secret.md": "Secret."})
        root = write(tmp_path / "docs", {"a/page.md": "Text.", "_shared/shared.md": "Shared."})
        (root / "b-inside.md").symlink_to(root / "_shared/shared.md")
        (root / "c-folder").symlink_to(root / "a")
        (root / "d-outside").symlink_to(outside)
        (root / "e-outside.md").symlink_to(outside / "secret.md")
        (root / "a/loop").symlink_to(root)
        (root / "f-self.md").symlink_to(root / "f-self.md")
        (root / "g-gone.md").symlink_to(root / "gone.md")

        pages, reasons = read(root), skipped(root)

        assert [page.source for page in pages] == ["a/page.md", "b-inside.md", "c-folder/page.md"]
        assert "leaves the folder" in reasons["d-outside"]
        assert "leaves the folder" in reasons["e-outside.md"]
        assert "stands in" in reasons["a/loop"]
        assert "leads nowhere" in reasons["f-self.md"]
        assert "leads nowhere" in reasons["g-gone.md"]

    def test_folders_that_link_to_each_other_end(self, tmp_path: Path):
        for name in "abcdefgh":
            write(tmp_path, {f"{name}/page-{name}.md": "Text."})
            for other in "abcdefgh".replace(name, ""):
                (tmp_path / name / other).symlink_to(tmp_path / other)

        assert len(read(tmp_path)) == 64

    @pytest.mark.parametrize("mode", ["missing", "file", "empty", "drafts only"])
    def test_a_folder_without_pages_is_an_error_that_says_what_to_do(self, tmp_path: Path, mode: str):
        root = tmp_path / "docs"
        if mode == "file":
            root.write_text("text")
        elif mode != "missing":
            write(root, {"notes.txt": "text", "_draft.md": "text"})

        with pytest.raises(IngestionError, match=r"\.mdx|name the"):
            read_folder(root)
