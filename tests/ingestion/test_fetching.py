"""Fetching: where a fetcher connects to, and how much of what it gets there it takes."""

import gzip
import tracemalloc
from collections.abc import Iterator

import pytest
from loopback_site import Answer, Site, serving_site

from chatkit_rag.ingestion.addresses import BadAddress, read_address, refusal
from chatkit_rag.ingestion.fetching import FetchFailed, FetchOptions, SiteFetcher

pytestmark = pytest.mark.anyio

QUICK = FetchOptions(retry_wait_seconds=0.01, requests_per_second=10_000)
PRIVATE = FetchOptions(allow_private=True, retry_wait_seconds=0.01, requests_per_second=10_000)

LOOPBACK = [
    "127.0.0.1", "127.1", "127.0.1", "127.0.0.2", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1",
    "0x7f.1", "017700000001", "0177.0.0.1", "0177.0.0.01", "127.0.0.1.", "0", "0.0.0.0", "0x0", "00000000",
    "localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[fe80::5efe:127.0.0.1]",
    "[2001:db8::5efe:7f00:1]", "[2606::200:5efe:7f00:1]", "[::1%25lo]", "[fe80::1%25eth0]", "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1", "①②⑦.⓪.⓪.①", "127.0.0.1%00.example", "127%2e0%2e0%2e1", "%31%32%37.0.0.1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "0x7F000001", "0X7f.0x0.0x0.0x1", "0127.0.0.1", "127.0.0.1.1", "127..0.1", "4294967296",
    "6425673729", "0b1111111.0.0.1", "[::ffff:0:127.0.0.1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:7f00:0001]",
    "[::1",
]  # fmt: skip
ELSEWHERE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.1.254", "169.254.169.254",
    "169.254.170.2", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.254", "168.63.129.16",
    "192.0.0.192", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "0.1.2.3", "[fe80::1]",
    "[fc00::1]", "[fd00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[ff05::1:3]", "[2001:db8::1]",
    "[100::1]", "[2001::1]", "[2002::1]", "[2002:a00:1::1]", "[64:ff9b::a00:1]", "[64:ff9b::a9fe:a9fe]",
    "[::ffff:169.254.169.254]", "[::ffff:10.0.0.1]", "[5f00::1]", "[::2]", "0xa9fea9fe", "2852039166",
    "0251.0376.0251.0376", "169.254.43518", "[2001:10::1]", "[2001:20::1]", "[2001:2::1]",
]  # fmt: skip
SPELLINGS = [
    "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:{port}/_GET", "data:text/html,x",
    "javascript:alert(1)", "//127.0.0.1:{port}/", "http:127.0.0.1:{port}", "http:///127.0.0.1:{port}/", "http://",
    "http://:{port}/", "HTTP://", "http://user@127.0.0.1:{port}/", "http://user:secret@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/", "http://127.0.0.1:{port}@example.com/",
    "http://example.com#@127.0.0.1:{port}/", "http://example.com\\@127.0.0.1:{port}/", "http://127.0.0.1:0/",
    "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:{port}\r\nX: y/",
    "http://127.0.0.1 :{port}/", "http://127.0.0.1\t:{port}/", "http://exa mple.com/", "http://-x.example/",
    "http://a..b/", "ws://127.0.0.1:{port}/", "jar:http://127.0.0.1:{port}/!/", "http+unix://%2Ftmp%2Fx/",
    "unix:/tmp/x", "http://*/",
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with serving_site() as site:
        yield site


@pytest.fixture
def sink(server: Site) -> Site:
    server.answers = {"/": Answer("a secret")}
    server.requests.clear()
    return server


async def resolved_as(*addresses: str):
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


@pytest.mark.parametrize("host", LOOPBACK + ELSEWHERE)
async def test_no_hostile_host_is_connected_to(host: str, sink: Site):
    with pytest.raises(BadAddress):
        async with SiteFetcher(f"http://{host}:{sink.port}/", options=QUICK) as fetcher:
            await fetcher.fetch(f"http://{host}:{sink.port}/")

    assert sink.hits == []


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_nor_is_it_when_a_name_resolves_to_it(host: str, sink: Site):
    number = host.strip("[]")
    resolve = await resolved_as("93.184.216.34", number)  # one good address does not make up for a bad one

    with pytest.raises(BadAddress):
        async with SiteFetcher(f"http://course.example:{sink.port}/", options=QUICK, resolve=resolve) as fetcher:
            await fetcher.fetch(f"http://course.example:{sink.port}/")

    assert sink.hits == []


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_odd_spelling_is_followed(spelling: str, sink: Site):
    url = spelling.format(port=sink.port)
    options = FetchOptions(retry_wait_seconds=0.01, attempts=1)

    with pytest.raises(BadAddress):
        async with SiteFetcher(url, options=options, resolve=await resolved_as("127.0.0.1")) as fetcher:
            await fetcher.fetch(url)

    assert sink.hits == []


def test_they_are_more_than_the_threat_model_asks_for():
    assert len(LOOPBACK) + len(ELSEWHERE) * 2 + len(SPELLINGS) >= 120


async def test_the_sink_is_reached_where_loopback_is_allowed(sink: Site):
    async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
        assert (await fetcher.fetch(f"{sink.address}/")).data == b"a secret"

    assert sink.hits == ["/"]


async def test_a_name_is_connected_to_at_the_address_that_was_checked_and_under_its_own_name(sink: Site):
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    url = f"http://Course.Example.:{sink.port}/"
    async with SiteFetcher(url, options=PRIVATE, resolve=resolve) as fetcher:
        await fetcher.fetch(url)

    assert asked == ["course.example"]
    assert sink.headers_of("/")["host"] == f"course.example:{sink.port}"


async def test_a_name_that_turns_to_loopback_at_the_second_look_is_refused_then(sink: Site):
    answers = iter(["93.184.216.34", "127.0.0.1"])

    async def rebinding(host: str, port: int) -> list[str]:
        return [next(answers)]

    options = FetchOptions(attempts=1, connect_seconds=0.05)
    async with SiteFetcher(f"http://course.example:{sink.port}/", options=options, resolve=rebinding) as fetcher:
        with pytest.raises(FetchFailed):
            await fetcher.fetch(f"http://course.example:{sink.port}/")
        with pytest.raises(BadAddress, match="this machine's own"):
            await fetcher.fetch(f"http://course.example:{sink.port}/")

    assert sink.hits == []


@pytest.mark.parametrize(
    "number", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "0.0.0.0"]
)
def test_what_no_site_has_is_refused_also_where_private_addresses_are_allowed(number: str):
    assert refusal(number, allow_private=True)


@pytest.mark.parametrize("number", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(number: str):
    assert refusal(number) == ""


def test_an_address_comes_in_one_spelling():
    assert read_address("HTTPS://München.example:443/a%20b").url == ("https://xn--mnchen-3ya.example/a%20b")
    assert read_address("http://example.com:80").url == "http://example.com/"
    assert read_address("http://[2606:4700:0::1]:8080/?q=1#f").url == "http://[2606:4700::1]:8080/?q=1"


class TestRedirects:
    async def test_they_are_followed_within_the_site(self, sink: Site):
        sink.answers |= {"/a": Answer.redirect("/b"), "/b": Answer.redirect(f"{sink.address}/c"), "/c": Answer("here")}

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            fetched = await fetcher.fetch(f"{sink.address}/a")

        assert (fetched.data, fetched.url) == (b"here", f"{sink.address}/c")

    @pytest.mark.parametrize(
        "target",
        [
            "http://169.254.169.254/latest/meta-data",
            "http://localhost:{port}/",
            "http://127.0.0.2:{port}/",
            "http://other.example/",
            "file:///etc/passwd",
            "//[::1]:{port}/",
        ],
    )
    async def test_one_that_leads_elsewhere_is_not(self, sink: Site, target: str):
        sink.answers["/a"] = Answer.redirect(target.format(port=sink.port))

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(BadAddress):
                await fetcher.fetch(f"{sink.address}/a")

        assert sink.hits == ["/a"]

    async def test_a_circle_ends(self, sink: Site):
        sink.answers |= {"/a": Answer.redirect("/b"), "/b": Answer.redirect("/a")}

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed, match="in a circle"):
                await fetcher.fetch(f"{sink.address}/a")

        assert sink.hits == ["/a", "/b"]

    async def test_and_so_does_an_endless_way(self, sink: Site):
        sink.answers |= {f"/{number}": Answer.redirect(f"/{number + 1}") for number in range(100)}

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed, match="more than 5 times"):
                await fetcher.fetch(f"{sink.address}/0")

        assert len(sink.hits) == 6


class TestBounds:
    async def test_a_packed_page_is_unpacked(self, sink: Site):
        sink.answers["/"] = Answer(gzip.compress(b"text" * 1000), headers={"Content-Encoding": "gzip"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            assert (await fetcher.fetch(sink.address)).data == b"text" * 1000

    async def test_a_bomb_is_not_unpacked(self, sink: Site):
        bomb = gzip.compress(bytes(60_000_000))
        sink.answers["/"] = Answer(bomb, headers={"Content-Encoding": "gzip"})

        tracemalloc.start()
        try:
            async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
                with pytest.raises(FetchFailed, match=r"times its size|more than 5 MB"):
                    await fetcher.fetch(sink.address)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert peak < 20_000_000

    async def test_nor_is_one_within_a_bomb(self, sink: Site):
        sink.answers["/"] = Answer(gzip.compress(gzip.compress(b"x")), headers={"Content-Encoding": "gzip, gzip"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed, match="not asked for"):
                await fetcher.fetch(sink.address)

    async def test_a_page_that_is_too_large_is_given_up(self, sink: Site):
        sink.answers["/"] = Answer(b"x" * 6_000_000)

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed, match="more than 5 MB"):
                await fetcher.fetch(sink.address)

    @pytest.mark.parametrize(
        "body", [b"no gzip", gzip.compress(b"text" * 100)[:-9], b""], ids=["other", "cut", "empty"]
    )
    async def test_what_is_not_packed_as_it_says_is_refused(self, sink: Site, body: bytes):
        sink.answers["/"] = Answer(body, headers={"Content-Encoding": "gzip"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            if body:
                with pytest.raises(FetchFailed, match="gzip"):
                    await fetcher.fetch(sink.address)
            else:
                assert (await fetcher.fetch(sink.address)).data == b""

    async def test_a_busy_server_is_asked_again_and_one_that_stays_busy_is_given_up(self, sink: Site):
        sink.answers["/"] = Answer("wait", 503, {"Retry-After": "0"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed, match="busy"):
                await fetcher.fetch(sink.address)

        assert sink.hits == ["/"] * 3

    async def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(self, sink: Site):
        sink.answers["/"] = Answer("wait", 429, {"Retry-After": "3600"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            with pytest.raises(FetchFailed):
                await fetcher.fetch(sink.address)

        assert sink.hits == ["/"]

    async def test_a_server_that_says_nothing_is_given_up_in_time(self):
        import socket

        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            options = FetchOptions(allow_private=True, total_seconds=0.1, attempts=1)
            async with SiteFetcher(url, options=options) as fetcher:
                with pytest.raises(FetchFailed, match=r"within 0\.1 seconds"):
                    await fetcher.fetch(url)

    async def test_no_cookie_is_sent_back_and_no_proxy_of_the_environment_used(
        self, sink: Site, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        sink.answers["/"] = Answer("text", headers={"Set-Cookie": "a=b"})

        async with SiteFetcher(sink.address, options=PRIVATE) as fetcher:
            await fetcher.fetch(sink.address)
            await fetcher.fetch(sink.address)

        assert "cookie" not in sink.headers_of("/")
        assert sink.headers_of("/")["user-agent"] == "chatkit-rag"
