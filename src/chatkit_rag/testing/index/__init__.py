"""The parts of `IndexContract`, by what they are about."""

import pytest

# A failing assertion of these modules then shows its values, as one in a test file does.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("part", "searching", "filtering", "publishing")))
