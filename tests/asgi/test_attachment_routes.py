"""Files over HTTP: two ways up, one way down, each for its owner only."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from chatkit_rag import create_app
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.asgi.uploads import incoming_file
from chatkit_rag.auth import SessionTokens, nobody
from chatkit_rag.context import Principal, RequestContext, utc_now
from chatkit_rag.errors import ConfigurationError, FilesUnavailable, StoreUnavailable
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.settings import Settings
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.attachments import FileQuota
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.attachments_s3 import S3AttachmentStore
from chatkit_rag.stores.memory import MemoryStore
from protocol.frames import call, refusal, request
from s3_server import KEYS, AwkwardService, Bucket, awkward_service

pytestmark = pytest.mark.anyio

SECRET = "a secret of more than thirty-two bytes"
TOKENS = SessionTokens(SECRET)
ADA, EVE = Principal("ada", tenant="school"), Principal("eve", tenant="school")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
TEXT = "Größe\n".encode()
LARGEST = 1000


class FailingStore(MemoryStore):
    """A store that can refuse to keep a file's record."""

    away = False

    async def save_attachment(self, attachment: Any, context: RequestContext) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().save_attachment(attachment, context)


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> Any:
        return utc_now() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def server(store: FailingStore, course_index: EdgeIndex, folder: Path, clock: Clock) -> RagChatServer:
    files = LocalAttachmentStore(folder, secret=SECRET, largest=LARGEST, clock=clock)
    return RagChatServer(store, sources=[CourseSource(course_index)], model="extractive", attachment_store=files)


@pytest.fixture
async def chat(server: RagChatServer) -> AsyncIterator[ChatApp]:
    app = ChatApp(server, authenticate=nobody, sessions=TOKENS)
    async with app.lifespan():
        yield app


def client_of(app: ASGIApp, **transport: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **transport), base_url="http://localhost")


def bearer(principal: Principal) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.issue(principal).client_secret}"}


@pytest.fixture
async def anyone(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with client_of(chat) as http:
        yield http


@pytest.fixture
async def ada(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(chat) as http:
        http.headers.update(bearer(ADA))
        yield http


@pytest.fixture
async def eve(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(chat) as http:
        http.headers.update(bearer(EVE))
        yield http


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def form(content: bytes, name: str = "a.txt", media_type: str = "text/plain", field: str = "file") -> dict[str, Any]:
    """A form, as ChatKit's client sends it."""
    return {"files": {field: (name, content, media_type)}}


async def declare(
    http: httpx.AsyncClient, content: bytes = TEXT, name: str = "a.txt", media_type: str = "text/plain"
) -> dict[str, Any]:
    return await call(http, "attachments.create", name=name, size=len(content), mime_type=media_type)


def target(attachment: dict[str, Any]) -> str:
    return attachment["upload_descriptor"]["url"]


async def attach(
    http: httpx.AsyncClient, content: bytes = TEXT, name: str = "a.txt", media_type: str = "text/plain"
) -> dict[str, Any]:
    """A file that was uploaded in one step."""
    answer = await http.post("/attachments", **form(content, name, media_type))
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestTwoPhases:
    @pytest.mark.parametrize("how", ["form by POST", "bytes by PUT", "bytes by POST"])
    async def test_the_signed_address_takes_the_file_without_credentials(
        self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient, how: str
    ):
        attachment = await declare(ada)

        if how == "form by POST":
            answer = await anyone.request(attachment["upload_descriptor"]["method"], target(attachment), **form(TEXT))
        else:
            answer = await anyone.request(how.removeprefix("bytes by "), target(attachment), content=TEXT)

        assert answer.status_code == 200, answer.text
        assert answer.json() == {key: value for key, value in attachment.items() if key != "upload_descriptor"}
        assert (await ada.get(f"/attachments/{attachment['id']}")).content == TEXT

    async def test_the_record_tells_whether_the_upload_is_complete(self, ada: httpx.AsyncClient, store: FailingStore):
        context = RequestContext(principal=ADA)
        attachment = await declare(ada)
        before = await store.load_attachment(attachment["id"], context)

        await ada.put(target(attachment), content=TEXT)

        after = await store.load_attachment(attachment["id"], context)
        assert before.upload_descriptor is not None
        assert after.upload_descriptor is None
        assert after.metadata == {"size": len(TEXT)}

    async def test_it_works_once(self, ada: httpx.AsyncClient):
        attachment = await declare(ada)
        await ada.put(target(attachment), content=TEXT)

        again = await ada.put(target(attachment), content=TEXT[::-1])

        assert refusal(again, 409)["code"] == "conflict"
        assert (await ada.get(f"/attachments/{attachment['id']}")).content == TEXT

    async def test_of_many_at_once_one_counts(self, ada: httpx.AsyncClient, folder: Path):
        attachment = await declare(ada)

        answers = await asyncio.gather(*(ada.put(target(attachment), content=TEXT) for _ in range(8)))

        assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
        assert [path.name for path in stored(folder)] == [attachment["id"]]

    async def test_after_ten_minutes_it_is_too_late(self, ada: httpx.AsyncClient, clock: Clock, folder: Path):
        attachment = await declare(ada)
        clock.ahead = timedelta(minutes=10)

        refused = await ada.put(target(attachment), content=TEXT)

        assert "expired" in refusal(refused, 403)["message"]
        assert stored(folder) == []

    @pytest.mark.parametrize(
        ("content", "media_type", "status"),
        [
            (TEXT + b"x", "text/plain", 413),
            (b"x" * 200_000, "text/plain", 413),
            (TEXT[:-1], "text/plain", 422),
            (b"", "text/plain", 422),
            (TEXT, "text/csv", 415),
            (TEXT, "text/html", 415),
            (bytes(len(TEXT)), "text/plain", 415),
        ],
    )
    @pytest.mark.parametrize("as_form", [True, False])
    async def test_another_file_than_declared_is_refused_and_nothing_stays(
        self, ada: httpx.AsyncClient, folder: Path, content: bytes, media_type: str, status: int, *, as_form: bool
    ):
        attachment = await declare(ada)
        body = form(content, media_type=media_type) if as_form else {"content": content}
        headers = {} if as_form else {"Content-Type": media_type}

        refusal(await ada.post(target(attachment), headers=headers, **body), status)

        assert stored(folder) == []
        refusal(await ada.get(f"/attachments/{attachment['id']}"), 404)
        assert (await ada.put(target(attachment), content=TEXT)).status_code == 200

    @pytest.mark.parametrize("signature", ["", "x", "a.b.c", None])
    async def test_without_its_signature_the_address_takes_nothing(
        self, ada: httpx.AsyncClient, folder: Path, signature: str | None
    ):
        attachment = await declare(ada)
        params = {} if signature is None else {"signature": signature}

        refusal(await ada.put(f"/attachments/{attachment['id']}", params=params, content=TEXT), 403)

        assert stored(folder) == []

    async def test_a_signature_is_for_one_file(self, ada: httpx.AsyncClient, folder: Path):
        first, second = await declare(ada), await declare(ada)

        refused = await ada.put(target(first).replace(first["id"], second["id"]), content=TEXT)

        refusal(refused, 403)
        assert stored(folder) == []

    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic eDp5"])
    async def test_a_bad_header_is_refused_although_none_is_needed(
        self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient, header: str
    ):
        attachment = await declare(ada)

        refusal(await anyone.put(target(attachment), content=TEXT, headers={"Authorization": header}), 401)

    async def test_a_record_that_is_gone_takes_nothing(self, ada: httpx.AsyncClient, folder: Path):
        attachment = await declare(ada)
        await call(ada, "attachments.delete", attachment_id=attachment["id"])

        refusal(await ada.put(target(attachment), content=TEXT), 404)

        assert stored(folder) == []

    async def test_one_that_is_deleted_while_its_bytes_come_does_not_come_back(
        self, ada: httpx.AsyncClient, folder: Path
    ):
        attachment = await declare(ada)

        async def body() -> AsyncIterator[bytes]:
            yield TEXT[:3]
            await call(ada, "attachments.delete", attachment_id=attachment["id"])
            yield TEXT[3:]

        refusal(await ada.put(target(attachment), content=body()), 404)

        assert stored(folder) == []
        refusal(await ada.post("/", json=request("attachments.delete", attachment_id=attachment["id"])), 404)

    async def test_nor_does_one_that_is_deleted_when_they_have_come(
        self, ada: httpx.AsyncClient, folder: Path, server: RagChatServer, monkeypatch: pytest.MonkeyPatch
    ):
        attachment = await declare(ada)
        files: Any = server.attachment_store
        write = files.write

        async def write_and_delete(*arguments: Any) -> None:
            await write(*arguments)
            await call(ada, "attachments.delete", attachment_id=attachment["id"])

        monkeypatch.setattr(files, "write", write_and_delete)

        refusal(await ada.put(target(attachment), content=TEXT), 404)

        refusal(await ada.post("/", json=request("attachments.delete", attachment_id=attachment["id"])), 404)

    async def test_a_complete_record_takes_no_other_file_although_its_own_is_lost(
        self, ada: httpx.AsyncClient, folder: Path
    ):
        attachment = await declare(ada)
        await ada.put(target(attachment), content=TEXT)
        stored(folder)[0].unlink()

        refusal(await ada.put(target(attachment), content=TEXT), 409)

        assert stored(folder) == []

    async def test_a_record_that_cannot_be_kept_leaves_no_bytes(
        self, ada: httpx.AsyncClient, store: FailingStore, folder: Path
    ):
        attachment = await declare(ada)
        store.away = True

        refusal(await ada.put(target(attachment), content=TEXT), 503)

        assert stored(folder) == []
        store.away = False
        assert (await ada.put(target(attachment), content=TEXT)).status_code == 200

    @pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", "application/x-msdownload"])
    async def test_other_kinds_are_refused_at_once(self, ada: httpx.AsyncClient, media_type: str):
        refused = await ada.post("/", json=request("attachments.create", name="x", size=9, mime_type=media_type))

        assert "image/png" in refusal(refused, 415)["details"]["media_types"]


class TestDirect:
    @pytest.mark.parametrize("field", ["file", "upload"])
    async def test_a_form_becomes_a_file_that_is_complete(self, ada: httpx.AsyncClient, field: str):
        answer = await ada.post("/attachments", **form(TEXT, "Größe.txt", field=field))

        attachment = answer.json()
        assert {**attachment, "id": ""} == {"type": "file", "id": "", "name": "Größe.txt", "mime_type": "text/plain"}
        assert (await ada.get(f"/attachments/{attachment['id']}")).content == TEXT

    @pytest.mark.parametrize(
        ("headers", "query"), [({}, "?name=Gr%C3%B6%C3%9Fe.txt"), ({"X-File-Name": "Gr%C3%B6%C3%9Fe.txt"}, "")]
    )
    async def test_so_does_a_body_of_bytes(self, ada: httpx.AsyncClient, headers: dict[str, str], query: str):
        headers = {"Content-Type": "text/plain; charset=utf-8", **headers}

        answer = await ada.post(f"/attachments{query}", content=TEXT, headers=headers)

        attachment = answer.json()
        assert (attachment["name"], attachment["mime_type"]) == ("Größe.txt", "text/plain")
        assert (await ada.get(f"/attachments/{attachment['id']}")).content == TEXT

    async def test_an_image_has_a_preview(self, ada: httpx.AsyncClient):
        image = await attach(ada, PNG, "a.png", "image/png")

        assert image["type"] == "image"
        assert image["preview_url"].startswith(f"http://localhost/attachments/{image['id']}?signature=")

    @pytest.mark.parametrize(
        ("content", "name", "media_type", "status"),
        [
            (b"x" * (LARGEST + 1), "a.txt", "text/plain", 413),
            (b"x" * 200_000, "a.txt", "text/plain", 413),
            (b"", "a.txt", "text/plain", 422),
            (b"<svg/>", "a.svg", "image/svg+xml", 415),
            (b"<p>", "a.html", "text/html", 415),
            (b"<svg/>", "a.png", "image/png", 415),
            (PNG, "a.txt", "text/plain", 415),
            (b"MZ\0", "a.exe", "application/octet-stream", 415),
        ],
    )
    @pytest.mark.parametrize("as_form", [True, False])
    async def test_what_is_not_taken_leaves_nothing(
        self,
        ada: httpx.AsyncClient,
        folder: Path,
        content: bytes,
        name: str,
        media_type: str,
        status: int,
        *,
        as_form: bool,
    ):
        if as_form:
            refused = await ada.post("/attachments", **form(content, name, media_type))
        else:
            refused = await ada.post(f"/attachments?name={name}", content=content, headers={"Content-Type": media_type})

        refusal(refused, status)
        assert stored(folder) == []

    async def test_a_file_of_the_largest_size_is_taken(self, ada: httpx.AsyncClient):
        attachment = await attach(ada, b"x" * LARGEST)

        assert (await ada.get(f"/attachments/{attachment['id']}")).content == b"x" * LARGEST

    async def test_somebody_unknown_uploads_nothing(self, anyone: httpx.AsyncClient, folder: Path):
        refusal(await anyone.post("/attachments", **form(TEXT)), 401)

        assert stored(folder) == []

    @pytest.mark.parametrize(
        ("content", "content_type"),
        [
            (b"", "multipart/form-data"),
            (b"", "multipart/form-data; boundary=x"),
            (b"nonsense", "multipart/form-data; boundary=x"),
            (b"--x\r\n\r\nno header\r\n--x--", "multipart/form-data; boundary=x"),
            (
                b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--',
                "multipart/form-data; boundary=x",
            ),
            (b"--x", "multipart/form-data; boundary=" + "x" * 1000),
            (b"--x", "multipart/form-data; boundary=x; charset=none"),
            (b"file=x", "application/x-www-form-urlencoded"),
        ],
    )
    async def test_a_form_that_is_none_is_refused(
        self, ada: httpx.AsyncClient, folder: Path, content: bytes, content_type: str
    ):
        refused = await ada.post("/attachments", content=content, headers={"Content-Type": content_type})

        refusal(refused, 415, 422)
        assert stored(folder) == []

    async def test_a_form_without_end_is_given_up_early(self, ada: httpx.AsyncClient, folder: Path):
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
            while taken < 10_000_000:
                taken += 10_000
                yield b"x" * 10_000

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        refusal(await ada.post("/attachments", content=endless(), headers=headers), 413)

        assert taken < 100_000
        assert stored(folder) == []

    async def test_so_it_is_in_a_host_that_answers_bad_forms_itself(self, chat: ChatApp):
        headers = {**bearer(ADA), "Content-Type": "multipart/form-data; boundary=x"}
        async with client_of(Starlette(routes=[Mount("/chat", app=chat)])) as http:
            refusal(await http.post("/chat/attachments", content=b"nonsense", headers=headers), 422)

    async def test_a_form_with_two_files_is_refused(self, ada: httpx.AsyncClient, folder: Path):
        files = [("file", (f"{n}.txt", TEXT, "text/plain")) for n in range(2)]

        refusal(await ada.post("/attachments", files=files), 422)

        assert stored(folder) == []

    async def test_a_record_that_cannot_be_kept_leaves_no_bytes(
        self, ada: httpx.AsyncClient, store: FailingStore, folder: Path
    ):
        store.away = True

        refusal(await ada.post("/attachments", **form(TEXT)), 503)

        assert stored(folder) == []

    async def test_a_file_that_does_not_arrive_is_given_up(
        self, ada: httpx.AsyncClient, folder: Path, monkeypatch: Any
    ):
        monkeypatch.setattr(incoming_file.__wrapped__, "__kwdefaults__", {"within": 0.05})

        async def stalled() -> AsyncIterator[bytes]:
            yield TEXT
            await asyncio.Event().wait()

        refused = await ada.post("/attachments?name=a.txt", content=stalled(), headers={"Content-Type": "text/plain"})

        assert "in time" in refusal(refused, 422)["message"]
        assert stored(folder) == []

    async def test_a_client_that_leaves_leaves_nothing(self, chat: ChatApp, folder: Path):
        messages = [{"type": "http.request", "body": TEXT, "more_body": True}, {"type": "http.disconnect"}]
        sent: list[dict[str, Any]] = []
        headers = {**bearer(ADA), "Content-Type": "text/plain", "Host": "localhost"}
        scope = {
            "type": "http", "method": "POST", "scheme": "http", "path": "/attachments", "query_string": b"name=a.txt",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await chat(scope, receive, send)

        assert sent[0]["status"] == 422
        assert stored(folder) == []


class TestForeignPages:
    """A form is among what a page of another site can send without asking, as the reader `local`, or with cookies."""

    @pytest.fixture
    async def local(self, server: RagChatServer) -> AsyncIterator[httpx.AsyncClient]:
        app = ChatApp(server, authenticate=nobody, sessions=TOKENS, options=AppOptions(local_reader=True))
        async with app.lifespan(), client_of(app) as http:
            yield http

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:8001"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    async def test_they_upload_nothing(self, local: httpx.AsyncClient, folder: Path, headers: dict[str, str]):
        refusal(await local.post("/attachments", headers=headers, **form(TEXT)), 403)

        assert stored(folder) == []

    @pytest.mark.parametrize(
        "headers", [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied"}]
    )
    async def test_our_own_page_does(self, local: httpx.AsyncClient, headers: dict[str, str]):
        assert (await local.post("/attachments", headers=headers, **form(TEXT))).status_code == 200

    async def test_a_page_with_a_token_does(self, ada: httpx.AsyncClient):
        headers = {"Origin": "https://course.example", "Sec-Fetch-Site": "cross-site"}

        assert (await ada.post("/attachments", headers=headers, **form(TEXT))).status_code == 200


class TestDownload:
    async def test_it_is_saved_and_never_run(self, ada: httpx.AsyncClient):
        attachment = await attach(ada, b"<script>alert(1)</script>", "a'b ö.txt")

        answer = await ada.get(f"/attachments/{attachment['id']}")

        assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''a%27b%20%C3%B6.txt"
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cache-control"] == "private, no-store"

    @pytest.mark.parametrize("range_", ["bytes=0-1", "bytes=9999-", "nonsense", "bytes=0-0,2-2"])
    async def test_it_comes_whole_whatever_part_is_asked_for(self, ada: httpx.AsyncClient, range_: str):
        attachment = await attach(ada)

        answer = await ada.get(f"/attachments/{attachment['id']}", headers={"Range": range_})

        assert (answer.status_code, answer.content, answer.headers["accept-ranges"]) == (200, TEXT, "none")

    async def test_its_head_alone_can_be_asked_for(self, ada: httpx.AsyncClient):
        attachment = await attach(ada)

        answer = await ada.head(f"/attachments/{attachment['id']}")

        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(TEXT)))

    async def test_another_reader_s_looks_like_none(
        self, ada: httpx.AsyncClient, eve: httpx.AsyncClient, anyone: httpx.AsyncClient
    ):
        attachment = await attach(ada)
        none = attachment["id"].replace("atc_", "atc_0")[:-1]

        hers, nobodys = [refusal(await eve.get(f"/attachments/{id_}"), 404) for id_ in (attachment["id"], none)]

        assert json.dumps(hers).replace(attachment["id"], none) == json.dumps(nobodys)
        refusal(await anyone.get(f"/attachments/{attachment['id']}"), 401)

    async def test_one_that_is_not_uploaded_yet_is_not_there(self, ada: httpx.AsyncClient):
        attachment = await declare(ada)

        refusal(await ada.get(f"/attachments/{attachment['id']}"), 404)

    async def test_one_whose_upload_was_never_acknowledged_is_not_there(
        self, ada: httpx.AsyncClient, store: FailingStore, folder: Path
    ):
        attachment = await declare(ada)
        context = RequestContext(principal=ADA)
        waiting = await store.load_attachment(attachment["id"], context)
        await ada.put(target(attachment), content=TEXT)
        await store.save_attachment(waiting, context)  # as a crash leaves it

        refusal(await ada.get(f"/attachments/{attachment['id']}"), 404)

    async def test_one_whose_bytes_are_lost_is_not_there(self, ada: httpx.AsyncClient, folder: Path):
        attachment = await attach(ada)
        stored(folder)[0].unlink()

        refusal(await ada.get(f"/attachments/{attachment['id']}"), 404)

    @pytest.mark.parametrize("id_", ["%2e%2e%2f", "..%2f..%2fx", "%00", "atc_1", "con", "a" * 5000])
    async def test_no_id_is_a_path(self, ada: httpx.AsyncClient, folder: Path, id_: str):
        await attach(ada)

        refusal(await ada.get(f"/attachments/{id_}"), 404)


class TestPreview:
    async def test_an_image_is_shown_without_credentials(self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient):
        image = await attach(ada, PNG, "a.png", "image/png")

        answer = await anyone.get(image["preview_url"])

        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PNG, "image/png")
        assert answer.headers["content-disposition"] == 'inline; filename="a.png"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"

    async def test_it_works_as_soon_as_the_bytes_are_there(self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient):
        image = await declare(ada, PNG, "a.png", "image/png")
        refusal(await anyone.get(image["preview_url"]), 404)

        await anyone.put(target(image), content=PNG)

        assert (await anyone.get(image["preview_url"])).content == PNG

    async def test_without_its_signature_an_image_is_saved_like_other_files(self, ada: httpx.AsyncClient):
        image = await attach(ada, PNG, "a.png", "image/png")

        answer = await ada.get(f"/attachments/{image['id']}")

        assert answer.headers["content-disposition"].startswith("attachment")

    async def test_after_an_hour_it_is_shown_no_more(
        self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient, clock: Clock
    ):
        image = await attach(ada, PNG, "a.png", "image/png")
        clock.ahead = timedelta(hours=1)

        refusal(await anyone.get(image["preview_url"]), 403)

    async def test_an_upload_s_signature_shows_nothing(self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient):
        image = await declare(ada, PNG, "a.png", "image/png")
        await anyone.put(target(image), content=PNG)

        refusal(await anyone.get(target(image)), 403)

    async def test_a_record_that_was_made_an_image_is_not_shown(
        self, ada: httpx.AsyncClient, anyone: httpx.AsyncClient, store: FailingStore
    ):
        image = await attach(ada, PNG, "a.png", "image/png")
        context = RequestContext(principal=ADA)
        record = await store.load_attachment(image["id"], context)
        await store.save_attachment(record.model_copy(update={"mime_type": "image/svg+xml"}), context)

        answer = await anyone.get(image["preview_url"])

        assert answer.headers["content-disposition"].startswith("attachment")


class TestDeleting:
    async def test_record_and_bytes_go(self, ada: httpx.AsyncClient, folder: Path):
        attachment = await attach(ada)

        assert await call(ada, "attachments.delete", attachment_id=attachment["id"]) == {}

        assert stored(folder) == []
        refusal(await ada.get(f"/attachments/{attachment['id']}"), 404)

    async def test_another_reader_deletes_nothing(self, ada: httpx.AsyncClient, eve: httpx.AsyncClient):
        attachment = await attach(ada)

        refusal(await eve.post("/", json=request("attachments.delete", attachment_id=attachment["id"])), 404)

        assert (await ada.get(f"/attachments/{attachment['id']}")).content == TEXT


class TestAddresses:
    """The client is sent to where it came from, whatever host the app is mounted in."""

    async def uploaded(self, http: httpx.AsyncClient, path: str) -> str:
        created = await http.post(
            path, json=request("attachments.create", name="a.txt", size=len(TEXT), mime_type="text/plain"),
            headers=bearer(ADA),
        )  # fmt: skip
        attachment = created.json()
        answer = await http.put(target(attachment), content=TEXT)
        assert answer.status_code == 200, answer.text
        return target(attachment).partition("/attachments/")[0]

    @pytest.mark.parametrize("path", ["/a/chat", "/a/chat/"])
    async def test_in_starlette(self, chat: ChatApp, path: str):
        async with client_of(Starlette(routes=chat.routes("/a/chat"))) as http:
            assert await self.uploaded(http, path) == "http://localhost/a/chat"
        async with client_of(Starlette(routes=[Mount("/a", routes=[Mount("/chat", app=chat)])])) as http:
            assert await self.uploaded(http, "/a/chat/") == "http://localhost/a/chat"

    @pytest.mark.parametrize("path", ["/chat", "/chat/"])
    @pytest.mark.parametrize("prefix", ["", "/proxy"], ids=["stripped", "kept"])
    async def test_in_fastapi_below_a_proxy_s_path(self, chat: ChatApp, path: str, prefix: str):
        host = FastAPI()
        host.router.routes.extend(chat.routes("/chat"))
        seen: list[str] = []

        async def proxy(scope: Any, receive: Any, send: Any) -> None:
            """Takes its own prefix off, or leaves it."""
            seen.append(scope["path"])
            below = prefix + scope["path"].removeprefix("/proxy")
            await host({**scope, "path": below, "raw_path": below.encode(), "root_path": "/proxy"}, receive, send)

        async with client_of(proxy) as http:
            assert await self.uploaded(http, f"/proxy{path}") == "http://localhost/proxy/chat"
        assert all(path.startswith("/proxy/") for path in seen)

    async def test_in_litestar(self, chat: ChatApp):
        host = Litestar([asgi("/a/chat", is_mount=True, copy_scope=True)(chat)])
        async with client_of(host) as http:
            assert await self.uploaded(http, "/a/chat") == "http://localhost/a/chat"

    async def test_with_another_name_and_port(self, chat: ChatApp):
        transport = httpx.ASGITransport(chat)
        async with httpx.AsyncClient(transport=transport, base_url="https://x.org:8443") as http:
            assert await self.uploaded(http, "/") == "https://x.org:8443"

    async def test_a_host_that_is_none_is_not_repeated(self, ada: httpx.AsyncClient):
        body = request("attachments.create", name="a.txt", size=9, mime_type="text/plain")

        refused = await ada.post("/", json=body, headers={"Host": "evil.example/<script>"})

        assert "evil" not in json.dumps(refusal(refused, 422))


class TestQuota:
    """How much a reader may have here; 3 files and 20 bytes in these tests."""

    @pytest.fixture
    async def http(
        self, store: FailingStore, course_index: EdgeIndex, folder: Path
    ) -> AsyncIterator[httpx.AsyncClient]:
        files = LocalAttachmentStore(folder, secret=SECRET, quota=FileQuota(files=3, bytes=20))
        server = RagChatServer(store, sources=[CourseSource(course_index)], model="extractive", attachment_store=files)
        app = ChatApp(server, authenticate=nobody, sessions=TOKENS)
        async with app.lifespan(), client_of(app) as http:
            http.headers.update(bearer(ADA))
            yield http

    async def declared(self, http: httpx.AsyncClient, size: int) -> httpx.Response:
        return await http.post("/", json=request("attachments.create", name="a.txt", size=size, mime_type="text/plain"))

    @pytest.mark.parametrize("size", [1, 10], ids=["too many", "too large"])
    async def test_more_is_refused_until_something_goes(self, http: httpx.AsyncClient, size: int, folder: Path):
        taken = [await attach(http, b"x" * size) for _ in range(3 if size == 1 else 2)]

        for refused in (await self.declared(http, size), await http.post("/attachments", **form(b"x" * size))):
            assert refusal(refused, 409)["code"] == "too_many_files"
        assert len(stored(folder)) == len(taken)

        await call(http, "attachments.delete", attachment_id=taken[0]["id"])
        assert (await self.declared(http, size)).status_code == 200

    async def test_what_is_announced_counts(self, http: httpx.AsyncClient):
        assert (await self.declared(http, 15)).status_code == 200

        refusal(await self.declared(http, 6), 409)

        assert (await self.declared(http, 5)).status_code == 200

    async def test_of_many_at_once_no_more_are_taken_than_may_be(self, http: httpx.AsyncClient, store: FailingStore):
        answers = await asyncio.gather(*(self.declared(http, 1) for _ in range(10)))

        assert {answer.status_code for answer in answers} <= {200, 409}
        held = await store.load_attachments(RequestContext(principal=ADA))
        assert len(held) == [answer.status_code for answer in answers].count(200) <= 3

    async def test_other_readers_have_their_own(self, http: httpx.AsyncClient):
        for _ in range(3):
            await attach(http, b"x")

        answer = await http.post("/attachments", headers=bearer(EVE), **form(b"x"))

        assert answer.status_code == 200

    async def test_settings_say_how_much(self, tmp_path: Path):
        settings = {"allow_anonymous": True, "attachments": "local", "files_per_reader": 1, "model": "extractive"}
        app = create_app(Settings(data_dir=tmp_path, **settings))
        async with app.lifespan(), client_of(app) as http:
            token = (await http.post("/session", json={})).json()["client_secret"]
            http.headers["Authorization"] = f"Bearer {token}"
            await attach(http)

            refusal(await http.post("/attachments", **form(TEXT)), 409)
        app = create_app(Settings(data_dir=tmp_path, **{**settings, "files_per_reader": 0, "file_bytes_per_reader": 9}))
        async with app.lifespan(), client_of(app) as http:
            http.headers["Authorization"] = f"Bearer {token}"

            refusal(await http.post("/attachments", **form(TEXT)), 409)


class TestAService:
    """Files in a bucket, whose service is not always there."""

    @pytest.fixture
    async def service(self, s3_endpoint: str) -> AsyncIterator[AwkwardService]:
        async with awkward_service(s3_endpoint) as service:
            yield service

    @pytest.fixture
    async def http(
        self, store: FailingStore, course_index: EdgeIndex, bucket: Bucket, service: AwkwardService
    ) -> AsyncIterator[httpx.AsyncClient]:
        files = S3AttachmentStore(bucket.name, endpoint=service.endpoint, secret=SECRET, patience=5, **KEYS)
        server = RagChatServer(store, sources=[CourseSource(course_index)], model="extractive", attachment_store=files)
        app = ChatApp(server, authenticate=nobody, sessions=TOKENS)
        async with app.lifespan(), client_of(app) as http:
            http.headers.update(bearer(ADA))
            yield http

    async def test_it_goes_up_in_both_ways_and_down_and_away(self, http: httpx.AsyncClient, bucket: Bucket):
        first, second = await attach(http), await declare(http, PNG, "a.png", "image/png")
        assert (await http.put(target(second), content=PNG)).status_code == 200

        assert (await http.get(f"/attachments/{first['id']}")).content == TEXT
        shown = await http.get(second["preview_url"], headers={"Authorization": bearer(ADA)["Authorization"]})
        assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
        head = await http.head(f"/attachments/{first['id']}")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(TEXT)))
        for attachment in (first, second):
            await call(http, "attachments.delete", attachment_id=attachment["id"])
        assert await bucket.objects() == {}

    async def test_while_it_is_away_nothing_is_recorded_and_the_client_is_told(
        self, http: httpx.AsyncClient, service: AwkwardService, store: FailingStore, bucket: Bucket
    ):
        declared = await declare(http)
        service.failing = 1000

        direct = await http.post("/attachments", **form(TEXT))
        signed = await http.put(target(declared), content=TEXT)

        for refused in (direct, signed):
            assert refusal(refused, 503)["code"] == "files_unavailable"
            assert "again" in refused.json()["message"]
            assert refused.headers["retry-after"] == "5"
        service.failing = 0
        assert await bucket.objects() == {}
        record = await store.load_attachment(declared["id"], RequestContext(principal=ADA))
        assert record.upload_descriptor is not None
        assert (await http.put(target(declared), content=TEXT)).status_code == 200

    async def test_a_file_that_cannot_be_read_is_told(self, http: httpx.AsyncClient, service: AwkwardService):
        attachment = await attach(http)
        service.failing = 1000

        refused = await http.get(f"/attachments/{attachment['id']}")

        assert refusal(refused, 503)["code"] == "files_unavailable"

    async def test_one_that_breaks_off_ends_the_connection(self, http: httpx.AsyncClient, service: AwkwardService):
        attachment = await attach(http, b"some text, " * 100_000)
        service.cutting = 1000

        with pytest.raises(FilesUnavailable):  # behind a real server, fewer bytes than were promised
            await http.get(f"/attachments/{attachment['id']}")

    async def test_a_file_that_cannot_be_deleted_now_can_be_later(
        self, http: httpx.AsyncClient, service: AwkwardService, bucket: Bucket
    ):
        attachment = await attach(http)
        service.failing = 1000
        refusal(await http.post("/", json=request("attachments.delete", attachment_id=attachment["id"])), 503)
        service.failing = 0

        assert await call(http, "attachments.delete", attachment_id=attachment["id"]) == {}

        assert await bucket.objects() == {}


class TestSettings:
    def app(self, tmp_path: Path, **settings: Any) -> ChatApp:
        return create_app(Settings(data_dir=tmp_path, allow_anonymous=True, model="extractive", **settings))

    async def signed_in(self, http: httpx.AsyncClient) -> httpx.AsyncClient:
        token = (await http.post("/session", json={})).json()["client_secret"]
        http.headers["Authorization"] = f"Bearer {token}"
        return http

    async def test_files_are_not_taken_unless_a_setting_says_so(self, tmp_path: Path):
        app = self.app(tmp_path)
        async with app.lifespan(), client_of(app) as http:
            await self.signed_in(http)

            refusal(await http.post("/attachments", **form(TEXT)), 404)
            refused = await http.post(
                "/", json=request("attachments.create", name="a.txt", size=9, mime_type="text/plain")
            )

        assert refusal(refused, 501)["code"] == "unsupported"

    async def test_with_it_they_are_kept_in_the_data_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CHATKIT_RAG_ATTACHMENTS", "true")
        app = self.app(tmp_path)
        async with app.lifespan(), client_of(app) as http:
            attachment = await attach(await self.signed_in(http))
            assert (await http.get(f"/attachments/{attachment['id']}")).content == TEXT

        assert [path.name for path in stored(tmp_path / "attachments")] == [attachment["id"]]

    async def test_or_in_a_bucket(self, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
        for name, value in {"S3_BUCKET": bucket.name, "S3_ENDPOINT": bucket.endpoint, "S3_PREFIX": "chat"}.items():
            monkeypatch.setenv(f"CHATKIT_RAG_{name}", value)
        app = self.app(tmp_path, attachments="s3", s3_access_key="ada", s3_secret_key="secret")
        async with app.lifespan(), client_of(app) as http:
            attachment = await attach(await self.signed_in(http))
            assert (await http.get(f"/attachments/{attachment['id']}")).content == TEXT

        assert [key.split("/")[::2] for key in await bucket.objects()] == [["chat", attachment["id"]]]
        assert not (tmp_path / "attachments").exists()

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({}, "S3_BUCKET"),
            ({"s3_bucket": "readers", "s3_access_key": "ada"}, "S3_SECRET_KEY"),
            ({"s3_bucket": "readers", "s3_secret_key": "secret"}, "S3_ACCESS_KEY"),
        ],
    )
    def test_what_a_bucket_needs_is_said(self, tmp_path: Path, settings: dict[str, str], named: str):
        with pytest.raises(ConfigurationError, match=named):
            self.app(tmp_path, attachments="s3", **settings)

    @pytest.mark.parametrize("value", ["maybe", "S3", "https://x.org"])
    def test_other_places_are_refused(self, value: str):
        with pytest.raises(ConfigurationError, match="attachments"):
            Settings.read(attachments=value)

    async def test_the_addresses_begin_with_the_public_one(self, tmp_path: Path):
        app = self.app(tmp_path, attachments=True, public_url="https://x.org/chat/")
        async with app.lifespan(), client_of(app) as http:
            attachment = await declare(await self.signed_in(http))

        assert re.match(r"https://x\.org/chat/attachments/atc_\w+\?", target(attachment))

    @pytest.mark.parametrize("address", ["x.org", "/chat", "ftp://x.org"])
    def test_a_public_address_is_a_whole_one(self, address: str):
        with pytest.raises(ConfigurationError, match="public_url"):
            Settings.read(public_url=address)
