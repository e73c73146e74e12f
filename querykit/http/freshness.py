"""How long an answer says that it is fresh: `Cache-Control`, or else `Expires`."""

import re
from collections.abc import Callable, Iterator
from typing import Final

import aiohttp

from querykit.http.answers import timestamp

__all__: list[str] = []

LONGEST: Final = float(2**31)  # RFC 9111 1.2.2: what a larger number counts as

_DIRECTIVE: Final = re.compile(r"""([^\s,;="]+) (?: \s*=\s* ( "(?:[^"\\]|\\.)*" | [^\s,]* ) )?""", re.VERBOSE)


def lifetime(response: aiohttp.ClientResponse, now: Callable[[], float]) -> float | None:
    """Return the seconds from its making that an answer is fresh, or None if it does not say so.

    Args:
        response: the answer; a directive for shared caches, as `s-maxage`, is not for us.
        now: reads the wall clock, for an `Expires` without a `Date`.
    """
    directives = list(_directives(response))
    if any(name in ("no-cache", "no-store") for name, _ in directives):
        return 0.0
    ages = [_seconds(value) for name, value in directives if name == "max-age"]
    if ages:
        return min(ages)
    if "Expires" not in response.headers:
        return None
    expires = timestamp(response.headers["Expires"])
    made = timestamp(response.headers.get("Date", ""))
    return 0.0 if expires is None else max(0.0, expires - (now() if made is None else made))


def age(response: aiohttp.ClientResponse) -> float:
    """Return the seconds that an answer has been kept on its way."""
    return _seconds(response.headers.get("Age", ""))


def _directives(response: aiohttp.ClientResponse) -> Iterator[tuple[str, str]]:
    for name, value in _DIRECTIVE.findall(", ".join(response.headers.getall("Cache-Control", []))):
        yield name.lower(), value.strip('"')


def _seconds(value: str) -> float:
    """Return a number of seconds; 0, which is stale, for what is none."""
    value = value.strip()
    return min(float(value), LONGEST) if value.isascii() and value.isdigit() else 0.0
