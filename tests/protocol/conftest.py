import pytest

from chatkit_rag.agent.models.extractive import ExtractiveModel
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.server import RagChatServer
from chatkit_rag.sources.course import CourseSource
from protocol.awkward_store import AwkwardStore


@pytest.fixture(params=[0.0, 0.01], ids=["instant store", "awaiting store"])
def store(request: pytest.FixtureRequest) -> AwkwardStore:
    return AwkwardStore(request.param)


@pytest.fixture
def server(store: AwkwardStore, course_index: EdgeIndex) -> RagChatServer:
    """As the project's `server`, over `store`."""
    return RagChatServer(store, sources=[CourseSource(course_index)], model=ExtractiveModel())
