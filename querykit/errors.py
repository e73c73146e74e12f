"""The errors of querykit.

QuerykitError
  QueryCancelled          the fetch a caller waited for was cancelled
  QueryTimeout            a fetch took longer than its `timeout` (also a TimeoutError)
  QueryCycleError         a query would wait for itself (also a RuntimeError)
  MissingQueryFunction    there is nothing to fetch the data with (also a TypeError)
  ClientClosed            the client was closed (also a RuntimeError)
  WrongThread             another thread, or another event loop, than the client's (also a RuntimeError)
  ApiError                a server answered with an error, or not at all
    RequestTimeout        no whole answer within the timeout: status 408
    Unreachable           no connection, or it broke: status 502
    InvalidBody           an answer whose body is not what it should be
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "ApiError",
    "ClientClosed",
    "InvalidBody",
    "MissingQueryFunction",
    "QueryCancelled",
    "QueryCycleError",
    "QueryTimeout",
    "QuerykitError",
    "RequestTimeout",
    "Unreachable",
    "WrongThread",
]


class QuerykitError(Exception):
    """The base of all errors that querykit raises of its own."""


class QueryCancelled(QuerykitError):
    """The fetch was cancelled, removed, reset or forgotten while its caller waited.

    It is not an `asyncio.CancelledError`: the caller's own task was not cancelled.
    """

    def __init__(self, key: tuple[object, ...], why: str = "cancelled") -> None:
        super().__init__(key, why)
        self.key = key
        self.why = why

    def __str__(self) -> str:
        return f"the fetch of {self.key!r} was {self.why} while it was waited for"


class QueryTimeout(QuerykitError, TimeoutError):
    """A fetch, its retries included, took longer than the query's `timeout` seconds."""

    def __init__(self, key: tuple[object, ...], timeout: float) -> None:
        super().__init__(key, timeout)
        self.key = key
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the fetch of {self.key!r} took longer than its timeout of {self.timeout:g} s"


class QueryCycleError(QuerykitError, RuntimeError):
    """A query function asked, perhaps through others, for the key that it is fetching.

    Attributes:
        keys: the keys in the order in which they wait for each other, the first again at the end.
    """

    def __init__(self, keys: Sequence[tuple[object, ...]]) -> None:
        super().__init__(keys)
        self.keys = tuple(keys)

    def __str__(self) -> str:
        return "these queries would wait for each other forever: " + " → ".join(map(repr, self.keys))


class MissingQueryFunction(QuerykitError, TypeError):
    """A key that has no data was asked for without a query function, or with `skip`."""


class ClientClosed(QuerykitError, RuntimeError):
    """A client was used after `aclose`."""


class WrongThread(QuerykitError, RuntimeError):
    """A client was used from another thread, or under another event loop, than its own."""


class ApiError(QuerykitError):
    """A server answered with an error status, or could not be asked.

    Attributes:
        message: what the server said.
        status: the HTTP status, or the one that stands for what happened; None if there is none.
        reason: the machine-readable reason, as in a Kubernetes `Status`.
        details: the `details` of a Kubernetes `Status`.
        url: the URL without user information, query or fragment.
        method: the HTTP method.
        retry_after: the seconds the server asked to wait.
        cluster: the cluster the request was for.
        namespace: the namespace the request was for.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str | None = None,
        details: Mapping[str, Any] | None = None,
        url: str | None = None,
        method: str | None = None,
        retry_after: float | None = None,
        cluster: str | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.details = details
        self.url = url
        self.method = method
        self.retry_after = retry_after
        self.cluster = cluster
        self.namespace = namespace


class RequestTimeout(ApiError):
    """No whole answer, body included, came within the timeout. Its status is 408; the cause is kept."""


class Unreachable(ApiError):
    """The server could not be reached, or the connection broke. Its status is 502; the cause is kept."""


class InvalidBody(ApiError):
    """An answer's body could not be decoded, or is not of the type that was asked for."""


# What an HTTP library's exception may hold of a request or a response, headers and cookies among it.
_HOLDS_A_REQUEST: Final = frozenset(
    {"request_info", "request", "_request", "response", "_response", "history", "headers", "_conn_key"}
)


def kept(error: BaseException) -> BaseException:
    """Return a copy of `error` that may be kept: no traceback, and no request in it or in its causes.

    A traceback pins the locals of every frame it passed; a request holds the credentials it was sent with.
    """
    return _kept(error, seen=set())


def _kept(error: BaseException, seen: set[int]) -> BaseException:
    seen.add(id(error))
    cause = error.__cause__
    copied = redacted(error)
    if cause is not None and id(cause) not in seen:
        copied.__cause__ = _kept(cause, seen)
    return copied


def redacted(error: BaseException) -> BaseException:
    """Return a copy of `error` without traceback, cause, and anything that a request carried."""
    secret = {id(value) for name, value in vars(error).items() if name in _HOLDS_A_REQUEST}
    if not secret:
        try:
            copied = copy.copy(error)
        except Exception:  # an __init__ of its own shape: build it without calling that
            copied = _rebuild(error, error.args, vars(error))
        return copied.with_traceback(None)
    args = tuple(_without_headers(value) if id(value) in secret else value for value in error.args)
    state = {
        name: _without_headers(value) if name in _HOLDS_A_REQUEST else value for name, value in vars(error).items()
    }
    return _rebuild(error, args, state)


def _rebuild(error: BaseException, args: tuple[Any, ...], state: Mapping[str, Any]) -> BaseException:
    copied: BaseException = type(error).__new__(type(error), *args)
    copied.args = args
    vars(copied).update(state)
    if isinstance(error, OSError) and isinstance(copied, OSError):
        copied.errno, copied.strerror = error.errno, error.strerror
    return copied


def _without_headers(value: Any) -> Any:
    """Keep the URL and method of a request's description; drop all else."""
    fields: tuple[str, ...] = getattr(value, "_fields", ())
    secret: dict[str, Any] = {
        name: {} if name == "headers" else None for name in fields if name in ("headers", "proxy", "proxy_auth")
    }
    return value._replace(**secret) if secret else None
