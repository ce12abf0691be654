from pathlib import Path

from chat import server
from fastapi import FastAPI

from chatkit_rag import AppOptions, ChatApp
from chatkit_rag.auth import SessionTokens, nobody

tokens = SessionTokens(Path("session-secret").read_text("utf-8").strip())
chat = ChatApp(server, authenticate=nobody, sessions=tokens, options=AppOptions(allow_anonymous=True))
app = FastAPI(lifespan=chat.lifespan)
app.router.routes.extend(chat.routes("/api/chatkit"))
