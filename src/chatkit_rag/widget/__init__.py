"""The files that a browser gets: built, complete in themselves, and served from here."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def asset_directory() -> Traversable:
    """The folder of the built files, wherever the package is installed."""
    return files(__name__) / "static"
