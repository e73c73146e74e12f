"""The errors of querykit.

QuerykitError
  QueryCancelled          the fetch a caller waited for was cancelled
  QueryTimeout            a fetch took longer than its `timeout` (also a TimeoutError)
  QueryCycleError         a query would wait for itself (also a RuntimeError)
  SourceEnded             a live query's source ended before its first value
  MissingQueryFunction    there is nothing to fetch the data with (also a TypeError)
  MissingMutationFunction there is nothing that would do the mutation (also a TypeError)
  ClientClosed            the client was closed (also a RuntimeError)
  ObserverClosed          the observer was closed (also a RuntimeError)
  WrongThread             another thread, or another event loop, than the client's (also a RuntimeError)
  ApiError                a server answered with an error, or not at all
    RequestTimeout        no whole answer within the timeout: status 408
    Unreachable           no connection, or it broke: status 502
    InvalidBody           an answer whose body is not what it should be
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, TypeAlias, cast

from multidict import MultiMapping
from yarl import URL

__all__ = [
    "ApiError",
    "ClientClosed",
    "InvalidBody",
    "MissingMutationFunction",
    "MissingQueryFunction",
    "ObserverClosed",
    "QueryCancelled",
    "QueryCycleError",
    "QueryTimeout",
    "QuerykitError",
    "RequestTimeout",
    "SourceEnded",
    "Unreachable",
    "WrongThread",
]


class QuerykitError(Exception):
    """The base of all errors that querykit raises of its own."""


class QueryCancelled(QuerykitError):
    """The fetch, or the mutation, was cancelled, removed, reset or forgotten while its caller waited.

    It is not an `asyncio.CancelledError`: the caller's own task was not cancelled.
    """

    def __init__(self, key: tuple[object, ...], why: str = "cancelled", what: str = "fetch") -> None:
        super().__init__(key, why, what)
        self.key = key
        self.why = why
        self.what = what

    def __str__(self) -> str:
        return f"the {self.what} of {self.key!r} was {self.why} while it was waited for"


class QueryTimeout(QuerykitError, TimeoutError):
    """A fetch, its retries included, took longer than the query's `timeout` seconds; or a wait for a result did."""

    def __init__(
        self, key: tuple[object, ...], timeout: float, what: str = "the fetch of {key!r} has not ended"
    ) -> None:
        super().__init__(key, timeout, what)
        self.key = key
        self.timeout = timeout
        self._what = what

    def __str__(self) -> str:
        return f"{self._what.format(key=self.key)} within its timeout of {self.timeout:g} s"


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


class SourceEnded(QuerykitError):
    """A live query's source ended before its first value; it is started again.

    Attributes:
        key: the query's key.
        retryable: True: it may bring a value the next time.
    """

    retryable = True

    def __init__(self, key: tuple[object, ...]) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the live source of {self.key!r} ended before its first value"


class MissingQueryFunction(QuerykitError, TypeError):
    """A key that has no data was asked for without a query function, or with `skip`."""


class MissingMutationFunction(QuerykitError, TypeError):
    """A mutation has no function, of its own or by default."""


class ClientClosed(QuerykitError, RuntimeError):
    """A client was used after `aclose`."""


class ObserverClosed(QuerykitError, RuntimeError):
    """An observer was used after it was closed."""


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
_SECRET_FIELDS: Final = frozenset({"headers", "proxy", "proxy_auth"})
# What a class written in C, or one with slots, keeps outside of the instance's dict.
_FIELDS: Final = (MemberDescriptorType, GetSetDescriptorType)

_Memo: TypeAlias = dict[int, BaseException]


def kept(error: BaseException) -> BaseException:
    """Return a copy of `error` that may be kept: no traceback, and no request in it or in its causes.

    A traceback pins the locals of every frame it passed; a request holds the credentials it was sent with.
    An error that was being handled when another was raised (`__context__`) is not kept.
    """
    return _kept(error, {})


def redacted(error: BaseException) -> BaseException:
    """Return a copy of `error` without traceback, cause, and anything that a request carried."""
    return _copied(error, {})


def _kept(error: BaseException, memo: _Memo) -> BaseException:
    known = memo.get(id(error))
    if known is not None:
        return known
    first = copied = _copied(error, memo)
    while (cause := error.__cause__) is not None:
        known = memo.get(id(cause))
        _set(copied, "__cause__", known or _copied(cause, memo))
        if known is not None:
            break
        error, copied = cause, memo[id(cause)]
    return first


def _copied(error: BaseException, memo: _Memo) -> BaseException:
    """Copy without calling anything of the error's class: its `__init__` may take other arguments than `args`."""
    kind: type[BaseException] = type(error)
    base: Any = next(each for each in kind.__mro__ if each.__module__ == "builtins")
    secret = {id(value) for name, value in vars(error).items() if name in _HOLDS_A_REQUEST}
    args: list[Any] = [_harmless(value, memo, secret=id(value) in secret) for value in error.args]
    if BaseExceptionGroup in kind.__mro__:
        group = cast("BaseExceptionGroup[BaseException]", error)
        args = [group.message, [_kept(each, memo) for each in group.exceptions]]
    copied: BaseException = base.__new__(kind, *args)
    memo[id(error)] = copied
    _set(copied, "args", tuple(args))
    for name in _fields(kind):
        value = getattr(error, name, None)
        if value is not None:
            with contextlib.suppress(AttributeError, TypeError):  # it cannot be set, and was by __new__
                _set(copied, name, _harmless(value, memo, secret=name in _HOLDS_A_REQUEST))
    for name, value in vars(error).items():
        vars(copied)[name] = _harmless(value, memo, secret=name in _HOLDS_A_REQUEST)
    notes: list[object] | None = vars(error).get("__notes__")
    if notes is not None:
        vars(copied)["__notes__"] = [note for note in notes if isinstance(note, str)]
    return copied


def _fields(kind: type[BaseException]) -> Iterator[str]:
    for each in kind.__mro__:
        for name, field in vars(each).items():
            # An AttributeError's `obj` is what lacks the attribute: it may be a response.
            if isinstance(field, _FIELDS) and not name.startswith("__") and name not in {"args", "obj"}:
                yield name


def _set(error: BaseException, name: str, value: object) -> None:
    object.__setattr__(error, name, value)  # an error may be a frozen dataclass


def _harmless(value: Any, memo: _Memo, *, secret: bool) -> Any:
    """Return what may be kept of an error's argument or attribute; of a secret one its URL and method at most."""
    if isinstance(value, BaseException):
        return _kept(value, memo)
    if isinstance(value, URL):
        return value.with_user(None).with_query(None).with_fragment(None) if value.absolute else value.with_query(None)
    fields = _names_of(value)
    if not _SECRET_FIELDS.isdisjoint(fields):
        kept_fields = {name: _harmless(getattr(value, name), memo, secret=False) for name in fields}
        kept_fields.update({name: {} if name == "headers" else None for name in _SECRET_FIELDS.intersection(fields)})
        return value._replace(**kept_fields)
    if secret or _holds_a_request(value):
        return None
    if type(value) in (list, tuple):
        items = cast("list[object]", value)
        return type(value)([None if _holds_a_request(item) else item for item in items])
    if type(value) is dict:
        named = cast("dict[object, object]", value)
        return {name: None if _holds_a_request(item) else item for name, item in named.items()}
    return value


def _names_of(value: object) -> tuple[str, ...]:
    """Return the field names of a named tuple; of all else none, whatever attributes it makes up."""
    is_tuple = issubclass(type(value), tuple)
    return cast("tuple[str, ...]", getattr(value, "_fields", ())) if is_tuple else ()


def _holds_a_request(value: object) -> bool:
    """Whether this looks like a request, a response or their headers, by whatever name it is held."""
    kind: type[object] = type(value)
    if issubclass(kind, tuple):
        return False
    return issubclass(kind, MultiMapping) or hasattr(kind, "request_info") or hasattr(kind, "headers")
