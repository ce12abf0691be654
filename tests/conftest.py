"""Fixtures that more than one room's tests need: the example course, indexed once, and a server over it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.asgi.app import AppOptions, ChatApp
from chatkit_rag.auth import SessionTokens, nobody
from chatkit_rag.ingestion.pipeline import ingest
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from chatkit_rag.stores.memory import MemoryStore
from s3_server import Bucket, s3_server
from stores.file_places import PLACES, Folder, InBucket, Place

COURSE = Path(__file__).parent.parent / "examples" / "course"
SECRET = "a secret of more than thirty-two bytes"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """ChatKit and the Agents SDK run on asyncio, so nothing else is tried."""
    return "asyncio"


@pytest.fixture(scope="session")
async def course_index_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of the example course, built once."""
    path = tmp_path_factory.mktemp("course-index")
    async with EdgeIndex(path) as index:
        await ingest(COURSE / "docs", index, site="course")
    return path


@pytest.fixture
async def course_index(course_index_path: Path) -> AsyncIterator[EdgeIndex]:
    """The example course, open for searching."""
    async with EdgeIndex(course_index_path) as index:
        yield index


@pytest.fixture
def server(course_index: EdgeIndex) -> RagChatServer:
    """A server over the example course that needs no model."""
    return RagChatServer(MemoryStore(), sources=[CourseSource(course_index)], model=ExtractiveModel())


@pytest.fixture
async def chat(server: RagChatServer) -> AsyncIterator[ChatApp]:
    """An app over `server`, started, that takes requests without credentials."""
    app = ChatApp(
        server,
        authenticate=nobody,
        sessions=SessionTokens(SECRET),
        options=AppOptions(allow_anonymous=True, local_reader=True),
    )
    async with app.lifespan():
        yield app


@pytest.fixture
async def client(chat: ChatApp) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of `chat`, in process."""
    transport = httpx.ASGITransport(app=chat)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a real S3 server."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    """An empty bucket of the test's own."""
    bucket = Bucket(s3_endpoint)
    bucket.make()
    return bucket


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each place that readers' files can be kept in."""
    if request.param == "folder":
        return Folder(tmp_path / "files")
    return InBucket(request.getfixturevalue("bucket"))
