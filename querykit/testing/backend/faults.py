"""A plan of faults: which requests are to go wrong, and how.

Delay, Hold             the answer comes later, or when it is released
Drop, Cut               the connection ends instead of the answer, or in the middle of it
Respond, Malformed      another answer
SlowBody, AddHeaders    the answer, changed on its way
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

__all__ = [
    "AddHeaders",
    "Cut",
    "Delay",
    "Drop",
    "Due",
    "Effect",
    "FaultPlan",
    "FaultRule",
    "Hold",
    "Malformed",
    "Respond",
    "SlowBody",
]


class Delay(msgspec.Struct, frozen=True, tag="delay"):
    """Wait; with `handled` the request is carried out first and only its answer waits."""

    seconds: float
    handled: bool = False


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """Wait until released; with `handled` the answer is made first, and is old when it leaves."""

    handled: bool = False


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Close the connection without an answer; with `handled` the request was carried out.

    aiohttp sends an idempotent request once more by itself when a kept-alive connection is closed on it.
    """

    handled: bool = False


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """End the connection after `after` bytes of the body (half of it, if None); `reset` sends RST."""

    after: int | None = None
    reset: bool = False


class Respond(msgspec.Struct, frozen=True, tag="respond"):
    """Answer with this status instead of carrying the request out.

    The body is a `Status` document, or `text` as text/plain where one is given, as an overloaded
    API server (429) and the backend itself send it. `retry_after` is the header's value.
    """

    status: int
    text: str | None = None
    retry_after: str | None = None


class Malformed(msgspec.Struct, frozen=True, tag="malformed"):
    """Answer 200 with a JSON content type and a body that is no JSON."""

    body: str = '{"kind":"Status","items":['


class SlowBody(msgspec.Struct, frozen=True, tag="slow"):
    """Send the body in pieces of `size` bytes with a pause of `seconds` after each."""

    size: int = 64
    seconds: float = 0.05


class AddHeaders(msgspec.Struct, frozen=True, tag="headers"):
    """Add headers to the answer, e.g. `AddHeaders((("X-Reload", "reload"),))`."""

    headers: tuple[tuple[str, str], ...]


Effect = Delay | Hold | Drop | Cut | Respond | Malformed | SlowBody | AddHeaders


class FaultRule(msgspec.Struct, frozen=True, kw_only=True):
    """An effect and the requests it befalls.

    Example:
        >>> rule = FaultRule(effect=Respond(503, retry_after="1"), path=r"/pods$", times=2)
        >>> rule.matches("GET", "/clusters/a/api/v1/pods", "a")
        True

    Raises:
        ValueError: for a `path` that is no regular expression.
    """

    effect: Effect
    method: str | None = None
    path: str | None = None
    """A regular expression that is searched for in the path."""
    cluster: str | None = None
    times: int | None = None
    """How many requests it befalls; None is all of them."""
    after: int = 0
    """How many matching requests are let through before."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.path or "")
        except re.error as error:
            raise ValueError(f"path is no regular expression: {error}") from error

    def matches(self, method: str, path: str, cluster: str | None) -> bool:
        """Whether a request is one of those."""
        return (
            self.method in (None, method)
            and self.cluster in (None, cluster)
            and (self.path is None or re.search(self.path, path) is not None)
        )


@dataclass(slots=True)
class Due:
    """A rule at work: how many requests it has met, and the gate that a Hold waits at."""

    rule: FaultRule
    met: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def claim(self) -> bool:
        """Count one more matching request; whether the fault befalls it."""
        self.met += 1
        number = self.met - self.rule.after
        return number > 0 and (self.rule.times is None or number <= self.rule.times)


class FaultPlan:
    """The rules in force, in the order they were added; every one that matches takes effect."""

    def __init__(self) -> None:
        self._rules: dict[str, Due] = {}
        self._added = 0

    def add(self, rule: FaultRule) -> str:
        """Put a rule into force; returns the name to release it by."""
        self._added += 1
        name = f"fault-{self._added}"
        self._rules[name] = Due(rule)
        return name

    def clear(self) -> None:
        """Take all rules out of force and let go whom they hold."""
        for name in list(self._rules):
            self.release(name)

    def release(self, name: str | None = None) -> None:
        """Let a rule's held requests go and take it out of force; all Hold rules if no name is given.

        Raises:
            KeyError: when no rule in force has this name.
        """
        holds = [key for key, due in self._rules.items() if isinstance(due.rule.effect, Hold)]
        for key in holds if name is None else [name]:
            self._rules.pop(key).gate.set()

    def due(self, method: str, path: str, cluster: str | None) -> list[Due]:
        """The rules that befall this request, which counts for each of them."""
        return list(self._due(method, path, cluster))

    def _due(self, method: str, path: str, cluster: str | None) -> Iterator[Due]:
        for due in self._rules.values():
            if due.rule.matches(method, path, cluster) and due.claim():
                yield due
