"""Which kind of site a folder holds, told by the files that only one generator has."""

from collections.abc import Iterator
from pathlib import Path

from chatkit_rag.errors import IngestionError
from chatkit_rag.ingestion.built import BuiltLayout
from chatkit_rag.ingestion.docusaurus import DocusaurusLayout
from chatkit_rag.ingestion.layout import Layout

KINDS = ("auto", "docusaurus", "html")
"""What `choose_layout` knows."""

_LOOKED_THROUGH = 2_000
"""Files after which what a folder holds is taken to be known."""


def choose_layout(root: Path, kind: str = "auto") -> tuple[Path, Layout]:
    """The folder to read, and the layout of the site in it.

    Raises:
        IngestionError: there is no such kind, or the sources in the folder can only be read when they are built.
    """
    if kind not in KINDS:
        raise IngestionError(f"there is no kind of site {kind!r}: name one of {', '.join(KINDS)}")
    if kind == "html" or (kind == "auto" and _is_built(root)):
        return root, BuiltLayout(name=root.resolve().name)
    if kind == "auto" and (root / "conf.py").is_file() and _holds(root, ".rst"):
        raise IngestionError(
            f"{root} holds a site of Sphinx' sources: build it (`sphinx-build -b html {root} build`), "
            "and name the folder of the HTML"
        )
    return root, DocusaurusLayout(name=root.resolve().name)


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
