from anonymous import app, server
from fastapi import Response

from chatkit_rag.asgi.pages import ChatPage


@app.get("/ask")
async def page() -> Response:
    """The chat, as a page that gets itself a token."""
    return ChatPage(server).render("/api/chatkit/", session=True)
