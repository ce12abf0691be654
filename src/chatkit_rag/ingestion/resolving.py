"""Names of hosts to addresses: what is connected to has been checked, whatever the name stands for a moment later."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp.abc import AbstractResolver, ResolveResult

from chatkit_rag.ingestion.addresses import BadAddress, refusal

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The IP addresses of a host's name."""


class CheckedResolver(AbstractResolver):
    """Hands out the addresses of a host, all of which have been checked: what aiohttp connects to is what was seen."""

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        """One that asks `resolve`, and lets private and loopback addresses pass or not."""
        self._resolve = resolve
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of the host. Raises OSError from a BadAddress where one of them is refused."""
        del family
        numbers = await self._resolve(host, port)
        for number in numbers:
            if reason := refusal(number, allow_private=self._allow_private):
                raise OSError(f"{host} is refused") from BadAddress(
                    f"the host {host} has the address {number}, which {reason}"
                )
        return [
            ResolveResult(
                hostname=host,
                host=number,
                port=port,
                family=socket.AF_INET6 if ":" in number else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for number in numbers
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def system_resolve(host: str, port: int) -> list[str]:
    """The addresses that the system knows of a host, each once."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_not_resolved(host: str) -> bool:
    """Whether aiohttp would connect without asking the resolver."""
    return ":" in host or host.replace(".", "").isdigit()


def refusal_behind(error: BaseException | None) -> BadAddress | None:
    """The refusal that made a connection fail, which aiohttp wraps in errors of its own."""
    while error is not None and not isinstance(error, BadAddress):
        error = error.__cause__
    return error
