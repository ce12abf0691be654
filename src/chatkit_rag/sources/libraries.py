"""Which library a question is about: one that it names. Pure; no model is asked."""

import re
from collections.abc import Iterable, Iterator

ROBOTICS = ("ros2", "isaac-sim", "pytorch", "tensorflow", "opencv")
"""The libraries that are known where a site names none."""

_CALLED = (
    ("pytorch", "torch"),
    ("ros2", "ros"),
    ("isaac-sim", "nvidia-isaac"),
    ("tensorflow", "tf"),
    ("opencv", "cv2"),
)
"""Names that stand for one library each."""

_PIECES = re.compile(r"[^\W\d_]+|\d+|[^\w\s.-]")


class LibraryNames:
    """The libraries that questions may be about."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` as a site has them; what else a library is known to be called is added."""
        self._patterns = {name: _pattern([name]) for name in names}
        own = {_key(name): name for name in self._patterns}
        for group in _CALLED:
            for name in {own[called] for called in map(_key, group) if called in own}:
                others = [called for called in group if _key(called) not in own]
                self._patterns[name] = _pattern([name, *others])

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def named_in(self, text: str) -> str | None:
        """The library that `text` names; of several, the one whose name is the longest, then the first."""
        found = [(found[0], name) for name, pattern in self._patterns.items() if (found := pattern.search(text))]
        return max(found, key=lambda one: len(one[0]))[1] if found else None

    def fits(self, name: str, *titles: str) -> bool:
        """Whether one of `titles` names the library `name`."""
        return any(self._patterns[name].search(title) for title in titles)


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """The names as people write them: `ros2` is ROS 2 and ros-2, too."""
    spelled = (r"[\s._-]?".join(map(re.escape, _PIECES.findall(name))) for name in names)
    return re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?!\w)", re.IGNORECASE)


def _key(name: str) -> str:
    return "".join(_PIECES.findall(name.lower()))
