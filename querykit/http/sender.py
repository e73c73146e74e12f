"""Sending: one shared aiohttp session, one limit around the whole exchange, each failure translated."""

import asyncio
import math
import ssl as tls
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec
import yarl
from multidict import CIMultiDict

from querykit.checks import Seconds, seconds
from querykit.errors import ClientClosed, WrongThread
from querykit.http.answers import Codec
from querykit.http.failures import TABLE, translated
from querykit.http.headers import merged
from querykit.http.jar import JarGuard
from querykit.http.proxy import Proxy
from querykit.http.urls import base_of, url_of
from querykit.state import UNSET, Unset

__all__: list[str] = []

TIMEOUT: Final = 120.0

# One limit is set around the whole exchange; aiohttp's own would cover parts of it.
_NO_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=None)
_FAILURES: Final = tuple(TABLE)


class Sender:
    """Sends requests under one base URL; for its arguments see `HttpTransport`."""

    def __init__(
        self,
        base_url: str | yarl.URL,
        *,
        session: aiohttp.ClientSession | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Seconds | None = TIMEOUT,
        json: Codec = msgspec.json,
        proxy: str | yarl.URL | None = None,
        proxy_auth: tuple[str, str] | None = None,
        proxy_headers: Mapping[str, str] | None = None,
        ssl: tls.SSLContext | aiohttp.Fingerprint | bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.base_url = base_of(base_url)
        self._headers = merged(headers)
        self._timeout = _limit(timeout)
        self._codec = json
        self._proxy = Proxy.of(self.base_url, proxy, proxy_auth, proxy_headers)
        self._ssl = ssl
        self._now = wall_clock
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        names = f" with the headers {', '.join(self._headers)}" if self._headers else ""
        return f"<{type(self).__name__} of {self.base_url}{names}>"

    # Life

    async def aclose(self) -> None:
        """Close the session, if it was made here; twice does no harm. Nothing can be sent afterwards."""
        self._is_closed = True
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._is_closed or (self._given is not None and self._given.closed):
            raise ClientClosed(f"{self!r}, or the session it was given, is closed")
        if self._loop is not None and self._loop is not loop:
            raise WrongThread(f"{self!r} is used under another event loop than before: make one for each")
        self._loop = loop
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._own

    # Sending

    def url(self, path: str, params: Mapping[str, object] | None = None) -> yarl.URL:
        """Return the URL of a path: text whose slashes separate segments, or an `EncodedPath`.

        Raises:
            TypeError: the path or a parameter is of a wrong type.
            ValueError: a segment of the path could be read as `.` or `..`.

        Example:
            >>> Sender("http://localhost").url("/pods/what?", {"limit": 5})
            URL('http://localhost/pods/what%3F?limit=5')
        """
        return url_of(self.base_url, path, params)

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = UNSET,
        data: bytes | str | None = None,
        timeout: Seconds | Unset | None = UNSET,
    ) -> aiohttp.ClientResponse:
        """Return the answer, of whatever status, with its body read and its connection let go.

        For the arguments see `RequestOptions`.

        Raises:
            TypeError: an argument is of a wrong type, or a value is none that JSON has.
            ValueError: an argument cannot be sent.
            RequestTimeout: no whole answer came in time.
            Unreachable: no connection was made, or it broke.
            ClientClosed: the transport, or its session, was closed.
        """
        url = self.url(path, params)
        sent = merged(self._headers, headers)
        body = self._body(json, data, sent)
        limit = self._timeout if timeout is UNSET else _limit(timeout)
        session = self._session()
        try:
            async with asyncio.timeout(limit):
                return await self._exchange(session, method.upper(), url, sent, body)
        except _FAILURES as error:
            failure = translated(error, method.upper(), url, limit)
        raise failure  # out of the block, else it would hold the original, with the request in it

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: yarl.URL,
        headers: CIMultiDict[str],
        body: bytes | str | None,
    ) -> aiohttp.ClientResponse:
        guard = None if session is self._own else JarGuard.for_session(session, headers)
        response = await session.request(
            method,
            url,
            headers=self._proxy.request_headers(headers),
            data=body,
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            timeout=_NO_LIMITS,
            ssl=self._ssl,
            proxy=self._proxy.url,
            proxy_headers=self._proxy.connect_headers(),
            middlewares=None if guard is None else guard.middlewares,
        )
        await response.read()
        if response.connection is not None:
            response.close()
            raise aiohttp.ClientConnectionError("the server has switched protocols, which nobody asked for")
        if guard is not None:
            guard.restore(response)
        return response

    def _body(self, json: object, data: bytes | str | None, headers: CIMultiDict[str]) -> bytes | str | None:
        if json is UNSET:
            if data is not None and not isinstance(data, (bytes, str)):
                raise TypeError(f"data= is bytes or text, not a {type(data).__name__}; for a value give json=")
            return data
        if data is not None:
            raise TypeError("a request has one body: give json= or data=, not both")
        headers.setdefault("Content-Type", "application/json")
        return self._codec.encode(json)


def _limit(timeout: object) -> float | None:
    """Return the seconds that an exchange may take; None for no limit."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    return None if limit == math.inf else limit
