"""Which addresses a fetcher may connect to, and what a URL names. Pure: nothing is resolved or opened here."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

_NEVER = {
    "link-local, where clouds keep their secrets": ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32"),
    "a cloud's own": ("168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24"),
    "unspecified": ("0.0.0.0/8", "::/128"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": ("240.0.0.0/4", "192.88.99.0/24", "198.18.0.0/15", "100::/64", "5f00::/16"),
    "a translation of another": ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96"),
}
_LOOPBACK = {"this machine's own": ("127.0.0.0/8", "::1/128")}
_PRIVATE = {"private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")}
_RANGES = [
    (ip_network(text), kind, allowed)
    for kinds, allowed in ((_LOOPBACK, True), (_NEVER, False), (_PRIVATE, True))
    for kind, texts in kinds.items()
    for text in texts
]
"""Each range, what it is, and whether it can be allowed; the first that an address is in counts."""
_PUBLIC_IPV6 = ip_network("2000::/3")
"""All that is given to sites; beyond it are more ways to write IPv4 addresses than anybody lists."""
_ISATAP = (0x00005EFE, 0x02005EFE)
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_LONGEST_NAME = 253
_LONGEST_URL = 4_096
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;=~-._"


class BadAddress(ValueError):
    """A URL or address that is not fetched; the message completes "… was not fetched: "."""


class Origin(NamedTuple):
    """Scheme, host and port."""

    scheme: str
    host: str
    port: int


class Address(NamedTuple):
    """A URL that may be fetched as far as it says itself, in one spelling."""

    origin: Origin
    path: str
    query: str

    @property
    def url(self) -> str:
        """The URL as text."""
        scheme, host, port = self.origin
        shown = f"[{host}]" if ":" in host else host
        place = shown if port == _PORTS[scheme] else f"{shown}:{port}"
        return f"{scheme}://{place}{self.path}" + (f"?{self.query}" if self.query else "")


def read_address(url: str) -> Address:
    """What a URL names: `http` or `https`, a host by name or by number, no user and no password.

    Raises:
        BadAddress: it is anything else.
    """
    if len(url) > _LONGEST_URL or _UNPRINTABLE.search(url.strip()):
        raise BadAddress("it is no address that a browser would show")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"it is no address: {error}") from error
    if parts.scheme not in _PORTS:
        raise BadAddress("only http and https are fetched")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise BadAddress("it holds a user's name or password")
    if port == 0:
        raise BadAddress("there is no port 0")
    origin = Origin(parts.scheme, _host(parts), port or _PORTS[parts.scheme])
    try:
        return Address(origin, quote(parts.path or "/", safe=_PATH), quote(parts.query, safe=_PATH + "?"))
    except UnicodeEncodeError as error:  # bytes of a header that are no UTF-8
        raise BadAddress("it holds what is no text") from error


def path_of(url: str) -> str:
    """The path of what should be a URL, without its escapes; empty where it is none."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""


def target_of(url: str, location: str) -> str:
    """Where a redirect from `url` leads.

    Raises:
        BadAddress: to nothing that is an address.
    """
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise BadAddress(f"it redirects to what is no address: {error}") from error


def refusal(number: str, *, allow_private: bool = False) -> str:
    """Why no connection may be made to this IP address; empty where one may.

    Private and loopback addresses are refused unless they are allowed. Those that no site has, that clouds keep
    secrets at, and that stand for other addresses are refused always.
    """
    try:
        address = ip_address(number)
    except ValueError:
        return "is no IP address"
    if isinstance(address, IPv6Address):
        if address.scope_id:
            return "is link-local"
        if (mapped := address.ipv4_mapped) is not None:
            address = mapped
    return _refusal(address, allow_private=allow_private)


def _refusal(address: IPv4Address | IPv6Address, *, allow_private: bool) -> str:
    if isinstance(address, IPv6Address) and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "is a translation of another"
    for network, kind, allowed in _RANGES:
        if address in network:
            advice = "; --allow-private allows it" if allowed else ""
            return "" if allowed and allow_private else f"is {kind}{advice}"
    public = address.is_global and (address.version == 4 or address in _PUBLIC_IPV6)
    return "" if public else "is not public"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if "%" in host:
        raise BadAddress("its host names a network interface or holds an escape")
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except ValueError as error:
            raise BadAddress(f"its host {host!r} is no IPv6 address") from error
    try:
        host = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise BadAddress(f"its host {host!r} is no name") from error
    if not host or len(host) > _LONGEST_NAME or not _NAME.fullmatch(host):
        raise BadAddress(f"its host {host!r} is no name")
    if not _is_number(host.rpartition(".")[2]):
        return host
    try:  # a last part in digits makes it a number, and then it must be spelled like one
        return str(IPv4Address(host))
    except ValueError as error:
        raise BadAddress(f"its host {host!r} is no IPv4 address as it is usually written") from error


def _is_number(label: str) -> bool:
    return label.isdigit() or bool(re.fullmatch(r"0x[0-9a-f]*", label))
