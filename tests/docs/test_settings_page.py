"""The page on settings knows every setting, with its names and default, and every option of every command."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import AliasChoices

from chatkit_rag.cli import app
from chatkit_rag.settings import PREFIX, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "settings.md").read_text("utf-8")
ROWS = {row[0]: row for row in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)}


def commands(group: Any, before: str = "") -> dict[str, Any]:
    """Every command by its words, those of groups too."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= commands(command, f"{words} ") if hasattr(command, "commands") else {words: command}
    return found


COMMANDS = commands(typer.main.get_command(app))
SPELLED = {"None": "*none*", "": "*empty*", "True": "`true`", "False": "`false`"}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_its_row(name: str):
    field = Settings.model_fields[name]
    aliases = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else []
    variables = [str(alias) for alias in aliases if str(alias).isupper()] or [f"{PREFIX}{name.upper()}"]

    _, environment, default, _ = ROWS[name]

    assert environment == ", ".join(f"`{variable}`" for variable in variables)
    assert default == SPELLED.get(str(field.default), f"`{field.default}`")


def test_no_row_is_about_a_setting_that_is_gone():
    assert ROWS.keys() == Settings.model_fields.keys()


def test_every_command_has_its_section():
    assert set(re.findall(r"^### `chatkit-rag ([a-z]+(?: [a-z]+)?)", PAGE, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_section_names_its_options_and_no_others(name: str):
    section = re.split(rf"^### `chatkit-rag {name}\b", PAGE, flags=re.MULTILINE)[1].partition("\n### ")[0]
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}

    assert set(re.findall(r"--[a-z][\w-]*", section)) == options - {"--help"}
