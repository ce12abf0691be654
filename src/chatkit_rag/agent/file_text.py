"""The text of a PDF or Office file, read in a process of its own that may be killed.

    python -m chatkit_rag.agent.file_text MEDIA_TYPE < file > {"text": …, "is_cut": …} or {"trouble": …}

A reader's file may be made to take for ever, or all memory: a thread could not be stopped, and a process can. What it
may take is bounded from outside by time, and in here by memory, pages, and what an archive unpacks to.
"""

import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from chatkit_rag.stores.media import PDF, PRESENTATION, WORD_DOCUMENT

CHARACTERS = 30_000
"""Of a file's text, at most."""

_PAGES = 200
_MEMORY = 1024**3
_UNPACKED = 100 * 1024**2
_ENTRIES = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileText:
    """What was found in a file."""

    text: str = ""
    is_cut: bool = False
    """Whether there is more than was read."""
    trouble: str = ""
    """Why there is no text: `missing` (the library), `locked`, `bomb`, `empty` or `damaged`."""


def file_text(media_type: str, data: bytes) -> FileText:
    """The text of a file of `READABLE`, without pictures and styles."""
    try:
        pages = _READERS[media_type](io.BytesIO(data))
        return _joined(pages)
    except ImportError:
        return FileText(trouble="missing")
    except _Locked:
        return FileText(trouble="locked")
    except _Bomb:
        return FileText(trouble="bomb")
    except Exception:  # noqa: BLE001 - the libraries raise whatever they stumble over in a file that somebody made
        return FileText(trouble="damaged")


class _Locked(Exception):
    """The file wants a password."""


class _Bomb(Exception):
    """The file unpacks to more than anybody would write."""


def _joined(pages: Iterable[str]) -> FileText:
    """The pages, those behind the first with their numbers, until there is enough."""
    text = ""
    for number, page in enumerate(pages, start=1):
        if number > _PAGES or len(text) > CHARACTERS:
            return FileText(text=text[:CHARACTERS], is_cut=True)
        # Broken fonts give halves of characters, which no JSON holds.
        if said := page.encode(errors="replace").decode().strip():
            text += f"[page {number}]\n{said}\n\n" if number > 1 else f"{said}\n\n"
    if not text:
        return FileText(trouble="empty")
    return FileText(text=text[:CHARACTERS].rstrip(), is_cut=len(text) > CHARACTERS)


def _pdf(file: BinaryIO) -> Iterator[str]:
    from pypdf import PdfReader  # noqa: PLC0415 - an extra's

    reader = PdfReader(file)
    if reader.is_encrypted and not reader.decrypt(""):
        raise _Locked
    return (page.extract_text() for page in reader.pages)


def _word(file: BinaryIO) -> Iterator[str]:
    import docx  # noqa: PLC0415 - an extra's
    from docx.table import Table  # noqa: PLC0415 - likewise

    _check_archive(file)
    blocks = docx.Document(file).iter_inner_content()
    # A Word file has no pages until it is laid out: it is one.
    yield "\n".join(_rows(block) if isinstance(block, Table) else block.text for block in blocks)


def _slides(file: BinaryIO) -> Iterator[str]:
    from pptx import Presentation  # noqa: PLC0415 - an extra's

    _check_archive(file)
    return ("\n".join(_shape_texts(slide.shapes)) for slide in Presentation(file).slides)


def _shape_texts(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        if shape.has_text_frame:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            yield _rows(shape.table)
        else:
            yield from _shape_texts(getattr(shape, "shapes", ()))  # a group's


def _rows(table: Any) -> str:
    return "\n".join(" | ".join(cell.text for cell in row.cells) for row in table.rows)


def _check_archive(file: BinaryIO) -> None:
    """Raises _Bomb by what the archive says of itself: no entry gives more than it says."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if len(entries) > _ENTRIES or sum(entry.file_size for entry in entries) > _UNPACKED:
        raise _Bomb
    file.seek(0)


_READERS: dict[str, Callable[[BinaryIO], Iterator[str]]] = {PDF: _pdf, WORD_DOCUMENT: _word, PRESENTATION: _slides}

READABLE = frozenset(_READERS)
"""The media types of files that have text to be read."""


def _bound_memory() -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - Unix' alone

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    _bound_memory()
    found = file_text(sys.argv[1], sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(asdict(found)))
