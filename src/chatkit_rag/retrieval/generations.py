"""Generations of an index on disk: built aside, renamed into place, pointed at, and opened as private copies.

    index/
      CURRENT        the name of the generation that is served
      gen-3/         complete and never changed again
      building-…/    under construction; whoever finds one that nobody locks may remove it

`CURRENT` is replaced by a rename, so a reader sees the old name or the new one, and a builder that dies leaves both
as they were. Knows files only, not what is in them.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from filelock import FileLock, Timeout

from chatkit_rag.errors import IndexError_, IndexMissing, IndexUnreadable
from chatkit_rag.retrieval.copying import check_room, copy_ready

_CURRENT = "CURRENT"
_PREFIX = "gen-"
_PREFIX_OF_OWN = "chatkit-rag-index-"
_GRACE = 60.0
"""Seconds in which a folder without a lock may still be in the making."""
_PATIENCE = 10.0
"""Seconds that a builder waits for another one to end."""


class Published(NamedTuple):
    """The generation that is to be served."""

    path: Path
    at: int
    """When `CURRENT` was written. An index that was removed and built anew begins at `gen-1` again."""


class Generations:
    """The generations in one directory."""

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self._directory = directory
        self._pointer = directory / _CURRENT
        self._keep = keep
        self._seen: tuple[tuple[int, int, int], Published] | None = None
        """What `CURRENT` was when it was read last, and what it said."""

    def current(self) -> Published | None:
        """The generation that is to be served; None before the first.

        Raises:
            IndexUnreadable: `CURRENT` cannot be read, or names no generation.
        """
        try:
            found = self._pointer.stat()
            version = (found.st_ino, found.st_size, found.st_mtime_ns)
            if self._seen is not None and self._seen[0] == version:
                return self._seen[1]
            with self._pointer.open(encoding="utf-8") as pointer:
                name = pointer.read().strip()
                at = os.fstat(pointer.fileno()).st_mtime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as exc:
            raise damaged(self._directory) from exc
        if not name.removeprefix(_PREFIX).isdecimal():
            raise damaged(self._directory)
        published = Published(self._directory / name, at)
        if at == version[2]:
            self._seen = version, published
        return published

    def names(self) -> list[str]:
        """The generations that are kept, oldest first."""
        return [f"{_PREFIX}{number}" for number in sorted(self._numbers())]

    def activate(self, name: str) -> None:
        """Makes a generation that is kept the current one.

        Raises:
            IndexMissing: there is none of this name.
            IndexError_: another process is building, or the directory cannot be written.
        """
        if name not in self.names():
            kept = ", ".join(self.names()) or "none"
            raise IndexMissing(f"there is no generation {name!r} in {self._directory} (kept: {kept})")
        with self._locked():
            self._point_at(name)

    @contextmanager
    def building(self) -> Generator[Path]:
        """A new directory to build in. It becomes the current generation when the block ends without an error.

        Raises:
            IndexError_: another process is building, or the directory cannot be written.
        """
        with self._locked():
            self._sweep()
            # Not `mkdtemp`, whose folder is closed to the users that the index may be served by.
            workplace = self._directory / f"building-{uuid4().hex}"
            workplace.mkdir()
            try:
                yield workplace
                self._publish(workplace)
            finally:
                shutil.rmtree(workplace, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self._directory / "lock").acquire(timeout=_PATIENCE):
                yield
        except Timeout as exc:
            raise IndexError_(
                f"another process is building the index in {self._directory}; wait until it is done"
            ) from exc
        except OSError as exc:
            raise IndexError_(
                f"cannot write the index in {self._directory}: {exc.strerror or exc}; "
                "choose another place with --data-dir"
            ) from exc

    def _publish(self, workplace: Path) -> None:
        existing = self._numbers()
        before = ""
        with suppress(IndexUnreadable):  # a pointer that is damaged is mended here
            served = self.current()
            before = served.path.name if served else ""
        generation = self._directory / f"{_PREFIX}{max(existing, default=0) + 1}"
        # All of it is on the disk before it is named: should the power fail, what `CURRENT` names is whole.
        for path in (workplace, *workplace.rglob("*")):
            _sync(path)
        workplace.rename(generation)
        _sync(self._directory)
        self._point_at(generation.name)
        # What was served goes last: who has gone back to it may want to again, and not to what was no good.
        old = sorted(existing, key=lambda number: (f"{_PREFIX}{number}" == before, number), reverse=True)
        for number in old[self._keep - 1 :]:
            shutil.rmtree(self._directory / f"{_PREFIX}{number}", ignore_errors=True)

    def _point_at(self, name: str) -> None:
        pointer = self._directory / f"{_CURRENT}.new"
        with pointer.open("w", encoding="utf-8") as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        pointer.replace(self._pointer)
        _sync(self._directory)

    def _sweep(self) -> None:
        """Removes what a builder that died left behind; the lock is ours, so nobody is at work on it."""
        for leftover in self._directory.glob("building-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _numbers(self) -> list[int]:
        names = (path.name.removeprefix(_PREFIX) for path in self._directory.glob(f"{_PREFIX}*"))
        return [int(name) for name in names if name.isdecimal()]


def _sync(path: Path) -> None:
    """Returns when a file is on the disk, or what a folder holds by name."""
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor a file be synced that is open for reading
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class OwnFolder:
    """A temporary folder of this process, locked, so that the next can tell and remove those of processes that died."""

    def __init__(self, parent: Path | None = None) -> None:
        """A new folder in `parent`; None stands for where temporary files go."""
        place = parent or Path(tempfile.gettempdir())
        _remove_abandoned(place)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX_OF_OWN, dir=place))
        # One thread makes the folder and another removes it: a lock of the one thread would stay held.
        self._lock = FileLock(self.path / "lock", thread_local=False)
        self._lock.acquire(timeout=0)

    def remove(self) -> None:
        """Removes the folder with all that is in it; a second call does nothing."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


class PrivateCopy:
    """A copy of a generation that only this process opens: the engine writes even to what it only reads."""

    def __init__(self, generation: Path) -> None:
        self._folder = OwnFolder()
        self.path = self._folder.path / "generation"
        try:
            shutil.copytree(generation, self.path, copy_function=copy_ready)
            check_room(self.path)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Removes the copy; a second call does nothing."""
        self._folder.remove()


def damaged(directory: Path) -> IndexUnreadable:
    """The error for an index whose files are not as they were written."""
    return IndexUnreadable(f"the index in {directory} is damaged; remove {directory} and index the pages again")


def _remove_abandoned(folders: Path) -> None:
    for place in folders.glob(f"{_PREFIX_OF_OWN}*"):
        try:
            if not _is_ours(place) or time.time() - place.stat().st_mtime < _GRACE:
                continue
            lock = FileLock(place / "lock")
            with lock.acquire(timeout=0):
                pass
            shutil.rmtree(place, ignore_errors=True)
        except (Timeout, OSError):
            continue


def _is_ours(place: Path) -> bool:
    """Whether it is a folder that we made: a link leads to what somebody else may want to be touched."""
    found = place.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
