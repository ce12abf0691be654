"""Stores of files: a file is stored below its folder or prefix, whatever its name, checked and whole, or not at all."""

import asyncio
import gc
import os
import re
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from chatkit.types import Attachment, AttachmentCreateParams, FileAttachment, ImageAttachment

from chatkit_rag.auth import SessionTokens
from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import (
    ConfigurationError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    StoreUnavailable,
    Unauthenticated,
    UnsupportedMediaType,
)
from chatkit_rag.stores.attachments import BaseAttachmentStore, KeepsFiles
from chatkit_rag.stores.attachments_local import LocalAttachmentStore
from chatkit_rag.stores.media import MEDIA_TYPES, display_name, looks_like, media_type_of
from s3_server import Bucket
from stores.file_places import SECRET, InBucket, Place

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
TEXT = "Größe\n".encode()

NAMES = [
    "..", ".", "", "/", "\\", "../../etc/passwd", "..\\..\\windows\\win.ini", "%2e%2e%2fetc%2fpasswd", "%2e", "%00",
    "a\0.txt", "\0", "\\\\server\\share\\x.txt", "\\\\?\\C:\\x.txt", "C:\\x.txt", "C:x.txt", "x.txt:stream", "CON",
    "con.txt",
    "NUL", "NUL.txt", "AUX", "COM1", "LPT1.txt", "/etc/passwd", "~/x.txt", "~root", "-rf", "$(id)", "`id`", "a|b",
    "a;b",
    "a\nb.txt", "a\r\nSet-Cookie: x=1", "\x1b[31m.txt", "\x7f", "\u202egnp.exe", "a\u2066b\u2069.txt",
    "\u200f.txt", "\ufeff.txt",
    "a" * 10_000 + ".txt", "ä" * 300, "🎓" * 300, "e\u0301.txt", "\ud800.txt", "\u2028.txt", "....", "a.", "a ",
    " a", "...txt",
    ".bashrc", "index.html", "x.svg", '"quoted".txt', "it's.txt", "<script>.txt", "a/b/c.txt", "a\\b/c.txt",
    "\uff0e\uff0e\uff0fx",
    "..%c0%af..", "x.txt/", "x.txt\\..", "*?.txt", "\t.txt", "thread.part",
]  # fmt: skip


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def files(place: Place, clock: Clock) -> BaseAttachmentStore:
    return place.store(largest=1000, clock=clock)


@pytest.fixture
def local(folder: Path) -> LocalAttachmentStore:
    return LocalAttachmentStore(folder, secret=SECRET)


@pytest.fixture
def ada() -> RequestContext:
    return RequestContext(principal=Principal("ada", tenant="school"), base_url="https://x.org/chat")


@pytest.fixture
def eve() -> RequestContext:
    return RequestContext(principal=Principal("eve", tenant="school"), base_url="https://x.org/chat")


def declared(name: str = "a.txt", mime_type: str = "text/plain", size: int = len(TEXT)) -> AttachmentCreateParams:
    return AttachmentCreateParams(name=name, size=size, mime_type=mime_type)


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def on_disk(folder: Path) -> list[str]:
    """The names of all that is on the disk, folders left out."""
    return [path.name for path in folder.rglob("*") if not path.is_dir()]


async def content_of(files: BaseAttachmentStore, attachment: Attachment, context: RequestContext) -> bytes:
    file = await files.read(attachment.id, context)
    content = b"".join([chunk async for chunk in file.chunks])
    assert len(content) == file.size
    return content


def signature_of(address: object) -> str:
    return parse_qs(urlsplit(str(address)).query)["signature"][0]


def upload_signature(attachment: Attachment) -> str:
    assert attachment.upload_descriptor is not None
    return signature_of(attachment.upload_descriptor.url)


def preview_signature(attachment: Attachment) -> str:
    assert isinstance(attachment, ImageAttachment)
    return signature_of(attachment.preview_url)


class TestNames:
    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    async def test_no_name_becomes_a_path(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path, tmp_path: Path, name: str
    ):
        attachment = local.describe(name, "text/plain", ada)
        await local.write(attachment, chunks_of(TEXT), ada)

        (place,) = [path for path in tmp_path.rglob("*") if not path.is_dir()]
        assert place.name == attachment.id
        assert place.parent.parent == folder

    async def test_a_key_is_the_owner_s_hash_and_the_id(
        self, files: BaseAttachmentStore, ada: RequestContext, place: Place
    ):
        attachment = files.describe("../../x.txt", "text/plain", ada)
        await files.write(attachment, chunks_of(TEXT), ada)

        (path,) = await place.stored()
        assert re.fullmatch(rf"[0-9a-f]{{64}}/{attachment.id}", path)

    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    def test_a_name_that_is_shown_is_short_and_deceives_nobody(self, name: str):
        shown = display_name(name)

        assert 1 <= len(shown) <= 255
        assert not set("/\\\0\r\n\t\x1b\x7f\u202e\u2066\u2069\u200f\u2028\ud800") & set(shown)
        assert shown.strip(". ")
        assert display_name(shown) == shown

    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("notes.txt", "notes.txt"),
            ("C:\\Users\\ada\\notes.txt", "notes.txt"),
            ("../notes.txt", "notes.txt"),
            ("e\u0301tude.pdf", "étude.pdf"),
            ("\u202egnp.exe", "gnp.exe"),
            ("a\r\nb.txt", "ab.txt"),
            ("می\u200cروم.txt", "می\u200cروم.txt"),
            ("..", "file"),
            ("", "file"),
            ("a" * 300 + ".pdf", "a" * 251 + ".pdf"),
            ("a." + "b" * 300, "a." + "b" * 253),
        ],
    )
    def test_what_a_file_is_called(self, name: str, shown: str):
        assert display_name(name) == shown

    @pytest.mark.parametrize(
        "id_", ["..", "../x", "atc_../../x", "atc_1\0", "con", "", "atc_x/y", "a" * 200, "ATC_AAAAAAAA"]
    )
    async def test_an_id_that_is_none_of_ours_is_not_there(
        self, files: BaseAttachmentStore, ada: RequestContext, id_: str
    ):
        with pytest.raises(NotFound):
            await files.read(id_, ada)
        with pytest.raises(NotFound):
            await files.delete_attachment(id_, ada)
        with pytest.raises(NotFound):
            await files.write(FileAttachment(id=id_, name="a", mime_type="text/plain"), chunks_of(TEXT), ada)


OFFICE = "application/vnd.openxmlformats-officedocument."
OPEN = "application/vnd.oasis.opendocument."
BEGINNINGS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(20),
    "image/gif": b"GIF89a" + bytes(20),
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "application/pdf": b"%PDF-1.7\n",
    f"{OFFICE}wordprocessingml.document": b"PK\x03\x04" + bytes(26) + b"word/document.xml",
    f"{OFFICE}spreadsheetml.sheet": b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml",
    f"{OFFICE}presentationml.presentation": b"PK\x03\x04" + bytes(26) + b"ppt/presentation.xml",
    f"{OPEN}text": b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.textPK",
    f"{OPEN}spreadsheet": b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheetPK",
    f"{OPEN}presentation": b"PK\x03\x04" + bytes(26) + b"mimetypeapplication/vnd.oasis.opendocument.presentationPK",
    "text/plain": TEXT,
}
TEXTS = {"text/plain", "text/markdown", "text/csv", "application/json"}


class TestKinds:
    @pytest.mark.parametrize("kind", sorted(MEDIA_TYPES))
    def test_a_kind_is_told_by_its_first_bytes(self, kind: str):
        fitting = {other for other, beginning in BEGINNINGS.items() if looks_like(kind, beginning)}

        expected = {"text/plain"} if kind in TEXTS else {kind}
        if "openxmlformats" in kind:  # all of them may begin with the list of their parts
            expected.add(f"{OFFICE}spreadsheetml.sheet")
        assert fitting == expected

    @pytest.mark.parametrize(
        "beginning", [b"PK\x03\x04" + bytes(26) + b"evil.sh", b"MZ\x90", b"\x7fELF", b"%!PS", b"<svg>"]
    )
    @pytest.mark.parametrize("kind", sorted(MEDIA_TYPES - TEXTS))
    def test_other_bytes_are_none(self, kind: str, beginning: bytes):
        assert not looks_like(kind, beginning)

    @pytest.mark.parametrize("beginning", [b"a\0b", b"MZ\x90\0", b"\xff\xfea\0", b"%PDF-1.7\nabc", b"GIF89a"])
    def test_what_no_text_holds_is_no_text(self, beginning: bytes):
        assert not any(looks_like(kind, beginning) for kind in TEXTS)

    @pytest.mark.parametrize(
        ("said", "name", "kind"),
        [
            ("text/plain; charset=utf-8", "a.txt", "text/plain"),
            ("IMAGE/PNG", "a", "image/png"),
            ("image/jpg", "a.jpg", "image/jpeg"),
            ("text/x-markdown", "a.md", "text/markdown"),
            ("application/octet-stream", "notes.MD", "text/markdown"),
            ("", "a.csv", "text/csv"),
            ("application/vnd.ms-excel", "a.csv", "text/csv"),
            ("", "a.html", ""),
            ("", "html", ""),
            ("text/html", "a.txt", "text/html"),
        ],
    )
    def test_the_kind_that_a_client_says(self, said: str, name: str, kind: str):
        assert media_type_of(said, name) == kind

    @pytest.mark.parametrize(
        "kind", ["image/svg+xml", "text/html", "application/xhtml+xml", "text/xml", "application/javascript", "x", ""]
    )
    async def test_other_kinds_are_refused_with_those_that_are_taken(
        self, files: BaseAttachmentStore, ada: RequestContext, kind: str
    ):
        with pytest.raises(UnsupportedMediaType) as refused:
            await files.create_attachment(declared("a.html", kind), ada)

        assert refused.value.details["media_types"] == sorted(MEDIA_TYPES)

    async def test_a_site_may_take_fewer_kinds(self, place: Place, ada: RequestContext):
        files = place.store(media_types=["application/pdf"])

        with pytest.raises(UnsupportedMediaType):
            files.describe("a.txt", "text/plain", ada)
        assert files.describe("a.pdf", "application/pdf", ada).mime_type == "application/pdf"

    def test_a_kind_that_cannot_be_checked_cannot_be_taken(self, place: Place):
        with pytest.raises(ConfigurationError, match=r"svg"):
            place.store(media_types=["image/svg+xml"])


class TestRecords:
    async def test_a_new_one_waits_for_its_upload(self, files: BaseAttachmentStore, ada: RequestContext, place: Place):
        attachment = await files.create_attachment(declared(), ada)

        assert attachment.upload_descriptor is not None
        assert attachment.upload_descriptor.method == "POST"
        assert str(attachment.upload_descriptor.url).startswith(f"https://x.org/chat/attachments/{attachment.id}?")
        assert (attachment.name, attachment.mime_type, attachment.type) == ("a.txt", "text/plain", "file")
        assert not await files.holds(attachment.id, ada)
        assert not await place.stored()

    async def test_an_address_that_is_set_goes_before_the_requests_own(self, place: Place, ada: RequestContext):
        files = place.store(base_url="https://chat.x.org/")

        attachment = await files.create_attachment(declared("a.png", "image/png"), ada)

        assert attachment.upload_descriptor is not None
        assert isinstance(attachment, ImageAttachment)
        for address in (attachment.upload_descriptor.url, attachment.preview_url):
            assert str(address).startswith(f"https://chat.x.org/attachments/{attachment.id}?signature=")

    async def test_without_any_address_the_site_is_told_what_to_set(self, files: BaseAttachmentStore):
        with pytest.raises(ConfigurationError, match="base_url"):
            await files.create_attachment(declared(), RequestContext(principal=Principal("ada")))

    @pytest.mark.parametrize(("size", "error"), [(0, InvalidRequest), (-1, InvalidRequest), (1001, PayloadTooLarge)])
    async def test_an_impossible_size_is_refused_before_anything_is_uploaded(
        self, files: BaseAttachmentStore, ada: RequestContext, size: int, error: type[Exception]
    ):
        with pytest.raises(error):
            await files.create_attachment(declared(size=size), ada)

    async def test_an_upload_s_signature_is_good_for_ten_minutes(
        self, files: BaseAttachmentStore, ada: RequestContext, clock: Clock
    ):
        attachment = await files.create_attachment(declared(), ada)
        signature = upload_signature(attachment)

        clock.now += timedelta(minutes=9, seconds=59)
        link = files.read_link("upload", signature)
        clock.now += timedelta(seconds=1)
        with pytest.raises(Forbidden, match="expired"):
            files.read_link("upload", signature)

        assert (link.attachment_id, link.owner.owner) == (attachment.id, ada.owner)

    async def test_a_preview_s_is_good_for_an_hour_and_then_renewed(
        self, files: BaseAttachmentStore, ada: RequestContext, clock: Clock
    ):
        image = await files.create_attachment(declared("a.png", "image/png"), ada)
        clock.now += timedelta(hours=1)
        with pytest.raises(Forbidden, match="expired"):
            files.read_link("preview", preview_signature(image))

        renewed = files.renewed(image, ada)

        assert files.read_link("preview", preview_signature(renewed)).attachment_id == image.id
        assert renewed.model_copy(update={"preview_url": image.preview_url}) == image

    async def test_a_file_that_is_no_image_has_nothing_to_renew(self, files: BaseAttachmentStore, ada: RequestContext):
        file = await files.create_attachment(declared(), ada)

        assert files.renewed(file, ada) is file

    async def test_a_signature_is_good_for_its_purpose_only(self, files: BaseAttachmentStore, ada: RequestContext):
        image = await files.create_attachment(declared("a.png", "image/png"), ada)
        sessions = SessionTokens(SECRET)

        with pytest.raises(Forbidden):
            files.read_link("upload", preview_signature(image))
        with pytest.raises(Forbidden):
            files.read_link("preview", upload_signature(image))
        with pytest.raises(Forbidden):
            files.read_link("upload", sessions.issue(ada.principal).client_secret)
        with pytest.raises(Unauthenticated):
            sessions.verify(upload_signature(image))

    async def test_a_signature_of_another_secret_is_worthless(self, place: Place, ada: RequestContext):
        ours, theirs = (place.store(secret=f"{SECRET} {n}") for n in range(2))
        attachment = await theirs.create_attachment(declared(), ada)

        with pytest.raises(Forbidden):
            ours.read_link("upload", upload_signature(attachment))

    def test_a_short_secret_is_refused(self, place: Place):
        with pytest.raises(ConfigurationError, match="32"):
            place.store(secret="x" * 31)


class TestWriting:
    async def test_it_is_there_as_it_came(self, files: BaseAttachmentStore, ada: RequestContext):
        attachment = files.describe("a.txt", "text/plain", ada)

        await files.write(attachment, chunks_of(b"", b"one ", b"", b"two"), ada)

        assert await files.holds(attachment.id, ada)
        assert await content_of(files, attachment, ada) == b"one two"

    @pytest.mark.skipif(os.name != "posix", reason="other systems have other rights")
    async def test_only_the_server_s_own_user_can_read_it(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path
    ):
        attachment = local.describe("a.txt", "text/plain", ada)
        await local.write(attachment, chunks_of(TEXT), ada)

        (place,) = folder.rglob(attachment.id)

        assert [path.stat().st_mode & 0o077 for path in (place, place.parent)] == [0, 0]

    @pytest.mark.parametrize(
        ("chunks", "error"),
        [
            ([TEXT, b"x"], PayloadTooLarge),
            ([TEXT[:-1]], InvalidRequest),
            ([], InvalidRequest),
            ([bytes(len(TEXT))], UnsupportedMediaType),
            ([b"\x89PNG\r\n\x1a\n"], UnsupportedMediaType),
        ],
        ids=["larger", "smaller", "empty", "binary", "an image"],
    )
    async def test_another_file_than_declared_is_refused_and_nothing_stays(
        self,
        files: BaseAttachmentStore,
        ada: RequestContext,
        place: Place,
        chunks: list[bytes],
        error: type[Exception],
    ):
        attachment = await files.create_attachment(declared(), ada)

        with pytest.raises(error):
            await files.write(attachment, chunks_of(*chunks), ada)

        assert await place.stored() == {}
        await files.write(attachment, chunks_of(TEXT), ada)
        assert await files.holds(attachment.id, ada)

    async def test_the_cap_counts_while_bytes_come(self, files: BaseAttachmentStore, ada: RequestContext, place: Place):
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 100
                yield b"x" * 100

        with pytest.raises(PayloadTooLarge):
            await files.write(files.describe("a.txt", "text/plain", ada), endless(), ada)

        assert taken == 1100
        assert await place.stored() == {}

    async def test_a_second_one_is_refused_and_the_first_stays(self, files: BaseAttachmentStore, ada: RequestContext):
        attachment = await files.create_attachment(declared(), ada)
        await files.write(attachment, chunks_of(TEXT), ada)

        with pytest.raises(Conflict):
            await files.write(attachment, chunks_of(TEXT[::-1]), ada)

        assert await content_of(files, attachment, ada) == TEXT

    async def test_of_several_at_once_one_is_stored(
        self, files: BaseAttachmentStore, ada: RequestContext, place: Place
    ):
        attachment = await files.create_attachment(declared(size=2), ada)
        contents = [b"aa", b"bb", b"cc", b"dd"]
        writes = [files.write(attachment, chunks_of(content[:1], content[1:]), ada) for content in contents]

        outcomes = await asyncio.gather(*writes, return_exceptions=True)

        (winner,) = [content for content, outcome in zip(contents, outcomes, strict=True) if outcome == 2]
        assert [type(outcome) for outcome in outcomes].count(Conflict) == 3
        assert list((await place.stored()).values()) == [winner]

    async def test_a_second_one_is_refused_while_the_first_is_on_its_way(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path
    ):
        attachment = await local.create_attachment(declared(), ada)
        begun, refused = asyncio.Event(), asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            begun.set()
            await refused.wait()
            yield TEXT

        async with asyncio.TaskGroup() as group:
            group.create_task(local.write(attachment, slowly(), ada))
            await begun.wait()
            with pytest.raises(Conflict):
                await local.write(attachment, chunks_of(TEXT), ada)
            refused.set()

        assert on_disk(folder) == [attachment.id]

    async def test_a_source_that_fails_leaves_nothing(
        self, files: BaseAttachmentStore, ada: RequestContext, place: Place
    ):
        async def failing() -> AsyncIterator[bytes]:
            yield TEXT
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await files.write(files.describe("a.txt", "text/plain", ada), failing(), ada)

        assert await place.stored() == {}

    @pytest.mark.parametrize("kind", ["asyncio", "anyio"])
    async def test_a_cancelled_one_leaves_nothing_and_nothing_open(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path, kind: str
    ):
        files, begun = local, asyncio.Event()

        async def never() -> AsyncIterator[bytes]:
            yield TEXT
            begun.set()
            await asyncio.Event().wait()

        attachment = files.describe("a.txt", "text/plain", ada)
        if kind == "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(files.write, attachment, never(), ada)
                await begun.wait()
                assert on_disk(folder) == [f"{attachment.id}.part"]
                group.cancel_scope.cancel()
        else:
            task = asyncio.ensure_future(files.write(attachment, never(), ada))
            await begun.wait()
            assert on_disk(folder) == [f"{attachment.id}.part"]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert on_disk(folder) == []
        gc.collect()  # a file that nobody closed warns now, which is an error

    async def test_the_event_loop_goes_on_while_the_disk_is_slow(
        self, local: LocalAttachmentStore, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
    ):
        files = local
        loop, syncing, loop_went_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def slow(_descriptor: int) -> None:
            loop.call_soon_threadsafe(syncing.set)
            assert loop_went_on.wait(10)

        monkeypatch.setattr(os, "fsync", slow)
        attachment = files.describe("a.txt", "text/plain", ada)
        task = asyncio.ensure_future(files.write(attachment, chunks_of(TEXT), ada))
        await syncing.wait()
        loop_went_on.set()

        await task
        assert await files.holds(attachment.id, ada)

    async def test_it_is_synced_before_it_has_its_name(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        files = local
        names: list[list[str]] = []
        monkeypatch.setattr(os, "fsync", lambda _descriptor: names.append(on_disk(folder)))
        attachment = files.describe("a.txt", "text/plain", ada)

        await files.write(attachment, chunks_of(TEXT), ada)

        assert names[0] == [f"{attachment.id}.part"]

    async def test_a_full_disk_is_told_and_leaves_nothing(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        files = local

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)

        with pytest.raises(StoreUnavailable, match="No space left"):
            await files.write(files.describe("a.txt", "text/plain", ada), chunks_of(TEXT), ada)

        assert on_disk(folder) == []


class TestOwners:
    @pytest.fixture
    async def hers(self, files: BaseAttachmentStore, ada: RequestContext) -> Attachment:
        attachment = files.describe("a.txt", "text/plain", ada)
        await files.write(attachment, chunks_of(TEXT), ada)
        return attachment

    async def test_another_reader_finds_nothing(
        self, files: BaseAttachmentStore, eve: RequestContext, hers: Attachment
    ):
        assert not await files.holds(hers.id, eve)
        with pytest.raises(NotFound):
            await files.read(hers.id, eve)

    async def test_another_reader_deletes_nothing(
        self, files: BaseAttachmentStore, ada: RequestContext, eve: RequestContext, hers: Attachment
    ):
        await files.delete_attachment(hers.id, eve)

        assert await files.holds(hers.id, ada)

    async def test_the_same_name_in_another_tenant_is_another_reader(
        self, files: BaseAttachmentStore, hers: Attachment
    ):
        namesake = RequestContext(principal=Principal("ada", tenant="elsewhere"))

        assert not await files.holds(hers.id, namesake)

    async def test_its_place_does_not_say_whose_it_is(self, place: Place, hers: Attachment):
        (path,) = await place.stored()

        assert "ada" not in path
        assert path.endswith(hers.id)


class TestDeleting:
    async def test_the_bytes_go(self, files: BaseAttachmentStore, ada: RequestContext, place: Place):
        kept, *gone = [files.describe(f"{n}.txt", "text/plain", ada) for n in range(3)]
        for attachment in (kept, *gone):
            await files.write(attachment, chunks_of(TEXT), ada)

        await files.delete_attachments([attachment.id for attachment in gone], ada)

        assert [path.partition("/")[2] for path in await place.stored()] == [kept.id]

    async def test_what_is_not_there_is_passed_over(self, files: BaseAttachmentStore, ada: RequestContext):
        await files.delete_attachment("atc_0123456789", ada)
        await files.delete_attachment("atc_0123456789", ada)

        assert not await files.holds("atc_0123456789", ada)

    async def test_one_that_is_deleted_while_it_is_written_does_not_appear(
        self, local: LocalAttachmentStore, ada: RequestContext, folder: Path
    ):
        files = local
        attachment = await files.create_attachment(declared(), ada)

        async def meanwhile() -> AsyncIterator[bytes]:
            await files.delete_attachment(attachment.id, ada)
            yield TEXT

        with pytest.raises(NotFound):
            await files.write(attachment, meanwhile(), ada)

        assert on_disk(folder) == []


class TestDeletingAnOwner:
    async def test_everything_of_theirs_goes_and_nothing_else(
        self, files: BaseAttachmentStore, ada: RequestContext, eve: RequestContext, place: Place
    ):
        for owner in (ada, ada, eve):
            await files.write(files.describe("a.txt", "text/plain", owner), chunks_of(TEXT), owner)

        await files.delete_owner(ada.owner)
        await files.delete_owner(ada.owner)

        (path,) = await place.stored()
        assert await files.holds(path.partition("/")[2], eve)

    async def test_as_many_as_they_have(self, bucket: Bucket, ada: RequestContext):
        files = InBucket(bucket).store()
        for n in range(60):  # a service lists so many at once, and the client asks for fewer
            await files.write(files.describe(f"{n}.txt", "text/plain", ada), chunks_of(TEXT), ada)

        await files.delete_owner(ada.owner)

        assert await bucket.objects() == {}


def test_it_can_what_the_protocol_layer_asks_of_a_store_of_files(files: BaseAttachmentStore):
    assert isinstance(files, KeepsFiles)
