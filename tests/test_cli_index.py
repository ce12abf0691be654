"""`index` for an index that is served elsewhere: a file, a Qdrant server, a generation of before."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from typer.testing import CliRunner

from chatkit_rag.cli import app
from chatkit_rag.retrieval.archive import pack, unpack
from chatkit_rag.testing import FakeModelServer
from processes import COMMAND, PATIENCE, clean_environment, run, serving
from retrieval.qdrant_server import QdrantServer
from stumbling import asked_for, stumbling


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


@pytest.mark.usefixtures("docs")
def test_an_index_that_is_fetched_is_built_anew_only_where_it_goes_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index("docs", "--output", "course.index")
    (tmp_path / "docs" / "belts.md").write_text("# Belts\n\nA belt drive is quiet.\n")
    monkeypatch.setenv("CHATKIT_RAG_INDEX", "course.index")

    refused = run("index", "docs", cwd=tmp_path, env={"CHATKIT_RAG_INDEX": "course.index"})
    assert refused.returncode == 1
    assert "fetched from course.index" in refused.stderr
    assert index("docs", "--output", "course.index")["added"] == 1
    assert search("belt drive", "--data-dir", "served") == ["Belts"]


@pytest.mark.parametrize("damage", ["cut", "foreign", "not there"])
@pytest.mark.usefixtures("docs")
def test_a_file_that_cannot_be_served_is_one_clear_line(tmp_path: Path, damage: str):
    index("docs", "--output", "course.index")
    if damage == "cut":
        (tmp_path / "course.index").write_bytes((tmp_path / "course.index").read_bytes()[:5_000])
    elif damage == "foreign":
        (tmp_path / "stranger").mkdir()
        (tmp_path / "stranger" / "a").write_bytes(b"no index")
        pack(tmp_path / "stranger", tmp_path / "course.index")
    else:
        (tmp_path / "course.index").unlink()

    done = run("serve", "--index", "course.index", "--data-dir", "served", "--port", "0", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("chatkit-rag: ")
    assert len(done.stderr.splitlines()) == 1
    assert "course.index" in done.stderr
    assert not list((tmp_path / "served").rglob("gen-*"))


@pytest.mark.usefixtures("docs")
def test_an_index_that_is_damaged_is_one_clear_line(tmp_path: Path):
    generation = index("docs")["generation"]
    (tmp_path / ".chatkit-rag" / "index" / generation / "lexicon.json").write_bytes(b"{")

    done = run("serve", "--port", "0", cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("chatkit-rag: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_compares_with_the_file_and_leaves_nothing(docs: Path, tmp_path: Path):
    index("docs", "--output", "course.index", "--data-dir", "first")
    packed = (tmp_path / "course.index").read_bytes()
    (docs / "belts.md").write_text("# Belts\n\nA belt drive is quiet.\n")

    report = index("docs", "--output", "course.index", "--dry-run", "--data-dir", "second")

    assert (report["added"], report["unchanged"]) == (1, 1)
    assert not list((tmp_path / "second").rglob("gen-*"))
    assert (tmp_path / "course.index").read_bytes() == packed


@pytest.mark.usefixtures("docs")
def test_a_file_of_another_version_is_indexed_anew(tmp_path: Path):
    index("docs", "--output", "course.index", "--data-dir", "first")
    (tmp_path / "older").mkdir()
    unpack(tmp_path / "course.index", tmp_path / "older")
    about = tmp_path / "older" / "generation.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 1}))
    pack(tmp_path / "older", tmp_path / "course.index")

    done = CliRunner().invoke(app, ["index", "docs", "--output", "course.index", "--data-dir", "second"])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["added"] == 1
    assert "everything is indexed anew: course.index is no index that can be served here" in done.stderr


def test_a_generation_of_before_is_served_again(docs: Path):
    first = index("docs")["generation"]
    (docs / "belts.md").write_text("# Belts\n\nA belt drive is quiet.\n")
    second = index("docs")["generation"]
    assert search("belt drive") == ["Belts"]

    assert index("--activate", first) == {"generation": first}
    assert search("belt drive") == []
    assert index("--activate", second) == {"generation": second}
    assert search("belt drive") == ["Belts"]


def test_search_finds_only_what_is_published_as_readers_do(docs: Path):
    (docs / "belts.md").write_text("---\npublished: false\n---\n# Belts\n\nA belt has teeth.\n")
    index("docs")

    assert search("teeth") == ["Gears"]


def test_no_more_generations_are_kept_than_asked_for(docs: Path):
    for word in ("one", "two", "three"):
        (docs / "gears.md").write_text(f"# Gears\n\nA gear has {word} teeth.\n")
        last = index("docs", "--keep", "1")["generation"]

    refused = CliRunner().invoke(app, ["index", "--activate", "gen-1"])

    assert last == "gen-3"
    assert refused.exit_code != 0
    assert "(kept: gen-3)" in str(refused.exception)


@pytest.mark.parametrize(
    "front_matter",
    [
        "id: 99999999999999999999999",
        "week: '99999999999999999999999'",
        f"module: '{'9' * 5_000}'",
        'a: !!set {"\\ud800"}',
    ],
    ids=["integer", "digits", "endless digits", "half a character"],
)
def test_no_value_of_front_matter_is_too_large_for_an_index(docs: Path, front_matter: str):
    (docs / "large.md").write_text(f"---\n{front_matter}\n---\n# Large\n\nText of the large one.\n")

    assert index("docs")["skipped"] == []
    assert search("large one") == ["Large"]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (f"---\na: {'[' * 300}{']' * 300}\n---\n# Page\n", "nested"),
        (f"---\na: [{'a,' * 100_000}]\n---\n# Page\n", "characters"),
        ("- a\n" * 200_000, "lines"),
    ],
    ids=["deep", "long", "lines"],
)
def test_a_page_that_is_too_much_is_named_and_the_others_go_on(docs: Path, page: str, reason: str):
    (docs / "too-much.md").write_text(page)

    report = index("docs")

    assert [skipped["page"] for skipped in report["skipped"]] == ["too-much.md"]
    assert reason in report["skipped"][0]["reason"]
    assert report["pages"] == 1


def test_a_run_that_is_killed_while_it_embeds_has_paid_for_nothing_twice(docs: Path, tmp_path: Path):
    parts = "".join(f"## Part {number}\n\nAbout the number {number}.\n\n" for number in range(300))
    (docs / "gears.md").write_text(f"# Numbers\n\n{parts}")
    with FakeModelServer() as server:
        env = {"OPENAI_BASE_URL": server.base_url}
        arguments = ("index", "docs", "--embedder", "openai:some-model")
        before = stumbling(server, at=3, fault="silent")
        with subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=clean_environment() | env) as killed:
            deadline = time.monotonic() + PATIENCE
            while not server.fired["silent"] and time.monotonic() < deadline:
                time.sleep(0.001)
            killed.kill()
        given = asked_for(before[:-1])
        server.fault = None
        after = stumbling(server)
        done = run(*arguments, cwd=tmp_path, env=env)
        again = stumbling(server)
        run(*arguments, cwd=tmp_path, env=env)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passages"] == 300
    assert len(before) == 3
    assert len(given) >= 200
    assert sorted([*given, *asked_for(after)]) == sorted(
        f"Numbers > Part {n}\nAbout the number {n}." for n in range(300)
    )
    assert again == []


@pytest.mark.anyio
@pytest.mark.usefixtures("docs")
async def test_an_index_is_kept_on_a_qdrant_server(tmp_path: Path):
    async with QdrantServer(tmp_path / "qdrant").running() as server:
        first = await anyio.to_thread.run_sync(index, "docs", "--to", server.url)
        again = await anyio.to_thread.run_sync(index, "docs", "--to", server.url)

    assert (first["added"], again["unchanged"]) == (1, 1)
    assert again["generation"] == first["generation"] != ""
    assert not list((tmp_path / ".chatkit-rag").rglob("gen-*"))
