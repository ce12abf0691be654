"""`IndexContract`: what an index of passages promises, as tests for any of them, ours or not.

    class TestOurIndex(IndexContract):
        capabilities = frozenset({"meaning"})

        @pytest.fixture
        def make_index(self, tmp_path):
            return lambda *, embedder=None: OurIndex(tmp_path / "index", embedder=embedder)

The one fixture is `make_index`: it makes indexes over one place that is empty when the test begins. What else an index
may be able to do is a capability: a word of `CAPABILITIES`. What is not claimed is skipped, and reported as skipped.

The tests run on asyncio by anyio's pytest plugin, which is always there, and so should async fixtures.
"""

import pytest

from chatkit_rag.testing.contract import Contract
from chatkit_rag.testing.index.filtering import Filtering
from chatkit_rag.testing.index.part import CAPABILITIES, MakeIndex, WordsEmbedder
from chatkit_rag.testing.index.publishing import Embedding, Publishing
from chatkit_rag.testing.index.searching import Meaning, Searching

__all__ = ["CAPABILITIES", "IndexContract", "MakeIndex", "WordsEmbedder"]


@pytest.mark.anyio
class IndexContract(Contract, Searching, Meaning, Filtering, Publishing, Embedding):
    """What an index of passages promises; a class to subclass in a test file."""

    subject = "the index"
    known = CAPABILITIES
