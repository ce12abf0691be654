"""Where commands print: what was asked for on stdout, all else on stderr."""

from typing import Any

import orjson
from rich.console import Console

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def print_json(document: dict[str, Any]) -> None:
    """Prints a document, for people and programs."""
    out.print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
