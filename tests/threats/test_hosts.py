"""Hosts that no browser names: an address is made of them for the client who sent them, or they are refused."""

import httpx
import pytest

from protocol.frames import refusal, request

pytestmark = pytest.mark.anyio

CREATE = request("attachments.create", name="a.png", size=5, mime_type="image/png")
PLAIN = {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "x!", "[::1", "localhost:123456", "a/b", "a?b", "a#b", "a@b", "a\\b", "<script>", "é"],
    ids=ascii,
)
async def test_what_is_no_host_makes_no_address(alice: httpx.AsyncClient, host: str):
    refused = await alice.post("/", json=CREATE, headers={"Host": host.encode()})

    assert "host" in refusal(refused, 422)["message"]
    # Where no address is made, none is needed.
    taken = await alice.post("/attachments?name=a.txt", content=b"12345", headers={"Host": host.encode(), **PLAIN})
    assert taken.status_code == 200
    assert (await alice.post("/", json=request("threads.list"), headers={"Host": host.encode()})).status_code == 200


async def test_a_foreign_host_is_told_to_who_named_it_and_kept_for_nobody(alice: httpx.AsyncClient):
    await alice.post("/", json=CREATE, headers={"Host": "evil.example"})

    created = (await alice.post("/", json=CREATE)).json()

    assert created["upload_descriptor"]["url"].startswith("http://localhost/attachments/")
    assert created["preview_url"].startswith("http://localhost/attachments/")
