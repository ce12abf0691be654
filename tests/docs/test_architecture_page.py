"""ARCHITECTURE.md says why of every dependency, and names every room; the reference has every public name."""

import re
import tomllib
from pathlib import Path

import pytest

import chatkit_rag

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGE = ROOT / "src" / "chatkit_rag"
REFERENCE = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))


def test_every_dependency_has_its_reason_and_none_that_is_gone():
    reasons = ARCHITECTURE.partition("## Dependencies")[2]
    explained = re.findall(r"^\| `([\w-]+)` \|", reasons, re.MULTILINE)
    declared = [re.split(r"[\[<>=]", dependency)[0] for dependency in PROJECT["dependencies"]]

    assert sorted(explained) == sorted(declared)


def test_every_room_is_on_the_map_with_its_modules():
    rooms = ARCHITECTURE.partition("## Rooms")[2].partition("### The import rule")[0]
    modules = [path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__")]

    missing = [
        str(module.relative_to(PACKAGE))
        for module in modules
        if not re.search(rf"\b{module.stem}\b", rooms) and module.parent.name not in ("testing", "models")
    ]

    assert missing == []


@pytest.mark.parametrize("name", chatkit_rag.__all__)
def test_every_public_name_is_in_the_reference(name: str):
    assert re.search(rf"^::: chatkit_rag(\.\w+)*\.{name}$", REFERENCE, re.MULTILINE) or name == "ChatKitRagError"
