from typing import Annotated

from chat import chat
from fastapi import Depends, FastAPI, Request, Response

from chatkit_rag import Principal

app = FastAPI(lifespan=chat.lifespan)


def current_user(request: Request) -> str:
    """Your own dependency."""
    return request.session["user"]["id"]


@app.post("/ask")
async def ask(request: Request, user: Annotated[str, Depends(current_user)]) -> Response:
    """A ChatKit request of a user whom the host knows."""
    return await chat.handle(request, Principal(user))
