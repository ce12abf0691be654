"""`FetchedIndex`: an index that is built elsewhere, comes as an archive, and is looked for again from time to time."""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import anyio.to_thread
import orjson
from filelock import FileLock, Timeout

from chatkit_rag.errors import IndexError_, IndexUnavailable, IndexUnreadable
from chatkit_rag.retrieval.archive import unpack
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.edge_generation import check
from chatkit_rag.retrieval.embedding import Embedder
from chatkit_rag.retrieval.generations import Generations

_log = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds that a process waits for another one that fetches the same."""
_BLOCK = 1 << 18
_LOOKED_UP = 0.2
"""Seconds between two looks whether all is to end."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Archive:
    """Where an archive comes from, and what it was when it was fetched last."""

    source: str
    directory: Path
    stop: threading.Event = field(default_factory=threading.Event)

    def bring_up_to_date(self) -> None:
        """Publishes the archive as a generation in the directory, where it is another one than the last.

        Raises:
            IndexUnavailable: it cannot be had.
            IndexUnreadable: it is damaged; what was published before stays.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.directory / "fetch.lock").acquire(timeout=_PATIENCE):
                self._fetch()
        except Timeout as exc:
            raise IndexUnavailable(f"another process has been fetching {self.source} for a minute") from exc
        except OSError as exc:
            raise IndexUnavailable(f"{self.source} cannot be had: {exc.strerror or exc}") from exc

    def _fetch(self) -> None:
        noted = self.directory / "fetched.json"
        generations = Generations(self.directory)
        before = _noted(noted) if generations.current() is not None else {}
        part = self.directory / "download.part"
        try:
            if self.source.startswith(("http://", "https://")):
                now = asyncio.run(self._unless_stopped(self._download(part, before)))
                archive = part
            else:
                archive = Path(self.source)
                if archive.is_dir():
                    raise IndexUnreadable(
                        f"{archive} is a folder, and no index that `index --output` wrote into a file"
                    )
                about = archive.stat()
                now = {"source": self.source, "modified": about.st_mtime_ns, "bytes": about.st_size}
            if now in (None, before):
                return
            with generations.building() as place:
                unpack(archive, place, called=self.source)
                check(place, called=self.source)
            noted.write_bytes(orjson.dumps(now))
        finally:
            part.unlink(missing_ok=True)

    async def _unless_stopped(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What `work` gives; a server that says nothing keeps nobody from the end."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOKED_UP)
            if self.stop.is_set():
                task.cancel()
                raise IndexUnavailable("the server is about to end")
        return task.result()

    async def _download(self, part: Path, before: dict[str, Any]) -> dict[str, Any] | None:
        """Writes what is there now to `part`, and returns what it is; None where that is the same as before."""
        headers: dict[str, str] = {}
        if before.get("source") == self.source:
            asked = {"If-None-Match": before.get("etag"), "If-Modified-Since": before.get("modified")}
            headers = {name: value for name, value in asked.items() if value}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
        try:
            # What is packed already is not to be packed once more on the way.
            async with (
                aiohttp.ClientSession(timeout=timeout, headers={"Accept-Encoding": "identity"}) as session,
                session.get(self.source, headers=headers) as response,
            ):
                if response.status == 304:
                    return None
                if response.status != 200:
                    raise IndexUnavailable(f"{self.source} answered {response.status}")
                digest = hashlib.sha256()
                with part.open("wb") as file:
                    async for block in response.content.iter_chunked(_BLOCK):
                        file.write(block)
                        digest.update(block)
                tags = {"etag": response.headers.get("ETag"), "modified": response.headers.get("Last-Modified")}
                # A server that names no version of what it sends has sent something else all the same.
                return {"source": self.source, **tags, "checksum": digest.hexdigest()}
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise IndexUnavailable(f"{self.source} cannot be had: {exc or 'it took too long'}") from exc


def _noted(file: Path) -> dict[str, Any]:
    try:
        noted = orjson.loads(file.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}  # it is fetched again, which costs little and mends it
    return cast("dict[str, Any]", noted) if isinstance(noted, dict) else {}


class FetchedIndex(EdgeIndex):
    """An `EdgeIndex` whose generations come from an archive that `index --output` wrote, at a path or an address.

    Any number of processes may share the directory: one of them fetches, all of them take over.
    """

    def __init__(
        self,
        source: str,
        directory: str | Path,
        *,
        refresh: float = 600.0,
        language: str = "english",
        embedder: Embedder | None = None,
    ) -> None:
        """An index that is fetched from `source` into `directory`, and looked for again every `refresh` seconds."""
        super().__init__(directory, language=language, embedder=embedder)
        self._source = source
        self._archive = _Archive(source, Path(directory))
        self._refresh = refresh
        self._refresher: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """See `PassageIndex.open`: fetches first; where that fails, serves what was fetched before.

        Raises:
            IndexUnavailable: it cannot be had, and nothing was fetched before.
        """
        try:
            if self._refresher is None:
                self._refresher = ThreadPoolExecutor(1, thread_name_prefix="chatkit-rag-fetch")
                await self._fetch_first()
                self._refresher.submit(self._refresh_until_stopped)
            await super().open()
        except BaseException:
            await self.close()  # else the refresher would keep the process from its end, and nothing be fetched again
            raise

    async def _fetch_first(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._archive.bring_up_to_date)
        except IndexError_ as exc:
            if Generations(self._archive.directory).current() is None:
                raise
            _log.warning("going on with the index that was fetched before: %s", exc)

    async def close(self) -> None:
        """See `PassageIndex.close`."""
        refresher, self._refresher = self._refresher, None
        if refresher is not None:
            self._archive.stop.set()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(refresher.shutdown)
            self._archive = _Archive(self._source, self._archive.directory)
        await super().close()

    def _refresh_until_stopped(self) -> None:
        archive = self._archive
        while not archive.stop.wait(self._refresh):
            try:
                archive.bring_up_to_date()
            except IndexError_ as exc:
                _log.warning("the index stays as it is: %s", exc)
            except Exception:  # noqa: BLE001 - one look that fails must not be the last
                _log.exception("the index stays as it is, and is looked for again")
