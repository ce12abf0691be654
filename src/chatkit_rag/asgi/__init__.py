"""The chat server as an ASGI app, for any host."""
