"""The one table that translates what aiohttp raises, and what is kept of it as a cause: no secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import yarl
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from querykit.errors import ApiError, RequestTimeout, Unreachable, redacted
from querykit.http.urls import shown

__all__: list[str] = []


@dataclass(frozen=True, slots=True)
class Row:
    """What an exception becomes, and what is said; `{detail}` is the system's own word for it."""

    becomes: type[ApiError]
    says: str


_NEVER_ASKED: Final = "aiohttp refused the request, or followed an answer, in a way not expected here"

TABLE: Final[Mapping[type[BaseException], Row]] = {
    # No whole answer in time.
    TimeoutError: Row(RequestTimeout, "no whole answer within {limit}"),
    aiohttp.ServerTimeoutError: Row(RequestTimeout, "no whole answer in time"),
    # No connection.
    aiohttp.ClientConnectorError: Row(Unreachable, "no connection: {detail}"),
    aiohttp.ClientConnectorDNSError: Row(Unreachable, "the host's name could not be resolved: {detail}"),
    aiohttp.ClientProxyConnectionError: Row(Unreachable, "no connection to the proxy: {detail}"),
    aiohttp.ClientHttpProxyError: Row(Unreachable, "the proxy refused to connect, with status {status}"),
    aiohttp.ClientSSLError: Row(Unreachable, "no secure connection: {detail}"),
    aiohttp.ClientConnectorCertificateError: Row(Unreachable, "the server's certificate was refused: {detail}"),
    aiohttp.ServerFingerprintMismatch: Row(Unreachable, "the server's certificate has another fingerprint"),
    # A connection that broke, or was no HTTP.
    aiohttp.ClientConnectionError: Row(Unreachable, "the connection was lost"),
    aiohttp.ClientOSError: Row(Unreachable, "the connection was lost: {detail}"),
    aiohttp.ServerDisconnectedError: Row(Unreachable, "the server closed the connection before it answered"),
    aiohttp.ClientPayloadError: Row(Unreachable, "the answer's body broke off, or is wrongly encoded"),
    aiohttp.ClientResponseError: Row(Unreachable, "the answer is not HTTP as it should be"),
    HttpProcessingError: Row(Unreachable, "the answer is not HTTP as it should be"),
    OSError: Row(Unreachable, "the connection was lost: {detail}"),
    # What this transport gives no cause for: no redirect is followed, no URL is left unchecked.
    aiohttp.ContentTypeError: Row(ApiError, _NEVER_ASKED),
    aiohttp.WSServerHandshakeError: Row(ApiError, _NEVER_ASKED),
    aiohttp.TooManyRedirects: Row(ApiError, _NEVER_ASKED),
    aiohttp.RedirectClientError: Row(ApiError, _NEVER_ASKED),
    aiohttp.InvalidURL: Row(ApiError, _NEVER_ASKED),
    aiohttp.NonHttpUrlClientError: Row(ApiError, _NEVER_ASKED),
    aiohttp.WSMessageTypeError: Row(ApiError, _NEVER_ASKED),
    # What a later aiohttp may add.
    aiohttp.ClientError: Row(Unreachable, "the request failed"),
}
"""An exception is translated by the row of the nearest of its classes, in the order of its bases."""

_STATUS: Final[Mapping[type[ApiError], tuple[int | None, str]]] = {
    RequestTimeout: (408, "Request Timeout"),
    Unreachable: (502, "Unreachable"),
    ApiError: (None, "Request Failed"),
}

_AIOHTTP: Final = (aiohttp.ClientError, aiohttp.WSMessageTypeError, HttpProcessingError)
_QUOTES_NOTHING: Final = (OSError, aiohttp.ServerFingerprintMismatch)


def row_of(kind: type[BaseException]) -> Row:
    """Return the row of the most specific class that has one."""
    return next(TABLE[each] for each in kind.__mro__ if each in TABLE)


def translated(error: BaseException, method: str, url: yarl.URL, timeout: float | None) -> ApiError:
    """Return what callers get in place of `error`, with a harmless copy of it as the cause.

    Args:
        error: one of a class in `TABLE`.
        method: the request's method.
        url: the request's URL.
        timeout: the seconds that the request had.
    """
    row = row_of(type(error))
    status, phrase = _STATUS[row.becomes]
    said = row.says.format(
        limit="the time it had" if timeout is None else f"{timeout:g} s",
        detail=getattr(error, "strerror", None) or type(error).__name__,
        status=getattr(error, "status", None),
    )
    failure = row.becomes(f"{phrase} - {said}", status=status, url=shown(url), method=method)
    failure.__cause__ = harmless(error, method, url)
    return failure


def harmless(error: BaseException, method: str, url: yarl.URL) -> BaseException:
    """Return a copy of `error` and its causes without traceback, request, query or quoted bytes."""
    copied = _bare(error, method, url)
    if copied is None:
        copied = redacted(error)
        copied.args = tuple(_inner(each) for each in copied.args)
        vars(copied).update({name: _inner(value) for name, value in vars(copied).items()})
        if error.__cause__ is not None:
            copied.__cause__ = harmless(error.__cause__, method, url)
    return copied


def _bare(error: BaseException, method: str, url: yarl.URL) -> BaseException | None:
    """Return an error of the same class without a message, if that may quote the wire or the whole URL."""
    if isinstance(error, aiohttp.ClientResponseError):
        plain = yarl.URL(shown(url), encoded=True)
        headers: CIMultiDict[str] = CIMultiDict()
        about = aiohttp.RequestInfo(plain, method, CIMultiDictProxy(headers), plain)
        return type(error)(about, (), status=error.status)
    if not isinstance(error, _AIOHTTP):
        return None
    if isinstance(error, _QUOTES_NOTHING) and not isinstance(error, TimeoutError):
        return None
    blank = type(error).__new__(type(error))
    if isinstance(blank, aiohttp.InvalidURL):  # it cannot be shown without
        aiohttp.InvalidURL.__init__(blank, "")
    return blank


def _inner(value: object) -> object:
    return redacted(value) if isinstance(value, BaseException) else value
