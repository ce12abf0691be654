"""Answers for what no route takes, in the shape that every refusal has here."""

from collections.abc import Iterable

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chatkit_rag.asgi.problems import problem


class _OtherMethods:
    """What a route answers to methods that it does not know; Starlette's own answer is plain text."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = problem(405, "method_not_allowed", f"this address takes {self._allowed}")
        refused.headers["Allow"] = self._allowed
        await refused(scope, receive, send)


def refusals_of_other_methods(routes: Iterable[Route]) -> list[Route]:
    """A route behind each path of these, for the methods that they do not take."""
    allowed: dict[str, set[str]] = {}
    for route in routes:
        allowed.setdefault(route.path, set()).update(route.methods or ())
    return [Route(path, _OtherMethods(methods)) for path, methods in allowed.items()]


async def no_such_route(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to any other path."""
    await problem(404, "not_found", "there is nothing at this address")(scope, receive, send)
