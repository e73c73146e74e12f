"""What tests of observers need: a subscriber that remembers, and the loop's time."""

from __future__ import annotations

import asyncio
from typing import Any


class Results(list[Any]):
    """A subscriber: the results it was told, in order."""

    def __call__(self, result: Any) -> None:
        self.append(result)

    def of(self, *names: str) -> list[Any]:
        """One field of each result, or a tuple of several."""
        if len(names) == 1:
            return [getattr(result, names[0]) for result in self]
        return [tuple(getattr(result, name) for name in names) for result in self]


def now() -> float:
    return asyncio.get_running_loop().time()


def exceptions(reported: Any) -> list[type[BaseException]]:
    """The types of what was reported, which is then forgotten."""
    return [type(each["exception"]) for each in reported.take()]
