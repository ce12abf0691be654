from chat import chat
from litestar import Litestar, asgi

mount = asgi("/api/chatkit", is_mount=True, copy_scope=True)(chat)
app = Litestar([mount], lifespan=[chat.lifespan])
