"""A process that writes the slices of a share; `edge_processes` starts it.

    python -m chatkit_rag.retrieval.edge_worker [SCRATCH]

It is sent a `Share`, answers with its `Counts`, is sent the mean length of all texts, then vectors, and ends when all
is written. Everything comes and goes pickled.
"""

import gc
import pickle
import signal
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from chatkit_rag.retrieval.edge_slices import Share, SliceWriter
from chatkit_rag.retrieval.embedding import Vector


def main(incoming: BinaryIO, outgoing: BinaryIO, scratch: Path | None) -> int:
    """Does as the module says; 1 where what comes in ends in the middle, as it does when who sends it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: ours ends with its pipe
    gc.disable()  # there is none: everything here is flat, and made once
    try:
        share: Share = pickle.load(incoming)  # noqa: S301 - from the process that started this one
        writer = SliceWriter(share, scratch=scratch)
        pickle.dump(writer.count(), outgoing, pickle.HIGHEST_PROTOCOL)
        outgoing.flush()
        average_length: float = pickle.load(incoming)  # noqa: S301 - from the process that started this one
        writer.write(average_length, _received(incoming, share.dimension))
    except (BrokenPipeError, EOFError):
        return 1
    return 0


def _received(incoming: BinaryIO, dimension: int) -> Iterator[Vector]:
    """Vectors that are sent as arrays of several."""
    while True:
        several: array[float] = pickle.load(incoming)  # noqa: S301 - from the process that started this one
        for start in range(0, len(several), dimension):
            yield several[start : start + dimension]


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer, Path(sys.argv[1]) if len(sys.argv) > 1 else None))
