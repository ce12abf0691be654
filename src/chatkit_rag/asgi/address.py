"""Where a client reaches the chat's routes, by what its own request says: for addresses that it is to call next."""

import re
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.types import Scope

BASE_URL = "chatkit_rag.base_url"
"""Under which name the app keeps the address in a scope, whose path it makes relative."""

_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")


def base_url(scope: Scope, below: str) -> str:
    """The mount's absolute address without a trailing slash, of a request for the path `below` it; empty if unknown.

    The host is the client's word, and goes back to the same client only. A proxy that changes host, scheme or path
    without saying so needs an address that is set.
    """
    host = Headers(scope=scope).get("host", "")
    if not _HOST.fullmatch(host):
        return ""
    return f"{scope.get('scheme', 'http')}://{host}{_mount(scope, below)}"


def _mount(scope: Scope, below: str) -> str:
    """The mount's path as clients see it.

    Hosts differ: some lengthen `root_path` by the mount, some cut it off `path`; a proxy's prefix is in the path, or
    in `root_path` alone. What was requested is in `raw_path`, where the server gives it.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    requested = unquote(raw.partition(b"?")[0].decode("latin-1")).rstrip("/")
    mount = requested.removesuffix(below.rstrip("/"))
    if root.endswith(mount):
        return root
    return mount if f"{mount}/".startswith(f"{root}/") else root + mount
