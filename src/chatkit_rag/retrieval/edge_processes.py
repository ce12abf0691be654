"""Processes that write the slices of a generation side by side; `edge_worker` is what they run.

The engine holds Python's lock in every call, and to put a slice in order takes it tenths of a second; to read ten
thousand passages takes Python a second. In another process, whoever answers readers in this one is not kept waiting.
"""

import contextlib
import os
import pickle
import shutil
import signal
import sys
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from typing import BinaryIO, Self, cast

from chatkit_rag.errors import IndexError_
from chatkit_rag.retrieval.counting import Counts
from chatkit_rag.retrieval.edge_slices import Share
from chatkit_rag.retrieval.embedding import Vector
from chatkit_rag.retrieval.generations import OwnFolder

_COMMAND = (sys.executable, "-P", "-m", "chatkit_rag.retrieval.edge_worker")

_MEMORY = Path("/dev/shm")  # noqa: S108 - for folders of our own, with names that nobody guesses
"""Where files are kept in memory, on Linux."""
_ROOM = 256 * 1024**2
"""Bytes that must be free where a slice is written, which takes some ten million: the engine maps its files into
memory, so a process that finds no room is killed."""
_NO_ROOM = (-signal.SIGBUS,) if hasattr(signal, "SIGBUS") else ()
"""How a process ends that finds no room for a file that is mapped into its memory."""
_PATIENT = 10
"""The priority of a process that others may keep waiting, as `nice` counts."""
_SENT = 64
"""Vectors that are sent at once."""


class SliceProcess:
    """A `SliceWriter` in a process of its own, which starts at once, so that it is ready when the passages are."""

    def __init__(self, share: Share) -> None:
        """A process for a share.

        Raises:
            OSError: none can be started here.
        """
        self._share = share
        with ExitStack() as begun:
            command = [*_COMMAND]
            if has_room(_MEMORY):
                scratch = OwnFolder(_MEMORY)
                begun.callback(scratch.remove)
                command.append(str(scratch.path))
            self._process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)  # noqa: S603 - our own module
            begun.callback(self._end_process)
            if hasattr(os, "setpriority"):  # whoever answers readers on this machine goes first, also while it starts
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _PATIENT)
            self._to_it = cast("BinaryIO", self._process.stdin)
            self._from_it = cast("BinaryIO", self._process.stdout)
            self._begun = begun.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._begun.close()

    def count(self) -> Counts:
        """See `SliceWriter.count`.

        Raises:
            IndexError_: the process cannot read its share.
        """
        try:
            self._send(self._share)
            counts: Counts = pickle.load(self._from_it)  # noqa: S301 - from a process of our own
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as exc:  # the last where it ends within its answer
            raise self._failure() from exc
        return counts

    def write(self, average_length: float, vectors: Sequence[Vector]) -> None:
        """See `SliceWriter.write`; returns when the slices are complete.

        Raises:
            IndexError_: the engine cannot write them.
        """
        with contextlib.suppress(BrokenPipeError):  # what it stumbled over, it says itself
            self._send(average_length)
            for start in range(0, len(vectors), _SENT):
                self._send(array("f", chain.from_iterable(vectors[start : start + _SENT])))
        failure = self._failure()
        if self._process.returncode != 0:
            raise failure

    def _send(self, what: object) -> None:
        self._to_it.write(pickle.dumps(what, pickle.HIGHEST_PROTOCOL))
        self._to_it.flush()

    def _failure(self) -> IndexError_:
        """Waits for its end, and says why it ended where it should not have."""
        _, said = self._process.communicate()
        status = self._process.returncode
        why = said.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {status}"
        if status in _NO_ROOM:
            why = f"no space is left in {self._share.slices.parent.parent}"
        return IndexError_(f"the index cannot be written: {why}")

    def _end_process(self) -> None:
        self._process.kill()  # one that has ended does not mind
        self._process.communicate()


def has_room(folder: Path) -> bool:
    """Whether slices can be written in the folder without danger to the process that does."""
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM
    except OSError:
        return False
