from chatkit_rag.testing import ProtocolClient


async def leave_early(url: str) -> list[str]:
    """What is there of an answer whose reader left after its first words: the types of the thread's items."""
    async with ProtocolClient(url) as client:
        async with client.create_thread("What is Physical AI?") as answer:
            async for _event in answer:
                if answer.deltas:
                    break
        items = await client.list_items(answer.thread.id, order="asc")
        return [item.type for item in items.data]
