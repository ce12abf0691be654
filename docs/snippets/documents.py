from collections.abc import AsyncIterator

from chatkit_rag import Document, EdgeIndex, ingest
from chatkit_rag.documents import Section


async def pages() -> AsyncIterator[Document]:
    """Pages that lie in no folder."""
    title = "Questions and answers"
    refunds = Section(
        heading_path=(title, "How do I get my money back?"),
        anchor="money-back",
        blocks=("Write to us within 30 days of the first lesson. We refund the whole fee.",),
    )
    yield Document(path="/faq", title=title, sections=(refunds,))


async def update() -> None:
    """Brings the index in step with them."""
    async with EdgeIndex(".chatkit-rag/index") as index:
        report = await ingest(pages(), index, site="faq", url="https://example.org")
    print(report.added, "new,", report.changed, "changed")  # noqa: T201
