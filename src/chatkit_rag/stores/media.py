"""Which kinds of file are taken, what their first bytes must look like, and how they are called. Pure.

The signatures are our own: there are few kinds, and what tells them apart is published and does not change. A library
that knows hundreds of kinds would still not say whether bytes are text.
"""

import re
import unicodedata

HEAD_BYTES = 512
"""How much of a file's beginning tells its kind."""

NAME_CHARACTERS = 255

RASTER_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What a browser draws without running anything in it, which cannot be said of SVG."""

_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."

PDF = "application/pdf"
WORD_DOCUMENT = f"{_OFFICE}wordprocessingml.document"
PRESENTATION = f"{_OFFICE}presentationml.presentation"


def _zip(first_entry: bytes) -> bytes:
    """A ZIP archive whose first entry has this name; the name stands behind 30 bytes."""
    return rb"PK\x03\x04.{26}" + first_entry


def _office(folder: bytes) -> bytes:
    return _zip(rb"(?:\[Content_Types\]\.xml|_rels/|docProps/|customXml/|" + folder + rb"/)")


# The first bytes by kind. An office file is an archive whose parts may come in any order, but are few; an OpenDocument
# file begins with its own media type, uncompressed.
_SIGNATURES: dict[str, re.Pattern[bytes]] = {
    media_type: re.compile(pattern, re.DOTALL)
    for media_type, pattern in {
        "image/png": rb"\x89PNG\r\n\x1a\n",
        "image/jpeg": rb"\xff\xd8\xff",
        "image/gif": rb"GIF8[79]a",
        "image/webp": rb"RIFF.{4}WEBP",
        PDF: rb"%PDF-\d",
        WORD_DOCUMENT: _office(b"word"),
        f"{_OFFICE}spreadsheetml.sheet": _office(b"xl"),
        PRESENTATION: _office(b"ppt"),
        f"{_OPEN_DOCUMENT}text": _zip(rb"mimetypeapplication/vnd\.oasis\.opendocument\.text(?!-)"),
        f"{_OPEN_DOCUMENT}spreadsheet": _zip(rb"mimetypeapplication/vnd\.oasis\.opendocument\.spreadsheet(?!-)"),
        f"{_OPEN_DOCUMENT}presentation": _zip(rb"mimetypeapplication/vnd\.oasis\.opendocument\.presentation(?!-)"),
    }.items()
}

TEXTS = frozenset({"text/plain", "text/markdown", "text/csv", "application/json"})
"""What can be read as it is."""
_NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")

MEDIA_TYPES = frozenset(_SIGNATURES) | TEXTS
"""All kinds that can be told by their bytes. SVG and HTML, which run scripts, are not among them."""

_BY_ENDING = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".pdf": PDF,
    ".docx": WORD_DOCUMENT,
    ".xlsx": f"{_OFFICE}spreadsheetml.sheet",
    ".pptx": PRESENTATION,
    ".odt": f"{_OPEN_DOCUMENT}text",
    ".ods": f"{_OPEN_DOCUMENT}spreadsheet",
    ".odp": f"{_OPEN_DOCUMENT}presentation",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
}
_CODE = re.compile(
    r"\.(?:c|cc|cfg|cpp|cs|css|go|h|hpp|ini|ipynb|java|js|jsx|kt|launch|log|lua|m|msg|php|py|pyi|r|rb|rs|sh|sql|srv|swift"
    r"|toml|ts|tsx|urdf|xacro|yaml|yml)\Z",
    re.IGNORECASE,
)
"""Endings of what is text, whatever the many names are that browsers have for it; `.ts` is a video to some."""
_OTHER_NAMES = {"image/jpg": "image/jpeg", "text/x-markdown": "text/markdown", "application/csv": "text/csv"}
# Browsers say the first two where the system knows no better, and the third of CSV on Windows with Excel.
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "application/vnd.ms-excel"})

# Marks that turn the direction of text: with one of them `gpj.exe` reads `exe.jpg`.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNSHOWN = frozenset({"Cc", "Cs", "Zl", "Zp"})
_LONGEST_ENDING = 20


def media_type_of(declared: str, name: str) -> str:
    """The kind that a client says, without parameters and by its usual name; by the name's ending where it says none.

    Empty where neither says anything known. What is said is not yet true: see `looks_like`.
    """
    media_type = declared.partition(";")[0].strip().lower()
    if media_type in _SAYS_NOTHING:
        media_type = _BY_ENDING.get(_ending(name).lower(), "")
    if media_type not in MEDIA_TYPES and _CODE.search(name):
        return "text/plain"
    return _OTHER_NAMES.get(media_type, media_type)


def looks_like(media_type: str, head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD_BYTES`, or all that there is) can be of a kind of `MEDIA_TYPES`."""
    if media_type in TEXTS:
        known = any(signature.match(head) for signature in _SIGNATURES.values())
        return not known and not _NOT_IN_TEXT.search(head)
    return bool(_SIGNATURES[media_type].match(head))


def display_name(name: str) -> str:
    """What a file is called to people: the last part of the client's name, short, and without signs that deceive.

    It is shown and sent as a header's value; no path is ever made of it.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    shown = "".join(
        character
        for character in last
        if unicodedata.category(character) not in _UNSHOWN and character not in _DIRECTIONS
    )
    shown = shown.strip().rstrip(". ")
    if len(shown) > NAME_CHARACTERS:
        ending = _ending(shown)
        kept = ending if len(ending) <= _LONGEST_ENDING else ""
        shown = shown[: NAME_CHARACTERS - len(kept)] + kept
    return shown or "file"


def _ending(name: str) -> str:
    _, dot, ending = name.rpartition(".")
    return dot + ending
