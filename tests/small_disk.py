"""Disks that are soon full."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


class Ballast:
    """A file that leaves nothing free on a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def put(self) -> None:
        with self._path.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    async def drop(self) -> None:
        self._path.unlink()


@contextmanager
def small_disk(*, megabytes: int) -> Iterator[Path]:
    """A disk of its own size, where this process may mount one; not below pytest's folder, which is for one user."""
    place = Path(tempfile.mkdtemp(prefix="chatkit-rag-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    try:
        if mounted.returncode:
            pytest.skip("no disk can be mounted here")
        yield place
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()
