"""The options of a query: declared, defaulted, validated and merged here and nowhere else."""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypeAlias, TypedDict, TypeVar, Unpack, cast, overload

from querykit.context import AsyncFn, Fn, PlainFn
from querykit.keys import FrozenKey, QueryKey, check_key, freeze, starts_with
from querykit.retry import DelayRule, RetryPolicy, RetryRule
from querykit.state import UNSET, Skip, StaleTime, Unset

__all__ = ["DefaultOptions", "Options", "QueryOptions", "Seconds", "query_options"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

Seconds: TypeAlias = float | timedelta


class QueryOptions(TypedDict, total=False):
    """The options of a query. Times are in seconds, or `timedelta`s.

    Attributes:
        stale_time: the age from which data is asked for anew; `math.inf`: until invalidated; `"static"`: never;
            `"http"`: what the response's Cache-Control says, where the function lets the transport know its
            context, as `HttpTransport.query_fn` does.
        gc_time: how long an entry that nobody uses is kept; the longest that was ever given counts.
        retry: how often a transient failure is tried again, or `(failures, error) -> bool`, which decides alone.
        retry_delay: exact seconds, or `(failures, error) -> seconds`; else exponential backoff with full jitter.
        retry_on: error types that are retried besides the transient ones.
        timeout: for the whole fetch with its retries; None for none.
        stale_if_error: a caller whose refresh failed gets old data up to this age instead of the error.
        initial_data: what the entry has from its beginning, or a callable that returns it.
        initial_data_age: how old the initial data is.
        identity: the identity that the data belongs to, where the function does not name it (S3).
        tags: marks by which `invalidate_queries(tags=...)` finds the entry.
        meta: anything the query function wants to know.
        structural_sharing: whether equal parts of new data keep the old data's identity.
    """

    stale_time: Seconds | Literal["static", "http"]
    gc_time: Seconds
    retry: float | RetryRule
    retry_delay: Seconds | DelayRule | None
    retry_on: tuple[type[BaseException], ...]
    timeout: Seconds | None
    stale_if_error: Seconds | None
    initial_data: Any
    initial_data_age: Seconds
    identity: Hashable
    tags: Collection[Hashable]
    meta: Mapping[str, Any]
    structural_sharing: bool


class QueryDefaults(QueryOptions, total=False):
    """What may be a default: every option, and the query function."""

    fn: Fn[Any]


class DefaultOptions(TypedDict, total=False):
    """The client's defaults."""

    queries: QueryDefaults


DEFAULTS: Final[QueryOptions] = {
    "stale_time": 0.0,
    "gc_time": 300.0,
    "retry": 3,
    "retry_delay": None,
    "retry_on": (),
    "timeout": None,
    "stale_if_error": None,
    "initial_data": UNSET,
    "initial_data_age": 0.0,
    "identity": UNSET,
    "tags": (),
    "meta": MappingProxyType({}),
    "structural_sharing": True,
}


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """Every option with its value: what later code reads."""

    stale_time: StaleTime
    gc_time: float
    retry: RetryPolicy
    timeout: float | None
    stale_if_error: float | None
    initial_data: Any
    initial_data_age: float
    identity: Hashable
    tags: frozenset[Hashable]
    meta: Mapping[str, Any]
    structural_sharing: bool


def seconds(value: object, name: str) -> float:
    """Return a duration in seconds.

    Raises:
        TypeError: `value` is neither a number nor a `timedelta`.
        ValueError: it is negative, or not a number.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds or a timedelta, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is 0 or more seconds, not {value!r}")
    return float(value)


def _stale_time(value: object, name: str) -> StaleTime:
    if isinstance(value, str):
        if value in {"static", "http"}:
            return cast("StaleTime", value)
        raise ValueError(f'{name} is a number of seconds, a timedelta, "static" or "http", not {value!r}')
    return seconds(value, name)


def _optional_seconds(value: object, name: str) -> float | None:
    return None if value is None else seconds(value, name)


def _retry(value: object, name: str) -> float | RetryRule:
    if value is True:
        return math.inf
    if callable(value):
        return cast("RetryRule", value)
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, a bool or a callable (failures, error) -> bool, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is 0 or more, not {value!r}")
    return float(value)


def _retry_delay(value: object, name: str) -> float | DelayRule | None:
    return cast("DelayRule", value) if callable(value) else _optional_seconds(value, name)


def _error_types(value: object, name: str) -> tuple[type[BaseException], ...]:
    types = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        raise TypeError(f"{name} is a tuple of exception classes, not {value!r}")
    return cast("tuple[type[BaseException], ...]", types)


def _hashable(value: object, name: str) -> Hashable:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name} is a hashable value, not a {type(value).__name__}") from None
    return value


def tag_set(value: object, name: str = "tags") -> frozenset[Hashable]:
    """Return the tags as a set.

    Raises:
        TypeError: `value` is a string, or no collection of hashable values.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise TypeError(f"{name} is a list or set of hashable tags, not {value!r}")
    return frozenset(_hashable(tag, "a tag") for tag in cast("Collection[object]", value))


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, not {value!r}")
    return cast("Mapping[str, Any]", value)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")
    return value


def _anything(value: object, name: str) -> object:
    del name
    return value


_CHECKS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "stale_time": _stale_time,
    "gc_time": seconds,
    "retry": _retry,
    "retry_delay": _retry_delay,
    "retry_on": _error_types,
    "timeout": _optional_seconds,
    "stale_if_error": _optional_seconds,
    "initial_data": _anything,
    "initial_data_age": seconds,
    "identity": _hashable,
    "tags": tag_set,
    "meta": _mapping,
    "structural_sharing": _flag,
}


def check_options(options: Mapping[str, Any], *, defaults: bool = False) -> None:
    """Raise what is wrong with `options`: an unknown name, a wrong type, an impossible value.

    Raises:
        TypeError: a name is unknown or a value is of a wrong type.
        ValueError: a value is impossible, such as a negative time.
    """
    check_names([name for name in options if not (defaults and name == "fn")])
    if "fn" in options:
        check_fn(options["fn"])
    _checked(options)


def check_names(options: Iterable[str]) -> None:
    """Raise a TypeError for a name that is no query option."""
    for name in options:
        if name not in _CHECKS:
            raise TypeError(f"unknown query option {name!r}; there are {', '.join(_CHECKS)}")


def check_fn(fn: object) -> None:
    """Raise a TypeError if `fn` is no query function."""
    if not callable(fn) and not isinstance(fn, (Skip, Unset)):
        raise TypeError(f"a query function is callable, not {fn!r}: pass the function itself, not its result")


def query_defaults(given: object) -> QueryDefaults:
    """Return the part of a client's default options that is for queries.

    Raises:
        TypeError: it is no mapping, or it has another part.
    """
    parts = _mapping(given, "default_options")
    if unknown := parts.keys() - {"queries"}:
        raise TypeError(f"default_options has the part 'queries', not {sorted(map(repr, unknown))}")
    return cast("QueryDefaults", _mapping(parts.get("queries", {}), "default_options['queries']"))


class Defaults:
    """A client's default options: for all queries, and by key prefix.

    Later layers win: `DEFAULTS`, the client's, the matching prefixes in the order of registration, the call's.
    """

    def __init__(self, options: QueryDefaults) -> None:
        check_options(options, defaults=True)
        self._base: QueryDefaults = {**options}
        self._prefixes: dict[FrozenKey, QueryDefaults] = {}
        self._resolved = _assemble(_checked(self._base))

    def set(self, prefix: QueryKey, options: QueryDefaults) -> None:
        """Set the defaults of the keys that begin with `prefix`, in place of those set for it before."""
        check_options(options, defaults=True)
        self._prefixes[freeze(prefix)] = {**options}

    def get(self, key: FrozenKey) -> QueryDefaults:
        """Return what is set for `key`, the client's defaults included."""
        merged: QueryDefaults = {**self._base}
        for prefix, options in self._prefixes.items():
            if starts_with(key, prefix):
                merged.update(options)
        return merged

    def resolve(self, key: FrozenKey, given: Mapping[str, Any]) -> ResolvedOptions:
        """Return every option for one call on `key`.

        Raises:
            TypeError: an option is unknown or of a wrong type.
            ValueError: an option's value is impossible.
        """
        if not given and not self._prefixes:
            return self._resolved
        check_names(given)
        return _assemble(_checked({**self.get(key), **given}))

    def fn(self, key: FrozenKey) -> Fn[Any] | None:
        """Return the default query function for `key`, if there is one."""
        return self.get(key).get("fn")


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHECKS[name](value, name) for name, value in given.items() if name != "fn"}


def _assemble(given: dict[str, Any]) -> ResolvedOptions:
    values: dict[str, Any] = {**DEFAULTS, **given}
    values["tags"] = frozenset(values["tags"])
    policy = RetryPolicy(values.pop("retry"), values.pop("retry_delay"), values.pop("retry_on"))
    return ResolvedOptions(retry=policy, **values)


def overlaid(base: ResolvedOptions, new: ResolvedOptions, names: Collection[str]) -> ResolvedOptions:
    """Return `base` with the options of these names as they are in `new`."""
    policy = RetryPolicy(
        (new if "retry" in names else base).retry.retry,
        (new if "retry_delay" in names else base).retry.delay,
        (new if "retry_on" in names else base).retry.retry_on,
    )
    others = [field.name for field in fields(base) if field.name != "retry" and field.name in names]
    return replace(base, retry=policy, **{name: getattr(new, name) for name in others})


@dataclass(frozen=True, slots=True, eq=False)
class Options(Generic[T_co, R_co]):
    """A key with its function and options as one value: see `query_options`.

    Attributes:
        key: the query key.
        fn: the query function.
        options: the options given.
        selector: what makes the result from the data, if `select` was used.
    """

    key: QueryKey
    fn: Fn[T_co] | Skip
    options: QueryOptions
    selector: Callable[[Any], R_co] | None = None

    def select(self, f: Callable[[R_co], S]) -> "Options[T_co, S]":
        """Return the same query seen through `f`: the cache keeps the data, a caller gets `f(data)`.

        Example:
            >>> names = query_options(("pods",), lambda: ["b", "a"]).select(sorted)
            >>> names.key
            ('pods',)
        """
        if not callable(f):
            raise TypeError(f"select takes a callable of the data, not {f!r}")
        inner = self.selector
        chained: Callable[[Any], S] = f if inner is None else lambda data: f(inner(data))
        return Options(self.key, self.fn, self.options, chained)


@overload
def query_options(key: QueryKey, fn: AsyncFn[T], **options: Unpack[QueryOptions]) -> Options[T, T]: ...
@overload
def query_options(key: QueryKey, fn: PlainFn[T], **options: Unpack[QueryOptions]) -> Options[T, T]: ...
def query_options(key: QueryKey, fn: Fn[Any], **options: Unpack[QueryOptions]) -> Options[Any, Any]:
    """Put a key, its function and options into one value, so that the data's type flows from the function.

    Args:
        key: the query key.
        fn: the query function.
        options: see `QueryOptions`.

    Raises:
        TypeError: the key is no tuple, `fn` is not callable, or an option is unknown or of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> me = query_options(("me",), lambda: {"name": "ada"}, stale_time=30)
        >>> me.key
        ('me',)
    """
    check_key(key)
    check_fn(fn)
    check_options(options)
    return Options(key, fn, options)
