"""A site on a loopback address: what it answers is set by a test, and what was asked of it is kept."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Answer:
    body: bytes | str = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/html; charset=utf-8"
    etag: str = ""
    reason: str | None = None

    @classmethod
    def redirect(cls, target: str) -> "Answer":
        return cls(status=302, headers={"Location": target})

    @classmethod
    def sitemap(cls, *pages: str, kind: str = "urlset") -> "Answer":
        entry = "url" if kind == "urlset" else "sitemap"
        named = "".join(f"<{entry}><loc>{page}</loc></{entry}>" for page in pages)
        schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
        return cls(f'<?xml version="1.0"?><{kind} xmlns="{schema}">{named}</{kind}>', content_type="application/xml")

    @classmethod
    def page(cls, title: str, *paragraphs: str, etag: str = "") -> "Answer":
        text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs or (f"About {title}.",))
        return cls(f"<html lang=en><body><nav>Menu</nav><main><h1>{title}</h1>{text}</main></body></html>", etag=etag)


class Site:
    """A server, and the requests that it got."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.port: int = server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"

    @property
    def hits(self) -> list[str]:
        return [path for path, _ in self.requests]

    def headers_of(self, path: str) -> dict[str, str]:
        return next(headers for asked, headers in reversed(self.requests) if asked == path)


@contextmanager
def serving_site(host: str = "127.0.0.1") -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            site.requests.append((self.path, headers))
            answer = site.answers.get(self.path, Answer("not here", 404))
            body = answer.body.encode() if isinstance(answer.body, str) else answer.body
            status = answer.status
            if answer.etag and headers.get("if-none-match") == answer.etag:
                status, body = 304, b""
            self.send_response(status, answer.reason)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.etag:
                self.send_header("ETag", answer.etag)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    site = Site(server)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
