"""Keeps a session's cookie jar out of a request: credentials are explicit headers (design 4)."""

from collections.abc import Mapping, Sequence
from http.cookies import SimpleCookie
from typing import Self

import aiohttp

__all__: list[str] = []


class JarGuard:
    """A client middleware for one request: the jar adds nothing to it, and stores nothing of its answer.

    aiohttp has no option for that. It fills the jar's cookies in before its middlewares run, and hands the
    answer's to the jar after.
    """

    def __init__(self, cookie: str | None, others: Sequence[aiohttp.ClientMiddlewareType]) -> None:
        self._cookie = cookie
        self.middlewares: Sequence[aiohttp.ClientMiddlewareType] = (*others, self)
        self._received: SimpleCookie | None = None

    @classmethod
    def for_session(cls, session: aiohttp.ClientSession, headers: Mapping[str, str]) -> Self:
        """Guard a request with these headers; the session's own middlewares run as they would."""
        cookie = headers.get("Cookie", session.headers.get("Cookie"))
        others: Sequence[aiohttp.ClientMiddlewareType] = getattr(session, "_middlewares", ())
        return cls(cookie, others)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.popall("Cookie", None)
        if self._cookie is not None:
            request.headers["Cookie"] = self._cookie
        response = await handler(request)
        self._received = response.cookies
        response.cookies = SimpleCookie()
        return response

    def restore(self, response: aiohttp.ClientResponse) -> None:
        """Give the answer its cookies back, now that the jar cannot see them."""
        if self._received is not None:
            response.cookies = self._received
