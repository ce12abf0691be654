from collections.abc import Iterator, Sequence

import pytest

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.documents import Passage
from chatkit_rag.ingestion.passages import cut_passages
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.testing import FakeModelServer


@pytest.fixture
def context() -> RequestContext:
    return RequestContext(principal=Principal("reader"))


@pytest.fixture
def model() -> Iterator[FakeModelServer]:
    """A model server that says what a test tells it to."""
    with FakeModelServer() as model:
        yield model


@pytest.fixture
async def passages(course_index: EdgeIndex) -> Sequence[Passage]:
    """Every passage of the example course."""
    records = await course_index.records()
    return [passage for record in records for passage in cut_passages(record.document, site=record.site, base_url="")]
