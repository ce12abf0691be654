"""A small server with Qdrant's REST interface over the real engine, for the real client: no real one can be installed.

What it says of routes, statuses and aliases is our idea of Qdrant's; what it says of points, vectors, filters and
scores is the engine's own. `QDRANT_URL` runs the same tests against a real one.
"""

import asyncio
import shutil
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import qdrant_edge as engine
from aiohttp import web

from chatkit_rag.retrieval.edge_generation import to_engine_filter


class QdrantServer:
    """Collections in a folder. `fault` decides, for each request, whether it fails: a status, or None."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[str, engine.EdgeShard] = {}
        self.aliases: dict[str, str] = {}
        self.requests: list[str] = []
        self.fault: Any = None
        self.delay = 0.0
        self.url = ""

    @asynccontextmanager
    async def running(self):
        app = web.Application(client_max_size=1 << 26, middlewares=[self._middleware()])
        app.add_routes(
            [
                web.get("/collections", self._list),
                web.get("/aliases", self._aliases),
                web.post("/collections/aliases", self._change_aliases),
                web.put("/collections/{name}", self._create),
                web.delete("/collections/{name}", self._delete),
                web.put("/collections/{name}/index", self._index),
                web.put("/collections/{name}/points", self._upsert),
                web.post("/collections/{name}/points", self._retrieve),
                web.post("/collections/{name}/points/scroll", self._scroll),
                web.post("/collections/{name}/points/query/batch", self._query),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
            for shard in self.shards.values():
                shard.close()

    def _middleware(self) -> Any:
        @web.middleware
        async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
            self.requests.append(f"{request.method} {request.path}")
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.fault and (status := self.fault(request)):
                return _error(status, "Service internal error: No space left on device")
            name = request.match_info.get("name")
            if name is not None and name not in self.shards and (request.method, request.path.count("/")) != ("PUT", 2):
                return _error(404, f"Not found: Collection `{name}` doesn't exist!")
            try:
                return await handler(request)
            except Exception as exc:  # noqa: BLE001 - the engine raises bare exceptions only
                return _error(400, f"Wrong input: {exc}")

        return middleware

    async def _list(self, _request: web.Request) -> web.Response:
        return _result({"collections": [{"name": name} for name in self.shards]})

    async def _aliases(self, _request: web.Request) -> web.Response:
        rows = [{"alias_name": alias, "collection_name": name} for alias, name in self.aliases.items()]
        return _result({"aliases": rows})

    async def _change_aliases(self, request: web.Request) -> web.Response:
        for action in (await request.json())["actions"]:
            if "delete_alias" in action:
                self.aliases.pop(action["delete_alias"]["alias_name"])
            else:
                self.aliases[action["create_alias"]["alias_name"]] = action["create_alias"]["collection_name"]
        return _result(result=True)

    async def _create(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.json()
        if name in self.shards:
            return _error(409, f"Wrong input: Collection `{name}` already exists!")
        place = self.folder / name
        place.mkdir(parents=True)
        vectors = {
            key: engine.EdgeVectorParams(size=given["size"], distance=engine.Distance.Cosine)
            for key, given in (body.get("vectors") or {}).items()
        }
        sparse = {
            key: engine.EdgeSparseVectorParams(modifier=engine.Modifier.Idf) for key in body.get("sparse_vectors") or {}
        }
        # The engine wants one vector at least, which points need not have.
        config = engine.EdgeConfig(
            vectors=vectors or None, sparse_vectors=sparse or {"unused": engine.EdgeSparseVectorParams()}
        )
        self.shards[name] = engine.EdgeShard.create(str(place), config)
        return _result(result=True)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.shards.pop(name).close()
        shutil.rmtree(self.folder / name)
        self.aliases = {alias: target for alias, target in self.aliases.items() if target != name}
        return _result(result=True)

    async def _index(self, request: web.Request) -> web.Response:
        body = await request.json()
        schema = body["field_schema"]
        kind = schema if isinstance(schema, str) else schema["type"]
        params: Any = getattr(engine.PayloadSchemaType, kind.capitalize())
        if not isinstance(schema, str):
            params = engine.KeywordIndexParams(is_tenant=schema.get("is_tenant"))
        self._shard(request).update(engine.UpdateOperation.create_field_index(body["field_name"], params))
        return _done()

    async def _upsert(self, request: web.Request) -> web.Response:
        points = [
            engine.Point(point["id"], {key: _vector(given) for key, given in point["vector"].items()}, point["payload"])
            for point in (await request.json())["points"]
        ]
        self._shard(request).update(engine.UpdateOperation.upsert_points(points))
        return _done()

    async def _retrieve(self, request: web.Request) -> web.Response:
        body = await request.json()
        found = self._shard(request).retrieve(body["ids"], body.get("with_payload"), body.get("with_vector"))
        return _result([_record(record) for record in found])

    async def _scroll(self, request: web.Request) -> web.Response:
        body = await request.json()
        found, offset = self._shard(request).scroll(
            engine.ScrollRequest(offset=body.get("offset"), limit=body["limit"], with_payload=True)
        )
        return _result({"points": [_record(record) for record in found], "next_page_offset": offset})

    async def _query(self, request: web.Request) -> web.Response:
        answers = []
        for search in (await request.json())["searches"]:
            asked = search["query"]["nearest"] if isinstance(search["query"], dict) else search["query"]
            points = self._shard(request).query(
                engine.QueryRequest(
                    limit=search["limit"],
                    query=engine.Query.Nearest(_vector(asked), using=search["using"]),
                    filter=to_engine_filter(search["filter"]) if search.get("filter") else None,
                )
            )
            rows = [{"id": str(point.id), "version": 0, "score": point.score} for point in points]
            answers.append({"points": rows})
        return _result(answers)

    def _shard(self, request: web.Request) -> engine.EdgeShard:
        return self.shards[request.match_info["name"]]


def _vector(given: Any) -> Any:
    return engine.SparseVector(given["indices"], given["values"]) if isinstance(given, dict) else given


def _record(record: engine.Record) -> dict[str, Any]:
    vectors: Any = record.vector or {}
    dense = {key: vector for key, vector in vectors.items() if isinstance(vector, list)}
    id_ = record.id if isinstance(record.id, int) else str(record.id)
    return {"id": id_, "payload": record.payload, "vector": dense}


def _result(result: Any) -> web.Response:
    return web.json_response({"result": result, "status": "ok", "time": 0.0})


def _done() -> web.Response:
    return _result({"operation_id": 0, "status": "completed"})


def _error(status: int, message: str) -> web.Response:
    headers = {"Retry-After": "1"} if status == 429 else {}
    return web.json_response({"status": {"error": message}, "time": 0.0}, status=status, headers=headers)
