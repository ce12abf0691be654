from chat import chat
from fastapi import FastAPI

app = FastAPI(lifespan=chat.lifespan)
app.router.routes.extend(chat.routes("/api/chatkit"))
