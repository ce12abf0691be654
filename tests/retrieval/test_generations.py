"""Generations of an index on disk, and the private copies that processes open."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatkit_rag.errors import IndexError_, IndexUnreadable
from chatkit_rag.retrieval import generations
from chatkit_rag.retrieval.generations import Generations, PrivateCopy


def publish(directory: Path, content: str, *, keep: int = 2) -> str:
    made = Generations(directory, keep=keep)
    with made.building() as place:
        (place / "file").write_text(content)
    return names(made)


def names(made: Generations) -> str:
    current = made.current()
    assert current is not None
    return current.path.name


def content(directory: Path) -> str:
    current = Generations(directory).current()
    assert current is not None
    return (current.path / "file").read_text()


def folders(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_dir()}


@contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that does `script` after saying so on its output, and is killed in the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


BUILDING = """
import sys
from pathlib import Path
from chatkit_rag.retrieval.generations import Generations

with Generations(Path(sys.argv[1])).building() as place:
    (place / "file").write_text("half")
    print("ready", flush=True)
    sys.stdin.readline()
"""

HOLDING = """
import sys
from pathlib import Path
from chatkit_rag.retrieval.generations import PrivateCopy

copy = PrivateCopy(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
"""


class TestCurrent:
    def test_there_is_none_before_the_first(self, tmp_path: Path):
        assert Generations(tmp_path).current() is None
        assert Generations(tmp_path / "nowhere").current() is None

    def test_each_that_is_built_becomes_the_current_one(self, tmp_path: Path):
        assert publish(tmp_path / "index", "one") == "gen-1"
        assert publish(tmp_path / "index", "two") == "gen-2"

        assert content(tmp_path / "index") == "two"

    def test_one_that_was_removed_and_built_anew_is_another(self, tmp_path: Path):
        publish(tmp_path, "one")
        before = Generations(tmp_path).current()
        (tmp_path / "CURRENT").unlink()
        (tmp_path / "gen-1" / "file").unlink()
        (tmp_path / "gen-1").rmdir()
        time.sleep(0.02)  # a clock that tells files apart may tick a hundred times a second

        assert publish(tmp_path, "two") == "gen-1"

        assert Generations(tmp_path).current() != before

    @pytest.mark.parametrize("text", [b"", b"\n", b"..", b"/etc", b"\xff\xfe", b"gen-"])
    def test_a_damaged_pointer_is_said_to_be_one(self, tmp_path: Path, text: bytes):
        index = tmp_path / "index"
        publish(index, "one")
        (index / "CURRENT").write_bytes(text)

        with pytest.raises(IndexUnreadable) as caught:
            Generations(index).current()

        assert str(caught.value) == f"the index in {index} is damaged; remove {index} and index the pages again"

    def test_publishing_mends_a_damaged_pointer(self, tmp_path: Path):
        publish(tmp_path, "one")
        (tmp_path / "CURRENT").write_bytes(b"")

        assert publish(tmp_path, "two") == "gen-2"

    @pytest.mark.parametrize(
        ("keep", "left"), [(1, {"gen-5"}), (2, {"gen-4", "gen-5"}), (3, {"gen-3", "gen-4", "gen-5"})]
    )
    def test_the_last_few_are_kept(self, tmp_path: Path, keep: int, left: set[str]):
        for number in range(5):
            publish(tmp_path, str(number), keep=keep)

        assert folders(tmp_path) == left

    def test_the_order_is_by_number(self, tmp_path: Path):
        for number in range(1, 12):
            publish(tmp_path, str(number))

        assert folders(tmp_path) == {"gen-10", "gen-11"}

    def test_all_of_it_is_on_the_disk_before_it_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        synced: list[str] = []

        def sync(descriptor: int) -> None:
            synced.append(Path(f"/dev/fd/{descriptor}").readlink().name)

        monkeypatch.setattr(os, "fsync", sync)
        with Generations(tmp_path).building() as place:
            (place / "slices" / "one").mkdir(parents=True)
            (place / "slices" / "one" / "points").write_text("some")
            (place / "file").write_text("more")

        assert set(synced[:5]) == {place.name, "slices", "one", "points", "file"}
        assert synced[5:] == [tmp_path.name, "CURRENT.new", tmp_path.name]

    def test_other_users_may_read_it(self, tmp_path: Path):
        publish(tmp_path, "one")
        umask = os.umask(0)
        os.umask(umask)

        assert (tmp_path / "gen-1").stat().st_mode & 0o777 == 0o777 & ~umask


class TestFailures:
    def test_an_error_while_building_leaves_the_current_as_it_was(self, tmp_path: Path):
        publish(tmp_path, "one")
        before = Generations(tmp_path).current()

        with pytest.raises(ZeroDivisionError), Generations(tmp_path).building():
            raise ZeroDivisionError

        assert Generations(tmp_path).current() == before
        assert folders(tmp_path) == {"gen-1"}
        assert publish(tmp_path, "two") == "gen-2"

    def test_a_builder_that_is_killed_leaves_the_current_as_it_was_and_the_next_one_sweeps(self, tmp_path: Path):
        publish(tmp_path, "one")
        with running(BUILDING, tmp_path) as builder:
            builder.send_signal(signal.SIGKILL)
            assert builder.wait(10) == -signal.SIGKILL

        assert content(tmp_path) == "one"
        [leftover] = folders(tmp_path) - {"gen-1"}
        assert leftover.startswith("building-")

        assert publish(tmp_path, "two") == "gen-2"
        assert folders(tmp_path) == {"gen-1", "gen-2"}

    @pytest.mark.parametrize("step", ["open", "replace"])
    def test_dying_between_the_folder_and_the_pointer_leaves_the_current_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ):
        publish(tmp_path, "one")
        real = getattr(Path, step)

        def dies(path: Path, *arguments: object, **named: object) -> object:
            if path.name == "CURRENT.new":
                raise KeyboardInterrupt
            return real(path, *arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Path, step, dies)
            with pytest.raises(KeyboardInterrupt):
                publish(tmp_path, "two")

        assert content(tmp_path) == "one"
        assert publish(tmp_path, "three") == "gen-3"
        assert content(tmp_path) == "three"

    def test_a_second_builder_is_told_to_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(generations, "_PATIENCE", 0.2)
        with (
            running(BUILDING, tmp_path),
            pytest.raises(IndexError_, match=r"another process is building the index in .*; wait until it is done"),
        ):
            publish(tmp_path, "two")

        assert publish(tmp_path, "three") == "gen-1"

    def test_a_second_builder_in_the_same_process_is_told_so_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(generations, "_PATIENCE", 0.2)
        caught: list[BaseException] = []

        def build() -> None:
            try:
                publish(tmp_path, "two")
            except IndexError_ as exc:
                caught.append(exc)

        with Generations(tmp_path).building() as place:
            (place / "file").write_text("one")
            other = threading.Thread(target=build)
            other.start()
            other.join(10)

        assert len(caught) == 1
        assert content(tmp_path) == "one"

    def test_a_second_builder_gets_its_turn_when_the_first_is_done(self, tmp_path: Path):
        with running(BUILDING, tmp_path) as builder:
            finishing = threading.Timer(0.2, lambda: (builder.stdin.write("\n"), builder.stdin.flush()))
            finishing.start()

            assert publish(tmp_path, "two") == "gen-2"
            assert builder.wait(10) == 0
            finishing.join()

        assert content(tmp_path) == "two"

    def test_a_place_that_cannot_be_written_is_named_with_what_to_do(self, tmp_path: Path):
        (tmp_path / "file").touch()

        with pytest.raises(IndexError_, match=r"cannot write the index in .*file.*--data-dir"):
            publish(tmp_path / "file", "one")
        with pytest.raises(IndexError_, match=r"Not a directory.*--data-dir"):
            publish(tmp_path / "file" / "index", "one")


class TestPrivateCopies:
    @pytest.fixture
    def generation(self, tmp_path: Path) -> Path:
        place = tmp_path / "gen-1"
        (place / "segments").mkdir(parents=True)
        (place / "file").write_text("one")
        (place / "segments" / "file").write_bytes(b"\0" * 100 + b"x" + b"\0" * 5)
        return place

    def test_one_holds_what_the_generation_holds_and_is_nobodys_but_ours(self, generation: Path, temporary: Path):
        copy = PrivateCopy(generation)

        (copy.path / "file").write_text("changed")

        assert (copy.path / "segments" / "file").read_bytes() == (generation / "segments" / "file").read_bytes()
        assert (generation / "file").read_text() == "one"
        assert copy.path.is_relative_to(temporary)
        assert copy.path.parent.stat().st_mode & 0o077 == 0
        copy.remove()

    def test_it_is_gone_when_it_is_removed_whichever_thread_made_it(self, generation: Path, temporary: Path):
        made: list[PrivateCopy] = []
        maker = threading.Thread(target=lambda: made.append(PrivateCopy(generation)))
        maker.start()
        maker.join()

        made[0].remove()
        made[0].remove()

        assert list(temporary.iterdir()) == []

    def test_one_that_cannot_be_made_leaves_nothing(self, tmp_path: Path, temporary: Path):
        with pytest.raises(FileNotFoundError):
            PrivateCopy(tmp_path / "nowhere")

        assert list(temporary.iterdir()) == []

    @pytest.mark.usefixtures("temporary")
    def test_holes_stay_holes(self, tmp_path: Path):
        place = tmp_path / "gen-1"
        place.mkdir()
        with (place / "reserved").open("wb") as file:
            file.write(b"start")
            file.seek(48 << 20)
            file.write(b"middle")
            file.truncate(64 << 20)

        copy = PrivateCopy(place)

        made = (copy.path / "reserved").stat()
        assert made.st_size == 64 << 20
        assert made.st_blocks * 512 < 4 << 20
        assert (copy.path / "reserved").read_bytes() == (place / "reserved").read_bytes()
        copy.remove()

    def test_one_that_was_abandoned_is_swept_and_one_in_use_is_not(
        self, generation: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(generations, "_GRACE", 0.0)
        with running(HOLDING, generation) as alive, running(HOLDING, generation) as killed:
            assert len(list(temporary.iterdir())) == 2
            killed.kill()
            killed.wait(10)

            mine = PrivateCopy(generation)

            places = set(temporary.iterdir())
            assert len(places) == 2
            assert mine.path.parent in places
            [theirs] = places - {mine.path.parent}
            assert (theirs / "generation" / "file").read_text() == "one"
            alive.kill()
            alive.wait(10)
        mine.remove()
        PrivateCopy(generation).remove()
        assert list(temporary.iterdir()) == []

    def test_one_in_the_making_has_a_time_of_grace(self, generation: Path, temporary: Path):
        young = temporary / f"{generations._PREFIX_OF_OWN}young"
        young.mkdir()  # not locked yet
        old = temporary / f"{generations._PREFIX_OF_OWN}old"
        old.mkdir()
        long_ago = time.time() - 2 * generations._GRACE
        os.utime(old, (long_ago, long_ago))

        PrivateCopy(generation).remove()

        assert list(temporary.iterdir()) == [young]

    def test_a_link_is_not_followed(self, tmp_path: Path, generation: Path, temporary: Path):
        documents = tmp_path / "documents"
        documents.mkdir()
        long_ago = time.time() - 2 * generations._GRACE
        os.utime(documents, (long_ago, long_ago))
        (temporary / f"{generations._PREFIX_OF_OWN}link").symlink_to(documents)

        PrivateCopy(generation).remove()

        assert list(documents.iterdir()) == []

    def test_what_is_not_ours_is_left_alone(self, generation: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(generations, "_GRACE", 0.0)
        monkeypatch.setattr(generations, "_is_ours", lambda _place: False)
        theirs = temporary / f"{generations._PREFIX_OF_OWN}theirs"
        theirs.mkdir()
        (temporary / "notes").mkdir()

        PrivateCopy(generation).remove()

        assert set(temporary.iterdir()) == {theirs, temporary / "notes"}
