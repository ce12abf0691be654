"""The floor: the model server's bytes passed through, on bare ASGI and aiohttp. No protocol, no store, no parsing."""

# ruff: noqa: TID251 - the environment is how run.py tells its servers

import asyncio
import os
from typing import Any

import aiohttp


class Proxy:
    def __init__(self) -> None:
        self._url = f"{os.environ['MODEL_URL']}/responses"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST":
            await self._pass_on(receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass_on(self, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        assert self._session
        async with self._session.post(self._url, data=body, timeout=aiohttp.ClientTimeout()) as response:
            # Without this the request upstream would stay open when the client has left.
            watch = asyncio.ensure_future(self._watch(receive, response))
            try:
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async for piece in response.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            except aiohttp.ClientError:
                pass
            finally:
                watch.cancel()

    async def _watch(self, receive: Any, response: aiohttp.ClientResponse) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        response.close()


app = Proxy()
