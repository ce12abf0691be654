"""The commands, as processes."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from processes import PATIENCE, run, serving

DOCS = Path(__file__).parent.parent / "examples" / "course" / "docs"


def ask(address: str, question: str) -> list[dict[str, Any]]:
    message = {"content": [{"type": "input_text", "text": question}], "attachments": [], "inference_options": {}}
    request = {"type": "threads.create", "params": {"input": message}}
    answer = httpx.post(f"{address}/api/chatkit", json=request, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def call(address: str, operation: str, **params: Any) -> dict[str, Any]:
    answer = httpx.post(f"{address}/api/chatkit", json={"type": operation, "params": params}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_help_is_there_before_any_sdk_is_imported(tmp_path: Path):
    program = (
        "import sys; from chatkit_rag.cli import app; "
        "app(['--help'], standalone_mode=False); "
        "print(sorted({'agents', 'openai', 'chatkit', 'sqlalchemy', 'qdrant_edge'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("serve", "index", "search"):
        assert command in done.stdout


def test_the_version_is_told(tmp_path: Path):
    assert run("--version", cwd=tmp_path).stdout.strip() == version("chatkit-rag")


def test_a_server_without_any_pages_says_so(tmp_path: Path):
    with serving(cwd=tmp_path) as running:
        said = "".join(running.output)
        health = httpx.get(f"{running.address}/api/chatkit/health").json()

    assert "nothing yet" in said
    assert health["status"] == "degraded"


def test_index_reports_what_it_did_and_does_nothing_the_second_time(tmp_path: Path):
    first = json.loads(run("index", str(DOCS), cwd=tmp_path).stdout)
    second = json.loads(run("index", str(DOCS), cwd=tmp_path).stdout)

    assert first["pages"] == first["added"] >= 12
    assert first["passages"] > first["pages"]
    assert (second["added"], second["changed"], second["removed"]) == (0, 0, 0)
    assert second["unchanged"] == first["pages"]
    assert second["generation"] == first["generation"] == "gen-1"


def test_another_language_or_address_indexes_the_same_pages_again(tmp_path: Path):
    run("index", str(DOCS), cwd=tmp_path)

    german = json.loads(run("index", str(DOCS), "--language", "german", cwd=tmp_path).stdout)
    moved = json.loads(run("index", str(DOCS), "--language", "german", "--url", "https://x.org", cwd=tmp_path).stdout)

    assert german["changed"] == german["pages"]
    assert moved["changed"] == moved["pages"]
    assert moved["generation"] == "gen-3"


def test_index_takes_over_changed_new_and_removed_pages(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "stays.md").write_text("# Stays\n\nNothing happens here.\n")
    (docs / "changes.md").write_text("# Changes\n\nBefore.\n")
    (docs / "goes.md").write_text("# Goes\n\nSoon gone.\n")
    run("index", "docs", cwd=tmp_path)
    (docs / "changes.md").write_text("# Changes\n\nAfterwards.\n")
    (docs / "goes.md").unlink()
    (docs / "comes.md").write_text("# Comes\n\nNewly written.\n")

    report = json.loads(run("index", "docs", cwd=tmp_path).stdout)

    assert (report["added"], report["changed"], report["removed"], report["unchanged"]) == (1, 1, 1, 1)
    assert report["generation"] == "gen-2"


def test_patterns_say_which_files_are_pages_and_a_dry_run_does_nothing(tmp_path: Path):
    some = ["index", str(DOCS), "--include", "module-1/*", "--exclude", "*exercise*"]

    dry = json.loads(run(*some, "--dry-run", cwd=tmp_path).stdout)
    assert not list(tmp_path.glob(".chatkit-rag/index/gen-*"))
    real = json.loads(run(*some, cwd=tmp_path).stdout)
    found = json.loads(run("search", "exercise", "--limit", "50", cwd=tmp_path).stdout)

    assert dry["added"] == real["added"] == real["pages"] < 12
    assert (dry["generation"], real["generation"]) == ("", "gen-1")
    paths = {hit["metadata"]["path"] for hit in found["hits"]}
    assert all(path.startswith("/module-1") and "exercise" not in path for path in paths)


def test_search_prints_passages_as_json(tmp_path: Path):
    run("index", str(DOCS), "--site", "robots", "--url", "https://course.example/docs/", cwd=tmp_path)

    found = json.loads(run("search", "How do I create a ROS2 node?", "--limit", "2", cwd=tmp_path).stdout)
    elsewhere = json.loads(run("search", "node", "--site", "cooking", cwd=tmp_path).stdout)

    assert found["query"] == "How do I create a ROS2 node?"
    assert len(found["hits"]) == 2
    best = found["hits"][0]
    assert set(best) == {"id", "score", "title", "heading_path", "url", "text", "site", "metadata"}
    assert best["heading_path"][-1] == "Create a ROS 2 node in Python"
    assert best["url"] == "https://course.example/docs/module-1/week-1/nodes#create-a-ros-2-node-in-python"
    assert best["site"] == "robots"
    assert elsewhere["hits"] == []


def test_a_draft_is_never_found(tmp_path: Path):
    run("index", str(DOCS), cwd=tmp_path)

    found = json.loads(run("search", "oil pressure of hydraulic actuators", "--limit", "20", cwd=tmp_path).stdout)

    assert found["hits"]
    assert not [hit for hit in found["hits"] if "hydraulic" in json.dumps(hit).lower()]


def test_ask_answers_with_sources_below_and_goes_on_in_the_thread(tmp_path: Path):
    run("index", str(DOCS), cwd=tmp_path)

    shown = run("ask", "How do I create a ROS2 node?", cwd=tmp_path)
    thread_id = shown.stderr.split()[-1]
    answer = json.loads(run("ask", "and in Python?", "--thread", thread_id, "--json", cwd=tmp_path).stdout)

    assert "rclpy" in shown.stdout
    assert shown.stdout.splitlines()[-1].split()[-1].startswith("/module-1/")
    assert set(answer) == {"thread_id", "answer", "sources", "model"}
    assert answer["thread_id"] == thread_id
    assert answer["sources"][0]["url"] == "/module-1/week-1/nodes#create-a-ros-2-node-in-python"
    assert answer["model"].startswith("extractive")


def test_serve_answers_and_keeps_the_thread_over_a_restart_and_a_kill(tmp_path: Path):
    with serving(str(DOCS), cwd=tmp_path) as running:
        events = ask(running.address, "What is Physical AI?")
        thread_id = events[0]["thread"]["id"]
        answered = next(event["item"] for event in reversed(events) if event["type"] == "thread.item.done")
        assert running.stop() == 0
    with serving(cwd=tmp_path) as running:
        after_restart = call(running.address, "threads.get_by_id", thread_id=thread_id)
        second = ask(running.address, "How do I create a PyTorch tensor?")
        running.kill()
    with serving(cwd=tmp_path) as running:
        threads = call(running.address, "threads.list")

    assert after_restart["items"]["data"][-1] == answered
    assert [thread["id"] for thread in threads["data"]] == [second[0]["thread"]["id"], thread_id]


def test_serve_says_where_it_listens_what_answers_and_what_that_costs(tmp_path: Path):
    with serving(str(DOCS), cwd=tmp_path) as running:
        said = "".join(running.output)
        page = httpx.get(running.address)
        lesson = httpx.get(f"{running.address}/module-1/week-1/nodes")
        alias = httpx.get(f"{running.address}/chatkit/health")

    assert "extractive" in said
    assert "costs nothing" in said
    assert page.status_code == 200
    assert 'id="create-a-ros-2-node-in-python"' in lesson.text
    assert alias.json()["status"] == "healthy"


def test_a_key_chooses_a_model_and_serve_says_so(tmp_path: Path):
    with serving(str(DOCS), cwd=tmp_path, env={"OPENAI_API_KEY": "sk-not-a-key"}) as running:
        said = "".join(running.output)

    assert "gpt-5-mini" in said
    assert "charged" in said


def test_a_running_server_takes_over_a_new_generation_by_itself(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("# Gears\n\nA gear has teeth.\n")
    with serving("docs", cwd=tmp_path) as running:
        (docs / "b.md").write_text("# Belts\n\nA belt drive is quiet.\n")
        run("index", "docs", cwd=tmp_path)

        found = httpx.get(f"{running.address}/api/chatkit/search", params={"q": "belt drive"}).json()

    assert found["hits"][0]["title"] == "Belts"


def test_several_workers_serve_together(tmp_path: Path):
    env = {"CHATKIT_RAG_SESSION_SECRET": "x" * 40}
    with serving(str(DOCS), "--workers", "2", cwd=tmp_path, env=env) as running:
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport, timeout=PATIENCE) as http:
            for _ in range(100):
                try:
                    healthy = http.get(f"{running.address}/api/chatkit/health").json()["status"]
                    break
                except httpx.TransportError:
                    continue
        events = ask(running.address, "What is Physical AI?")

    assert healthy == "healthy"
    assert [event["type"] for event in events[-3:]] == ["thread.item.done", "client_effect", "thread.updated"]


def test_several_workers_want_a_common_secret(tmp_path: Path):
    done = run("serve", str(DOCS), "--port", "0", "--workers", "2", cwd=tmp_path)

    assert done.returncode == 1
    assert "CHATKIT_RAG_SESSION_SECRET" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["index", "nowhere"], "there is no folder nowhere"),
        (["index", "a-file.md"], "is a file"),
        (["index", "empty"], "holds no page"),
        (["index", "ftp://example.org/"], "http or https"),
        (["index", "http://[::1"], "no address"),
        (["index", ""], "name a folder"),
        (["index", "pages", "--to", "http://[::1"], "qdrant_url: "),
        (["index", "pages", "--include", "week-9/*"], "--include"),
        (["search", "anything"], "chatkit-rag index"),
        (["ask", "anything"], "chatkit-rag index"),
        (["serve", "nowhere", "--port", "0"], "there is no folder nowhere"),
        (["serve", "--port", "0", "--data-dir", "a-file.md"], "--data-dir"),
        (["index", "pages", "--data-dir", "a-file.md"], "--data-dir"),
        (["serve", "--host", "256.0.0.1", "--port", "0"], "cannot listen on 256.0.0.1"),
        (["serve", "pages", "--port", "0", "--model", "gpt-5"], "OPENAI_API_KEY"),
        (["index", "pages", "--language", "klingon"], "klingon"),
        (["index", "pages", "--url", "notaurl"], "url"),
        (["search", "x", "--config", "nowhere.toml"], "there is no file nowhere.toml"),
        (["search", "x", "--config", "pages/page.md"], "pages/page.md cannot be read as TOML"),
    ],
)
def test_what_cannot_work_is_one_clear_line(tmp_path: Path, arguments: list[str], told: str):
    (tmp_path / "a-file.md").write_text("# A file\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page.md").write_text("# Page\n\nText.\n")

    done = run(*arguments, cwd=tmp_path)

    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_no_json_is_one_clear_line(tmp_path: Path):
    done = run("search", "x", cwd=tmp_path, env={"CHATKIT_RAG_SITES": "{"})

    assert done.returncode == 1
    assert "sites" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_are_read_from_the_file_that_config_names(tmp_path: Path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "page.md").write_text("# Page\n\nText.\n")
    (tmp_path / "chatkit-rag.toml").write_text('url = "https://usual.example"\n')
    (tmp_path / "other.toml").write_text('url = "https://other.example"\n')

    run("index", "pages", "--json", "--config", "other.toml", cwd=tmp_path)
    found = run("search", "text", "--json", "--config", "other.toml", cwd=tmp_path)

    assert json.loads(found.stdout)["hits"][0]["url"] == "https://other.example/page"


def test_evaluate_measures_search_and_fails_below_a_bound(tmp_path: Path):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "nodes", "text": "A node computes."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "which node [computes]"}\n')
    (tmp_path / "qrels.tsv").write_text("q\telsewhere\t1\n")

    done = run("evaluate", "--beir", ".", "--at-least", "recall@5=0.5", cwd=tmp_path)

    assert done.returncode == 1
    assert json.loads(done.stdout)["recall@5"] == 0
    assert "which node [computes]" in done.stderr
    assert "recall@5 is 0.0000, and should be at least 0.5" in done.stderr


def test_evaluate_measures_the_indexed_course(tmp_path: Path):
    (tmp_path / "golden.jsonl").write_text('{"question": "What is Physical AI?", "page": null}\n')
    unindexed = run("evaluate", "--golden", "golden.jsonl", cwd=tmp_path)
    run("index", str(DOCS), cwd=tmp_path)

    done = run("evaluate", "--golden", str(DOCS.parent / "golden.jsonl"), "--at-least", "0.9", cwd=tmp_path)

    assert unindexed.returncode == 1
    assert "chatkit-rag index FOLDER" in unindexed.stderr
    assert done.returncode == 0
    assert {"hits@5", "headings@1", "answered", "declined"} < json.loads(done.stdout).keys()
    assert "missed" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--beir", ".", "--golden", "golden.jsonl")])
def test_evaluate_wants_one_thing_to_measure(tmp_path: Path, arguments: tuple[str, ...]):
    done = run("evaluate", *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert "--beir and --golden" in done.stderr


def test_a_thread_database_that_is_none_is_named(tmp_path: Path):
    (tmp_path / ".chatkit-rag").mkdir()
    (tmp_path / ".chatkit-rag" / "threads.db").write_text("Not a database, but a letter to somebody.\n" * 200)

    done = run("serve", str(DOCS), "--port", "0", cwd=tmp_path)

    assert done.returncode == 1
    assert "threads.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_is_nonsense_is_named(tmp_path: Path):
    done = run("serve", cwd=tmp_path, env={"CHATKIT_RAG_ON_DISCONNECT": "explode"})

    assert done.returncode == 1
    assert "on_disconnect" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told_before_anything_is_indexed(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", str(DOCS), "--port", str(taken.getsockname()[1]), cwd=tmp_path)

    assert done.returncode == 1
    assert "choose another with --port" in done.stderr
    assert not (tmp_path / ".chatkit-rag").exists()


def test_broken_pages_are_named_and_the_others_are_indexed(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "good.md").write_text("# Good\n\nA page that can be read.\n")
    (docs / "latin.md").write_bytes("# Caf\xe9\n".encode("latin-1"))
    (docs / "broken.md").write_text("---\ntitle: [unclosed\n---\n\nText.\n")

    done = run("index", "docs", cwd=tmp_path)
    report = json.loads(done.stdout)

    assert done.returncode == 0
    assert report["pages"] == 1
    assert {skipped["page"] for skipped in report["skipped"]} == {"latin.md", "broken.md"}
    assert "UTF-8" in done.stderr
    assert "broken.md" in done.stderr


def test_nothing_is_left_behind_when_no_page_can_be_read(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "latin.md").write_bytes(b"\xff\xfe\xfa")

    done = run("index", "docs", cwd=tmp_path)

    assert done.returncode == 1
    assert "latin.md" in done.stderr
    assert not list(tmp_path.glob(".chatkit-rag/index/gen-*"))
    assert not (tmp_path / ".chatkit-rag" / "index" / "CURRENT").exists()


def test_threads_lie_in_one_file_of_the_data_directory(tmp_path: Path):
    with serving(str(DOCS), "--data-dir", "kept", cwd=tmp_path) as running:
        ask(running.address, "What is Physical AI?")
    shutil.copy(tmp_path / "kept" / "threads.db", tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as database:
        owners = set(database.execute('select tenant, "user" from items').fetchall())
    database.close()

    assert owners == {("", "local")}
    assert (tmp_path / "kept" / "session-secret").stat().st_mode & 0o077 == 0
