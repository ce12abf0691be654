"""One generation as one file: built where the course is built, served elsewhere.

A gzipped tar. Its first member, `checksums.json`, has the SHA-256 of every other, so that a download that was cut, or
a file that is none of ours, is known before anything of it is served.
"""

import contextlib
import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import orjson

from chatkit_rag.errors import IndexError_, IndexUnreadable

_CHECKSUMS = "checksums.json"
_BLOCK = 1 << 20
_MOST_CHECKSUMS = 16 << 20
_LARGEST = 64 << 30
"""Bytes that an archive may unpack to: an end to what a crafted one can fill the disk with."""


def pack(generation: Path, target: Path) -> None:
    """Writes the files of a generation into `target`, which is there wholly or as it was before.

    Raises:
        IndexError_: it cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        files = {str(PurePosixPath(file.relative_to(generation))): file for file in _files(generation)}
        checksums = orjson.dumps({name: _sha256(file) for name, file in files.items()})
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(part, "w:gz", compresslevel=3) as archive:
            about = tarfile.TarInfo(_CHECKSUMS)
            about.size = len(checksums)
            archive.addfile(about, BytesIO(checksums))
            for name, file in files.items():
                archive.add(file, name, recursive=False)
        part.replace(target)
    except OSError as exc:
        raise IndexError_(f"cannot write {target}: {exc.strerror or exc}") from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unpack(archive: Path, place: Path, *, called: str = "") -> None:
    """Writes the files of an archive into the empty folder `place`.

    Args:
        archive: the file.
        place: where to.
        called: what errors call it; its path, where that is empty.

    Raises:
        IndexUnreadable: it is no archive of a generation, or not as it was written.
        OSError: the files cannot be written.
    """
    known_as = called or str(archive)
    try:
        with tarfile.open(archive, "r:gz") as opened:
            checksums = _checksums(opened)
            size = 0
            for member in opened:  # one by one: to read all of their names is to unpack all of it
                size += member.size
                if size > _LARGEST:
                    raise IndexUnreadable(f"{known_as} unpacks to more than {_LARGEST} bytes")
            for name, expected in checksums.items():
                member = opened.getmember(name)
                # A link holds nothing, and may stand for the same gigabyte a million times, or for itself.
                content = opened.extractfile(member) if member.isreg() else None
                if content is None or _write(content, place / _safe(name)) != expected:
                    raise IndexUnreadable(f"{known_as} is damaged: {name} is not as it was written")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, KeyError, TypeError, ValueError) as exc:
        raise IndexUnreadable(f"{known_as} is no index that `index --output` wrote, or it was cut: {exc}") from exc


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file())


def _checksums(archive: tarfile.TarFile) -> dict[str, str]:
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == _CHECKSUMS else None
    if content is None:
        raise ValueError(f"it does not begin with {_CHECKSUMS}")
    found = orjson.loads(content.read(_MOST_CHECKSUMS))
    if not isinstance(found, dict):
        raise TypeError(f"its {_CHECKSUMS} holds no names")
    return {str(name): str(checksum) for name, checksum in cast("dict[str, Any]", found).items()}


def _safe(name: str) -> PurePosixPath:
    """The name as a path that leads nowhere but down."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError(f"it holds the name {name!r}")
    return path


def _write(content: Any, file: Path) -> str:
    """Writes a member, leaving holes where it holds zeros; returns its checksum."""
    digest = hashlib.sha256()
    file.parent.mkdir(parents=True, exist_ok=True)
    zeros = bytes(_BLOCK)
    with file.open("wb") as writer:
        while block := content.read(_BLOCK):
            digest.update(block)
            if block == zeros[: len(block)]:
                writer.seek(len(block), os.SEEK_CUR)
            else:
                writer.write(block)
        writer.truncate(writer.tell())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
