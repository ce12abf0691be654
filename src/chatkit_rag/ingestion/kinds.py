"""Which kind of site a folder holds, told by the files that only one generator has."""

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote

import yaml

from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.built import BuiltLayout
from chatkit_rag.ingestion.docusaurus import DocusaurusLayout
from chatkit_rag.ingestion.folders import page_bytes
from chatkit_rag.ingestion.layout import Layout
from chatkit_rag.ingestion.markdown import BrokenPage, decode_markdown
from chatkit_rag.ingestion.markdown_layouts import MdBookLayout, MkDocsLayout, PlainLayout

KINDS = ("auto", "docusaurus", "mkdocs", "mdbook", "plain", "html")
"""What `choose_layout` knows."""

_LINK = re.compile(r"\[(?P<title>[^\]\n]*)\]\(<?(?P<target>[^)>\n]*)>?\)")
_LOOKED_THROUGH = 2_000
"""Files after which what a folder holds is taken to be known."""


def choose_layout(root: Path, kind: str = "auto") -> tuple[Path, Layout]:
    """The folder to read, and the layout of the site in it.

    Raises:
        IngestionError: there is no such kind, or the sources in the folder can only be read when they are built.
    """
    if kind not in KINDS:
        raise IngestionError(f"there is no kind of site {kind!r}: name one of {', '.join(KINDS)}")
    name = root.resolve().name
    if kind in ("auto", "mkdocs") and (found := _mkdocs(root, name)):
        return found
    if kind in ("auto", "mdbook") and (found := _mdbook(root)):
        return found
    if kind in ("mkdocs", "mdbook"):
        file = "mkdocs.yml" if kind == "mkdocs" else "book.toml"
        raise IngestionError(f"{root} has no {file}, nor has the folder that it is in: name the folder that has it")
    if kind == "html" or (kind == "auto" and _is_built(root)):
        return root, BuiltLayout(name=name)
    if kind == "plain":
        return root, PlainLayout(name=name)
    if kind == "auto" and (root / "conf.py").is_file() and _holds(root, ".rst"):
        raise IngestionError(
            f"{root} holds a site of Sphinx' sources: build it (`sphinx-build -b html {root} build`), "
            "and name the folder of the HTML"
        )
    if any(root.glob("docusaurus.config.*")) and (root / "docs").is_dir():
        root /= "docs"
    return root, DocusaurusLayout(name=name)


def _mkdocs(root: Path, name: str) -> tuple[Path, Layout] | None:
    """A folder with `mkdocs.yml`, or the one that such a file's `docs_dir` names."""
    for home in (root, root.parent):
        for file in (home / "mkdocs.yml", home / "mkdocs.yaml"):
            if not file.is_file():
                continue
            text = _settings(file)
            try:
                loaded: Any = yaml.load(text, Loader=_LenientLoader)  # noqa: S506 - it makes no objects
            except yaml.YAMLError as error:
                raise IngestionError(f"{file} is not valid YAML: {error}") from error
            settings = cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else {}
            docs = home / str(settings.get("docs_dir") or "docs")
            if home != root and docs.resolve() != root.resolve():
                continue
            return docs, MkDocsLayout(
                name=str(settings.get("site_name") or name),
                directory_urls=settings.get("use_directory_urls") is not False,
                unicode_slugs="pymdownx.slugs" in text or "slugify_unicode" in text,
                lower_slugs="pymdownx.slugs" not in text or "case: lower" in text,
            )
    return None


def _mdbook(root: Path) -> tuple[Path, Layout] | None:
    """A folder with `book.toml`, or the one that such a file's `src` names."""
    for home in (root, root.parent):
        file = home / "book.toml"
        if not file.is_file():
            continue
        try:
            book: Any = tomllib.loads(_settings(file)).get("book", {})
        except tomllib.TOMLDecodeError as error:
            raise IngestionError(f"{file} is not valid TOML: {error}") from error
        source = home / str(book.get("src") or "src")
        if home != root and source.resolve() != root.resolve():
            continue
        summary = source / "SUMMARY.md"
        if not summary.is_file():
            raise IngestionError(f"{source} has no SUMMARY.md, which says what mdBook publishes")
        return source, MdBookLayout(chapters=dict(_chapters(_settings(summary))))
    return None


def _chapters(summary: str) -> Iterator[tuple[PurePosixPath, str]]:
    for found in _LINK.finditer(summary):
        target = unquote(found["target"]).partition("#")[0]
        if target and "://" not in target:
            yield PurePosixPath(posixpath.normpath(target)), found["title"].replace("`", "")


def _settings(file: Path) -> str:
    try:
        return decode_markdown(page_bytes(file))
    except (BrokenPage, OSError) as error:
        raise IngestionError(f"{file} cannot be read: {error}") from error


def _nothing(_loader: yaml.SafeLoader, _tag: str, _node: yaml.Node) -> None:
    pass


class _LenientLoader(yaml.SafeLoader):
    """Reads what MkDocs' settings name in Python (`!!python/name:…`, `!ENV`) as nothing."""

    yaml_multi_constructors = {**yaml.SafeLoader.yaml_multi_constructors, "": _nothing}  # noqa: RUF012 - as PyYAML has it


def _is_built(root: Path) -> bool:
    """Whether the folder holds HTML pages and no Markdown ones."""
    return _holds(root, ".html") and not _holds(root, ".md", ".mdx")


def _holds(root: Path, *suffixes: str) -> bool:
    for looked_at, file in enumerate(_files(root)):
        if file.suffix.lower() in suffixes:
            return True
        if looked_at > _LOOKED_THROUGH:
            return False
    return False


def _files(root: Path) -> Iterator[Path]:
    """The files below, those near the root first; links are not followed."""
    waiting = [root]
    while waiting:
        folder = waiting.pop(0)
        try:
            children = sorted(folder.iterdir())
        except OSError:
            continue
        for child in children:
            if child.name.startswith((".", "_")) or child.name == "node_modules" or child.is_symlink():
                continue
            if child.is_dir():
                waiting.append(child)
            else:
                yield child
