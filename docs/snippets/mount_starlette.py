from chat import chat
from starlette.applications import Starlette

app = Starlette(routes=[*chat.routes("/api/chatkit")], lifespan=chat.lifespan)
