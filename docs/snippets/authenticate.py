from starlette.requests import HTTPConnection

from chatkit_rag import Principal
from chatkit_rag.errors import Forbidden


def reader(connection: HTTPConnection) -> Principal | None:
    """Who asks, by the session of the host's own sign-in."""
    user = connection.session.get("user")
    if user is None:
        return None
    if user.get("blocked"):
        raise Forbidden("your account is blocked: write to the office")
    return Principal(user["id"], tenant=user["school"])
