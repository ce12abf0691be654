"""A service that is away, slow, or fails: it is told, no wait is endless, and nothing is half stored."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.errors import Conflict, FilesUnavailable
from chatkit_rag.stores.attachments_s3 import S3AttachmentStore
from s3_server import KEYS, AwkwardService, Bucket, awkward_service
from stores.file_places import SECRET, InBucket

pytestmark = pytest.mark.anyio

TEXT = b"some text, " * 100


@pytest.fixture
async def service(s3_endpoint: str) -> AsyncIterator[AwkwardService]:
    async with awkward_service(s3_endpoint) as service:
        yield service


@pytest.fixture
def files(service: AwkwardService, bucket: Bucket) -> S3AttachmentStore:
    return S3AttachmentStore(bucket.name, endpoint=service.endpoint, secret=SECRET, patience=5, **KEYS)


@pytest.fixture
def ada() -> RequestContext:
    return RequestContext(principal=Principal("ada"), base_url="https://x.org/chat")


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def write(files: S3AttachmentStore, ada: RequestContext) -> str:
    attachment = files.describe("a.txt", "text/plain", ada)
    await files.write(attachment, chunks_of(TEXT), ada)
    return attachment.id


async def read(files: S3AttachmentStore, id_: str, ada: RequestContext) -> bytes:
    return b"".join([piece async for piece in (await files.read(id_, ada)).chunks])


async def test_an_upload_is_one_request(files: S3AttachmentStore, ada: RequestContext, service: AwkwardService):
    await write(files, ada)

    assert service.seen == ["PUT"]


async def test_a_large_one_too_so_that_no_parts_stay_behind(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService, bucket: Bucket
):
    attachment = files.describe("a.txt", "text/plain", ada)

    await files.write(attachment, chunks_of(*[b"x" * 1024 * 1024] * 10), ada)

    assert service.seen == ["PUT"]
    assert await bucket.uploads() == 0
    assert [len(content) for content in (await bucket.objects()).values()] == [10 * 1024 * 1024]


async def test_what_is_refused_never_goes_out(files: S3AttachmentStore, ada: RequestContext, service: AwkwardService):
    for content in (b"", b"\0", b"x" * (files.largest + 1)):
        with pytest.raises(Exception, match="file"):
            await files.write(files.describe("a.txt", "text/plain", ada), chunks_of(content), ada)

    assert service.seen == []


@pytest.mark.parametrize("failing", [1, 2])
async def test_failures_that_pass_are_not_seen(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService, failing: int
):
    service.failing = failing
    id_ = await write(files, ada)
    service.failing = failing

    assert await read(files, id_, ada) == TEXT
    assert service.seen == ["PUT"] * (failing + 1) + ["GET"] * (failing + 1)


async def test_failures_that_do_not_are_told_and_nothing_is_stored(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService, bucket: Bucket
):
    service.failing = 1000

    with pytest.raises(FilesUnavailable, match=bucket.name):
        await write(files, ada)

    assert service.seen == ["PUT"] * 3
    assert await bucket.objects() == {}
    service.failing = 0
    assert await read(files, await write(files, ada), ada) == TEXT


async def test_an_upload_whose_answer_was_lost_is_known_for_our_own(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService, bucket: Bucket
):
    service.losing = 1

    id_ = await write(files, ada)

    assert service.losing == 0
    assert service.seen == ["PUT", "PUT", "HEAD"]
    assert await read(files, id_, ada) == TEXT


async def test_one_that_somebody_else_wrote_is_not(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService, bucket: Bucket
):
    attachment = files.describe("a.txt", "text/plain", ada)
    others = S3AttachmentStore(bucket.name, endpoint=bucket.endpoint, secret=SECRET, **KEYS)
    await others.write(attachment, chunks_of(TEXT), ada)

    with pytest.raises(Conflict):
        await files.write(attachment, chunks_of(TEXT), ada)


@pytest.mark.parametrize("step", ["write", "read", "holds", "delete", "delete owner"])
async def test_a_service_that_says_nothing_is_waited_for_no_longer_than_that(
    bucket: Bucket, ada: RequestContext, service: AwkwardService, step: str
):
    files = S3AttachmentStore(bucket.name, endpoint=service.endpoint, secret=SECRET, patience=0.5, **KEYS)
    service.still = True
    begun = monotonic()

    with pytest.raises(FilesUnavailable, match=r"0\.5 seconds|cannot be used"):
        await carry_out(step, files, ada)

    assert 0.4 < monotonic() - begun < 3
    assert service.seen


@pytest.mark.parametrize("step", ["write", "read", "holds", "delete", "delete owner"])
async def test_one_that_is_not_there_is_told_at_once(ada: RequestContext, step: str):
    files = S3AttachmentStore("readers", endpoint="http://127.0.0.1:1", secret=SECRET, patience=5, **KEYS)
    begun = monotonic()

    with pytest.raises(FilesUnavailable, match=r"the bucket readers at http://127\.0\.0\.1:1 cannot be used"):
        await carry_out(step, files, ada)

    assert monotonic() - begun < 4


async def carry_out(step: str, files: S3AttachmentStore, ada: RequestContext) -> None:
    match step:
        case "write":
            await write(files, ada)
        case "read":
            await files.read("atc_0123456789", ada)
        case "holds":
            await files.holds("atc_0123456789", ada)
        case "delete":
            await files.delete_attachment("atc_0123456789", ada)
        case _:
            await files.delete_owner(ada.owner)


async def test_a_download_that_breaks_off_is_no_short_file(
    files: S3AttachmentStore, ada: RequestContext, service: AwkwardService
):
    id_ = await write(files, ada)
    service.cutting = 1000

    with pytest.raises(FilesUnavailable):
        await read(files, id_, ada)

    assert service.cutting < 1000


async def test_a_bucket_that_is_not_there_is_named(s3_endpoint: str, ada: RequestContext):
    files = S3AttachmentStore("nobodys-bucket", endpoint=s3_endpoint, secret=SECRET, **KEYS)

    with pytest.raises(FilesUnavailable, match=r"nobodys-bucket .* is not there"):
        await write(files, ada)


async def test_a_cancelled_upload_waits_for_nothing_and_leaves_nothing(
    files: S3AttachmentStore, ada: RequestContext, bucket: Bucket
):
    begun = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        yield TEXT
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(files.write(files.describe("a.txt", "text/plain", ada), never(), ada))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await bucket.objects() == {}


async def test_the_environment_gives_keys_and_nothing_else(
    bucket: Bucket, ada: RequestContext, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "eu-central-1",
        "AWS_BUCKET": "other", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_ACCESS_KEY_ID": "ada", "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    files = S3AttachmentStore(bucket.name, endpoint=bucket.endpoint, secret=SECRET)

    await write(files, ada)

    assert len(await bucket.objects()) == 1


async def test_the_bucket_may_be_in_the_host_s_name(ada: RequestContext):
    files = S3AttachmentStore(
        "readers", endpoint="http://s3.localhost:1/", path_style=False, secret=SECRET, patience=1, **KEYS
    )

    with pytest.raises(FilesUnavailable, match=r"http://readers\.s3\.localhost:1/"):
        await files.holds("atc_0123456789", ada)


async def test_without_a_prefix_files_are_in_the_bucket_itself(bucket: Bucket, ada: RequestContext):
    files = InBucket(bucket).store(prefix="")

    attachment = files.describe("a.txt", "text/plain", ada)
    await files.write(attachment, chunks_of(TEXT), ada)

    (key,) = await bucket.objects()
    assert key.partition("/")[2] == attachment.id
