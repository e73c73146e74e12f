"""The cookies in which a backend keeps a cluster's token: a credential, so they are held apart from all others."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["TokenCookies"]

NAME_BEGINS: Final = "headlamp-auth-"
LONGEST: Final = 2**31  # seconds; a larger number may be none that a float can hold


def loop_time() -> float:
    """Return the running loop's time, which tests may bend; without a loop, what loops usually go by."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


class TokenCookies:
    """The cookies of one login at one cluster of one base URL.

    They go nowhere else, whatever their Domain and Path say, and into no session's jar: that ignores ports,
    is shared, and cuts what is long.

    Args:
        clock: reads a time in seconds that never goes back, for cookies that end; the loop's if not given.

    Example:
        >>> cookies = TokenCookies()
        >>> cookies.take(["a.0=; Max-Age=0", "a.0=one; Path=/", "a.1=two; HttpOnly"])
        >>> cookies.header()
        'a.0=one; a.1=two'
    """

    __slots__ = ("_clock", "_kept")

    def __init__(self, clock: Callable[[], float] = loop_time) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}

    def __repr__(self) -> str:
        return f"<TokenCookies: {len(self._kept)}>"

    def take(self, set_cookie: Iterable[str]) -> None:
        """Apply the `Set-Cookie` headers of one reply, in their order: the same name may end and begin anew."""
        now = self._clock()
        for line in set_cookie:
            pair, *attributes = line.split(";")
            name, _, value = (part.strip() for part in pair.partition("="))
            lifetime = _lifetime(attributes)
            if lifetime <= 0:
                self._kept.pop(name, None)
            elif name:
                self._kept[name] = (value, now + lifetime)

    def header(self) -> str:
        """Return the `Cookie` header; empty without cookies."""
        self._let_end()
        return "; ".join(f"{name}={value}" for name, (value, _) in self._kept.items())

    @property
    def hold_token(self) -> bool:
        """Whether one of them is a token by its name; another backend may use other names."""
        self._let_end()
        return any(name.startswith(NAME_BEGINS) for name in self._kept)

    def _let_end(self) -> None:
        now = self._clock()
        self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}


def _lifetime(attributes: Iterable[str]) -> float:
    """Return for how many seconds a cookie holds; `Max-Age` counts more than `Expires`."""
    given: dict[str, str] = {}
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        given[name.strip().lower()] = value.strip()
    try:
        return float(max(0, min(int(given["max-age"]), LONGEST)))
    except (KeyError, ValueError):
        pass
    try:
        return parsedate_to_datetime(given["expires"]).timestamp() - time.time()
    except (KeyError, ValueError, OverflowError):
        return math.inf
