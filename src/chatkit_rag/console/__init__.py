"""What the commands of `cli` do on a terminal."""

from chatkit_rag.console.answers import ask, search
from chatkit_rag.console.indexing import IndexChoice, activate, index
from chatkit_rag.console.measuring import evaluate_course, evaluate_search
from chatkit_rag.console.serving import serve
from chatkit_rag.console.threads import ImportChoice, import_threads, migrate

__all__ = [
    "ImportChoice",
    "IndexChoice",
    "activate",
    "ask",
    "evaluate_course",
    "evaluate_search",
    "import_threads",
    "index",
    "migrate",
    "search",
    "serve",
]
