"""The HttpOnly cookies in which the backend keeps a cluster's token, in chunks."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["CHUNK_SIZE", "TokenCookies", "read_cookies", "sanitize_cluster_name"]

CHUNK_SIZE = 3800
NAME_LENGTH = 50


def sanitize_cluster_name(cluster: str) -> str:
    """The part of a cluster's name that may stand in a cookie's name."""
    return re.sub(r"[^a-zA-Z0-9_-]", "", cluster)[:NAME_LENGTH]


def read_cookies(headers: Iterable[str]) -> dict[str, str]:
    """The cookies of a request's Cookie headers; of two with one name the first counts."""
    cookies: dict[str, str] = {}
    for header in headers:
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            cookies.setdefault(name, value.removeprefix('"').removesuffix('"'))
    return cookies


class TokenCookies:
    """Writes and reads the token cookies of one cluster.

    `path` is the cookies' Path, `max_age` their life in seconds.

    Example:
        >>> TokenCookies("a", path="/clusters/a", max_age=60).set("secret", present={}, secure=False)
        ['headlamp-auth-a.0=secret; Path=/clusters/a; Max-Age=60; HttpOnly; SameSite=Strict']
    """

    def __init__(self, cluster: str, *, path: str, max_age: int) -> None:
        self._name = sanitize_cluster_name(cluster)
        self._path = path
        self._max_age = max_age

    def read(self, present: dict[str, str]) -> str:
        """Join the chunks of a request's cookies, from 0 up to the first that is missing."""
        return "".join(present[name] for name in self._names(present))

    def set(self, token: str, *, present: dict[str, str], secure: bool) -> list[str]:
        """The Set-Cookie values that store a token; the chunks there were are ended first.

        So the same name may occur twice: a client has to take them in order.
        """
        if not self._name:
            return []
        written = self.clear(present=present, secure=secure)
        for number, start in enumerate(range(0, len(token), CHUNK_SIZE)):
            chunk = token[start : start + CHUNK_SIZE]
            written.append(self._cookie(self._chunk(number), chunk, self._max_age, secure))
        return written

    def clear(self, *, present: dict[str, str], secure: bool) -> list[str]:
        """The Set-Cookie values that end the chunks which the request sent."""
        return [self._cookie(name, "", 0, secure) for name in self._names(present)]

    def _names(self, present: dict[str, str]) -> list[str]:
        names: list[str] = []
        while self._name and (name := self._chunk(len(names))) in present:
            names.append(name)
        return names

    def _chunk(self, number: int) -> str:
        return f"headlamp-auth-{self._name}.{number}"

    def _cookie(self, name: str, value: str, max_age: int, secure: bool) -> str:
        # Go leaves out what may not stand in a cookie, and quotes what has a space or comma.
        kept = re.sub(r"[^ -~]|[\";\\]", "", value)
        quoted = f'"{kept}"' if re.search("[ ,]", kept) else kept
        attributes = [f"Path={self._path}", f"Max-Age={max_age}", "HttpOnly"]
        if secure:
            attributes.append("Secure")
        return "; ".join([f"{name}={quoted}", *attributes, "SameSite=Strict"])
