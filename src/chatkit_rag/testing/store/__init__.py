"""The parts of `StoreContract`, by what they are about."""

import pytest

_PARTS = (
    "part",
    "threads",
    "items",
    "pages",
    "owners",
    "data",
    "copies",
    "at_once",
    "cancelling",
    "coordination",
    "besides",
    "privacy",
    "conversations",
    "compared",
)
# A failing assertion of these modules then shows its values, as one in a test file does.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))
