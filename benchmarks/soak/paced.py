"""A model server that says as many words as it is asked for, at the pace that it is asked for.

python paced.py PORT

The question says it, as `words=N pace=SECONDS`. How the interface is worded is the streaming benchmark's.
"""

import asyncio
import re
import sys

from model import BEGIN, HEAD, ModelProtocol, chunk, delta, end

ASKED = re.compile(rb"words=(\d+) pace=([\d.]+)")
WORD = " word"


class PacedProtocol(ModelProtocol):
    """One connection; the last `words=` of a request counts, which is the newest question's."""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = int(dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:]).get(b"content-length", 0))
        if not found or len(body) < length:
            return
        self._buffer = b""
        words, pace = ASKED.findall(body)[-1]
        self._transport.write(HEAD + chunk(BEGIN))
        self._say(int(words), int(words), float(pace), asyncio.get_running_loop().time())

    def _say(self, words: int, left: int, pace: float, due: float) -> None:
        if not left:
            self._transport.write(chunk(end(WORD * words)) + b"0\r\n\r\n")
            return
        self._transport.write(chunk(delta(WORD)))
        self._timer = asyncio.get_running_loop().call_at(due + pace, self._say, words, left - 1, pace, due + pace)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(PacedProtocol, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
