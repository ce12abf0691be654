"""`index` for an index that is served elsewhere: a file, a Qdrant server, a generation of before."""

import json
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from typer.testing import CliRunner

from chatkit_rag.cli import app
from processes import PATIENCE, serving
from retrieval.qdrant_server import QdrantServer


def index(*arguments: str) -> dict[str, Any]:
    """What `index` prints, run in this process."""
    done = CliRunner().invoke(app, ["index", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def search(*arguments: str) -> list[str]:
    """The titles that `search` finds."""
    done = CliRunner().invoke(app, ["search", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [hit["title"] for hit in json.loads(done.stdout)["hits"]]


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one page, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "gears.md").write_text("# Gears\n\nA gear has teeth.\n")
    return tmp_path / "docs"


def test_an_index_of_a_file_is_served_and_a_new_one_is_taken_over(docs: Path, tmp_path: Path):
    index("docs", "--output", "course.index")

    with serving("--index", "course.index", "--refresh", "1s", "--data-dir", "served", cwd=tmp_path) as running:
        found = httpx.get(f"{running.address}/api/chatkit/search", params={"q": "belt drive"}).json()["hits"]
        assert found == []
        (docs / "belts.md").write_text("# Belts\n\nA belt drive is quiet.\n")
        index("docs", "--output", "course.index")
        deadline = time.monotonic() + PATIENCE
        while not found and time.monotonic() < deadline:
            found = httpx.get(f"{running.address}/api/chatkit/search", params={"q": "belt drive"}).json()["hits"]

    assert [hit["title"] for hit in found] == ["Belts"]


def test_a_generation_of_before_is_served_again(docs: Path):
    first = index("docs")["generation"]
    (docs / "belts.md").write_text("# Belts\n\nA belt drive is quiet.\n")
    second = index("docs")["generation"]
    assert search("belt drive") == ["Belts"]

    assert index("--activate", first) == {"generation": first}
    assert search("belt drive") == []
    assert index("--activate", second) == {"generation": second}
    assert search("belt drive") == ["Belts"]


def test_no_more_generations_are_kept_than_asked_for(docs: Path):
    for word in ("one", "two", "three"):
        (docs / "gears.md").write_text(f"# Gears\n\nA gear has {word} teeth.\n")
        last = index("docs", "--keep", "1")["generation"]

    refused = CliRunner().invoke(app, ["index", "--activate", "gen-1"])

    assert last == "gen-3"
    assert refused.exit_code != 0
    assert "gen-3 is kept" in str(refused.exception)


@pytest.mark.anyio
@pytest.mark.usefixtures("docs")
async def test_an_index_is_kept_on_a_qdrant_server(tmp_path: Path):
    async with QdrantServer(tmp_path / "qdrant").running() as server:
        first = await anyio.to_thread.run_sync(index, "docs", "--to", server.url)
        again = await anyio.to_thread.run_sync(index, "docs", "--to", server.url)

    assert (first["added"], again["unchanged"]) == (1, 1)
    assert again["generation"] == first["generation"] != ""
    assert not list((tmp_path / ".chatkit-rag").rglob("gen-*"))
