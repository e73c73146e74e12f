"""The transport: typed answers, errors of querykit, and conditional requests."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict, TypeVar, Unpack, overload

import aiohttp

from querykit.checks import Seconds
from querykit.context import QueryContext
from querykit.http.answers import decoded, error_from
from querykit.http.conditional import Question, conditions, confirm, is_plain, learn, validators_for
from querykit.http.headers import merged
from querykit.http.sender import Sender
from querykit.state import UNSET, Unset

__all__ = ["HttpTransport", "RequestOptions"]

T = TypeVar("T")


class RequestOptions(TypedDict, total=False):
    """What a request may be given.

    Attributes:
        params: query parameters: None is left out, a list repeats its name, true and false are so written.
        headers: headers for this request; they go before the transport's.
        json: a value to send as JSON; None is `null`.
        data: a body to send as it is.
        timeout: the seconds, or a `timedelta`, for the whole exchange, body included; None for no limit.
    """

    params: Mapping[str, object] | None
    headers: Mapping[str, str] | None
    json: object
    data: bytes | str | None
    timeout: Seconds | Unset | None


class HttpTransport(Sender):
    """Sends requests under one base URL. It belongs to the event loop under which it is first used.

    It never follows a redirect, so no credential goes where it was not meant to; and it never touches a
    cookie jar: cookies are headers like any other.

    Args:
        base_url: where requests go, such as `https://example.com/api`; its path begins every path.
        session: an aiohttp session to use; the caller closes it. Without it one is made when first needed.
        headers: headers for every request; they are never shown.
        timeout: the seconds, or a `timedelta`, for one exchange, body included; None for no limit.
        json: what encodes and decodes JSON.
        proxy: the URL of an HTTP proxy; a user and a password in it become a `Proxy-Authorization`.
        proxy_auth: the user and the password for the proxy.
        proxy_headers: headers for the proxy alone, or, where it sees the requests, with each of them.
        ssl: what is passed on to aiohttp: an `SSLContext`, a `Fingerprint`, or whether to check certificates.
        wall_clock: reads the seconds since 1970, for dates in headers.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: a URL, a header or a time cannot be used.

    Example:
        >>> HttpTransport("https://example.com/api/", headers={"Authorization": "Bearer s3cret"})
        <HttpTransport of https://example.com/api with the headers Authorization>
    """

    @overload
    async def request(
        self,
        method: str,
        path: str,
        *,
        type: type[T],
        context: QueryContext[Any] | None = ...,
        **options: Unpack[RequestOptions],
    ) -> T: ...
    @overload
    async def request(
        self,
        method: str,
        path: str,
        *,
        type: Any = ...,
        context: QueryContext[Any] | None = ...,
        **options: Unpack[RequestOptions],
    ) -> Any: ...
    async def request(
        self,
        method: str,
        path: str,
        *,
        type: Any = Any,
        context: QueryContext[Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Return the data of a good answer; None if its body is empty.

        Args:
            method: the HTTP method.
            path: see `url`.
            type: what the JSON is decoded as.
            context: what the query function was given; a GET then asks only for what has changed, and the
                answer's freshness counts with `stale_time="http"`.
            options: see `RequestOptions`.

        Raises:
            ApiError: the status is none of success.
            InvalidBody: the body is not JSON, or not of this type.
            Exception: what `send` raises.
        """
        options["headers"] = merged({"Accept": "application/json"}, self._headers, options.get("headers"))
        if context is not None and method.upper() == "GET":
            return await self._revalidated(path, type, context, options)
        return await self._data(await self.send(method, path, **options), type)

    async def _data(self, response: aiohttp.ClientResponse, type: Any) -> Any:
        body = await response.read()
        if not 200 <= response.status < 300:
            raise error_from(response, body, now=self._now)
        return decoded(response, body, self._codec, type)

    async def _revalidated(self, path: str, type: Any, context: QueryContext[Any], options: RequestOptions) -> Any:
        """Ask only for what has changed. After each await the entry may have other data than before."""
        headers = merged(options.get("headers"))
        question = Question(str(self.url(path, options.get("params"))), headers.get("Accept", ""), type)
        known = validators_for(question, context) if is_plain(headers) else None
        if known is not None:
            asking = options.copy()
            asking["headers"] = merged(headers, conditions(known))
            response = await self.send("GET", path, **asking)
            if response.status != 304:
                return await self._learned(response, type, context, question)
            if context.validators is known:
                confirm(context, known, response, self._now)
                return context.previous_data
        return await self._learned(await self.send("GET", path, **options), type, context, question)

    async def _learned(
        self, response: aiohttp.ClientResponse, type: Any, context: QueryContext[Any], question: Question
    ) -> Any:
        data = await self._data(response, type)
        learn(context, question, response, self._now, data)
        return data

    @overload
    def query_fn(
        self,
        path: str,
        *,
        type: type[T],
        params: Mapping[str, object] | None = ...,
        headers: Mapping[str, str] | None = ...,
        timeout: Seconds | Unset | None = ...,
    ) -> Callable[[QueryContext[T]], Awaitable[T]]: ...
    @overload
    def query_fn(
        self,
        path: str,
        *,
        type: Any = ...,
        params: Mapping[str, object] | None = ...,
        headers: Mapping[str, str] | None = ...,
        timeout: Seconds | Unset | None = ...,
    ) -> Callable[[QueryContext[Any]], Awaitable[Any]]: ...
    def query_fn(
        self,
        path: str,
        *,
        type: Any = Any,
        params: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Seconds | Unset | None = UNSET,
    ) -> Callable[[QueryContext[Any]], Awaitable[Any]]:
        """Return a query function that gets a path, with conditional requests and the answer's freshness.

        A credential in the transport's headers is not named (S3): give the query `identity=`, or call
        `use_identity` in a function of your own.

        Raises:
            TypeError: an argument is of a wrong type.
            ValueError: an argument cannot be sent.

        Example:
            >>> pods = HttpTransport("http://localhost").query_fn("/api/v1/pods", params={"limit": 500})
        """
        self.url(path, params)
        sent = merged(headers)

        async def fetch(context: QueryContext[Any]) -> Any:
            return await self.request(
                "GET", path, type=type, params=params, headers=sent, timeout=timeout, context=context
            )

        return fetch

    @overload
    async def get(
        self, path: str, *, type: type[T], context: QueryContext[Any] | None = ..., **options: Unpack[RequestOptions]
    ) -> T: ...
    @overload
    async def get(
        self, path: str, *, type: Any = ..., context: QueryContext[Any] | None = ..., **options: Unpack[RequestOptions]
    ) -> Any: ...
    async def get(
        self,
        path: str,
        *,
        type: Any = Any,
        context: QueryContext[Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """See `request`."""
        return await self.request("GET", path, type=type, context=context, **options)

    @overload
    async def post(self, path: str, *, type: type[T], **options: Unpack[RequestOptions]) -> T: ...
    @overload
    async def post(self, path: str, *, type: Any = ..., **options: Unpack[RequestOptions]) -> Any: ...
    async def post(self, path: str, *, type: Any = Any, **options: Unpack[RequestOptions]) -> Any:
        """See `request`."""
        return await self.request("POST", path, type=type, **options)

    @overload
    async def put(self, path: str, *, type: type[T], **options: Unpack[RequestOptions]) -> T: ...
    @overload
    async def put(self, path: str, *, type: Any = ..., **options: Unpack[RequestOptions]) -> Any: ...
    async def put(self, path: str, *, type: Any = Any, **options: Unpack[RequestOptions]) -> Any:
        """See `request`."""
        return await self.request("PUT", path, type=type, **options)

    @overload
    async def patch(self, path: str, *, type: type[T], **options: Unpack[RequestOptions]) -> T: ...
    @overload
    async def patch(self, path: str, *, type: Any = ..., **options: Unpack[RequestOptions]) -> Any: ...
    async def patch(self, path: str, *, type: Any = Any, **options: Unpack[RequestOptions]) -> Any:
        """See `request`."""
        return await self.request("PATCH", path, type=type, **options)

    @overload
    async def delete(self, path: str, *, type: type[T], **options: Unpack[RequestOptions]) -> T: ...
    @overload
    async def delete(self, path: str, *, type: Any = ..., **options: Unpack[RequestOptions]) -> Any: ...
    async def delete(self, path: str, *, type: Any = Any, **options: Unpack[RequestOptions]) -> Any:
        """See `request`."""
        return await self.request("DELETE", path, type=type, **options)
