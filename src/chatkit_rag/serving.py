"""`serve` once the pages are indexed: the app in uvicorn, in this process or in several."""

import asyncio
import contextlib
import gc
import math
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.applications import Starlette

from chatkit_rag.agent.models import ChosenModel
from chatkit_rag.indexing import build_embedder
from chatkit_rag.settings import Settings
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.telemetry import set_up_logging
from chatkit_rag.wiring import build_database, build_model, create_site, session_secret

_LAST_RESORT_SECONDS = 15
"""What connections get beyond the time to drain: the app ends its streams itself, but not readers who do not read."""


def run(settings: Settings, listening: socket.socket, *, say: Callable[[str], object]) -> None:
    """Serves until the process is told to stop, and drains then.

    Args:
        settings: what to serve, and how.
        listening: where; bound already.
        say: told the lines for the operator, the address when it answers.
    """
    set_up_logging()
    # What cannot work is told here, once, and not by every worker in the middle of its start.
    session_secret(settings)
    threads = asyncio.run(_check_store(settings))
    model = build_model(settings)
    port = listening.getsockname()[1]
    say(f"Model      {model.label}; {_cost(model)}")
    say(f"Embedder   {build_embedder(settings).label}")
    say(f"Threads    {threads}")
    ready = f"Ready on   http://{_shown(settings.host)}:{port}  (Ctrl-C stops)"
    patience = math.ceil(settings.drain_seconds) + _LAST_RESORT_SECONDS
    # The signal that stopped the server is raised again when all is closed: nothing is left to be told then.
    with _sigterm_as_ctrl_c(), contextlib.suppress(KeyboardInterrupt):
        if settings.workers > 1:
            settings.export()
            listening.close()  # every worker binds anew
            say(ready)
            uvicorn.run(
                "chatkit_rag.serving:create_lasting_site",
                factory=True,
                workers=settings.workers,
                host=settings.host,
                port=port,
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=patience,
            )
        else:
            config = uvicorn.Config(
                create_lasting_site(settings), log_level="warning", access_log=False, timeout_graceful_shutdown=patience
            )
            _Server(config, lambda: say(ready)).run([listening])


def create_lasting_site(settings: Settings | None = None) -> Starlette:
    """The site of a process that serves nothing else.

    What is there by now stays for good, so Python is told to look for no garbage in it: the 250,000 objects that the
    libraries come with would stop every answer for a tenth of a second each time.
    """
    site = create_site(settings)
    gc.freeze()
    return site


class _Server(uvicorn.Server):
    """Says where it listens when it does, and not before."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Generator[None]:
    """Being told to stop is no failure: whoever looks at the exit status finds 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _check_store(settings: Settings) -> str:
    """Where the threads are kept, which was tried."""
    store = build_database(settings)
    try:
        await store.open()
    finally:
        await store.close()
    return store.label if isinstance(store, PostgresStore) else str(settings.threads_file)


def _cost(model: ChosenModel) -> str:
    return "every answer is charged by the model's server" if model.costs_money else "an answer costs nothing"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
