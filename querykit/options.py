"""The options of a query: declared, defaulted, validated and merged here and nowhere else."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, Unpack, overload

from querykit.checks import (
    RefetchOn,
    Seconds,
    anything,
    error_types,
    flag,
    hashable,
    hint,
    interval,
    mapping,
    network_mode,
    news,
    optional_seconds,
    or_rule,
    refetch_on,
    retry,
    retry_delay,
    seconds,
    stale_time,
    tags,
)
from querykit.context import AsyncFn, Fn, PlainFn
from querykit.keys import FrozenKey, QueryKey, check_key
from querykit.mutation_options import MutationDefaults
from querykit.prefix_defaults import PrefixDefaults
from querykit.retry import DelayRule, RetryPolicy, RetryRule
from querykit.state import UNSET, NetworkMode, Skip, StaleTime, Unset

__all__ = ["DefaultOptions", "ObserverOptions", "Options", "QueryOptions", "query_options"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


StaleTimeOption = Seconds | Literal["static", "http"] | Callable[[Any], Seconds | Literal["static", "http"]]
RefetchOnOption = RefetchOn | Callable[[Any], RefetchOn]


class CachedOptions(TypedDict, total=False):
    """The options of a query but `stale_time`, which `cached` wants to be said: see `QueryOptions`."""

    gc_time: Seconds
    retry: float | RetryRule
    retry_delay: Seconds | DelayRule | None
    retry_on: tuple[type[BaseException], ...]
    timeout: Seconds | None
    error_time: Seconds
    stale_if_error: Seconds | None
    network_mode: NetworkMode
    initial_data: Any
    initial_data_age: Seconds
    identity: Hashable
    tags: Collection[Hashable] | Callable[[Any], Collection[Hashable]]
    meta: Mapping[str, Any]
    structural_sharing: bool


class QueryOptions(CachedOptions, total=False):
    """The options of a query. Times are in seconds, or `timedelta`s.

    Attributes:
        stale_time: the age from which data is asked for anew; `math.inf`: until invalidated; `"static"`: never;
            `"http"`: what the response's Cache-Control says, where the function lets the transport know its
            context, as `HttpTransport.query_fn` does; or a callable of the query that returns one of these.
        gc_time: how long an entry that nobody uses is kept; the longest that was ever given counts.
        retry: how often a transient failure is tried again, or `(failures, error) -> bool`, which decides alone.
        retry_delay: exact seconds, or `(failures, error) -> seconds`; else exponential backoff with full jitter.
        retry_on: error types that are retried besides the transient ones.
        timeout: for the whole fetch with its retries; None for none.
        error_time: for how long a failure is answered from the cache, instead of calling again.
        stale_if_error: a caller whose refresh failed gets old data up to this age instead of the error, invalidated
            or not.
        network_mode: `"online"` fetches only while `client.online` is; `"always"` does not ask.
        initial_data: what the entry has from its beginning, or a callable that returns it.
        initial_data_age: how old the initial data is.
        identity: the identity that the data belongs to, where the function does not name it (S3).
        tags: marks by which `invalidate_queries(tags=...)` finds the entry; or a callable of its data that
            returns them.
        meta: anything the query function wants to know.
        structural_sharing: whether equal parts of new data keep the old data's identity.
    """

    stale_time: StaleTimeOption


class ObserverOptions(QueryOptions, total=False):
    """The options of an observer: those of its query, and how it follows it.

    A callable gets the query. One that raises is reported, and counts as having said no.

    Attributes:
        enabled: whether it fetches by itself; `refetch()` works in any case.
        refetch_interval: fetch again each so many seconds, or a callable that says when; None for never.
        refetch_interval_in_background: also while `client.focus` says that nobody looks.
        refetch_on_mount: whether the first subscription fetches stale data again; `"always"`: fresh data too.
        refetch_on_focus: the same for the moment when somebody looks again.
        refetch_on_reconnect: the same for the moment when the client is online again; by default not where
            `network_mode` is `"always"`.
        retry_on_mount: whether the first subscription fetches a query again whose first fetch has failed.
        placeholder_data: shown, and never cached, while there is no data: a value, or a callable of the data and
            the query that were observed before a change of key, such as `keep_previous_data`. None is none.
        notify_on: the names of the result's fields and flags whose change is told, or `(before, after) -> bool`
            with the result that was told last and the present one; None for every field. If it raises, that is
            reported, and the result is told.
    """

    enabled: bool | Callable[[Any], bool]
    refetch_interval: Seconds | Callable[[Any], Seconds | None] | None
    refetch_interval_in_background: bool
    refetch_on_mount: RefetchOnOption
    refetch_on_focus: RefetchOnOption
    refetch_on_reconnect: RefetchOnOption
    retry_on_mount: bool
    placeholder_data: Any
    notify_on: Collection[str] | Callable[[Any, Any], bool] | None


class QueryDefaults(ObserverOptions, total=False):
    """What may be a default: every option, and the query function."""

    fn: Fn[Any]


class DefaultOptions(TypedDict, total=False):
    """The client's defaults."""

    queries: QueryDefaults
    mutations: MutationDefaults


DEFAULTS: Final[ObserverOptions] = {
    "stale_time": 0.0,
    "gc_time": 300.0,
    "retry": 3,
    "retry_delay": None,
    "retry_on": (),
    "timeout": None,
    "error_time": 0.0,
    "stale_if_error": None,
    "network_mode": "online",
    "initial_data": UNSET,
    "initial_data_age": 0.0,
    "identity": UNSET,
    "tags": frozenset(),
    "meta": MappingProxyType({}),
    "structural_sharing": True,
    "enabled": True,
    "refetch_interval": None,
    "refetch_interval_in_background": False,
    "refetch_on_mount": True,
    "refetch_on_focus": True,
    "retry_on_mount": True,
    "placeholder_data": None,
    "notify_on": None,
}


@dataclass(frozen=True, slots=True)
class ResolvedOptions:
    """Every option with its value: what later code reads."""

    stale_time: StaleTime | Callable[[Any], object]
    gc_time: float
    retry: RetryPolicy
    timeout: float | None
    error_time: float
    stale_if_error: float | None
    network_mode: NetworkMode
    initial_data: Any
    initial_data_age: float
    identity: Hashable
    tags: frozenset[Hashable] | Callable[[Any], Collection[Hashable]]
    meta: Mapping[str, Any]
    structural_sharing: bool
    enabled: bool | Callable[[Any], object]
    refetch_interval: float | Callable[[Any], object] | None
    refetch_interval_in_background: bool
    refetch_on_mount: RefetchOn | Callable[[Any], object]
    refetch_on_focus: RefetchOn | Callable[[Any], object]
    refetch_on_reconnect: RefetchOn | Callable[[Any], object]
    retry_on_mount: bool
    placeholder_data: Any
    notify_on: frozenset[str] | Callable[[Any, Any], bool] | None


_CHECKS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "stale_time": or_rule(stale_time),
    "gc_time": seconds,
    "retry": retry,
    "retry_delay": retry_delay,
    "retry_on": error_types,
    "timeout": optional_seconds,
    "error_time": seconds,
    "stale_if_error": optional_seconds,
    "network_mode": network_mode,
    "initial_data": anything,
    "initial_data_age": seconds,
    "identity": hashable,
    "tags": tags,
    "meta": mapping,
    "structural_sharing": flag,
    "enabled": or_rule(flag),
    "refetch_interval": or_rule(interval),
    "refetch_interval_in_background": flag,
    "refetch_on_mount": or_rule(refetch_on),
    "refetch_on_focus": or_rule(refetch_on),
    "refetch_on_reconnect": or_rule(refetch_on),
    "retry_on_mount": flag,
    "placeholder_data": anything,
    "notify_on": news,
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
            raise TypeError(f"unknown query option {name!r}; {hint(name, _CHECKS)}")


def check_fn(fn: object) -> None:
    """Raise a TypeError if `fn` is no query function."""
    if not callable(fn) and not isinstance(fn, (Skip, Unset)):
        raise TypeError(f"a query function is callable, not {fn!r}: pass the function itself, not its result")


def part_of(given: object, name: str) -> Mapping[str, Any]:
    """Return one part of a client's default options: that for queries, or for mutations.

    Raises:
        TypeError: it is no mapping, or it has parts that there are not.
    """
    parts = mapping({} if given is None else given, "default_options")
    if unknown := parts.keys() - DefaultOptions.__annotations__.keys():
        known = ", ".join(map(repr, DefaultOptions.__annotations__))
        raise TypeError(f"default_options has the parts {known}, not {', '.join(sorted(map(repr, unknown)))}")
    return mapping(parts.get(name, {}), f"default_options[{name!r}]")


# Options that a call gives again and again are resolved once; what may be somebody's data is not kept for that.
KNOWN: Final = 64
_PLAIN: Final = frozenset({int, float, bool, str, timedelta, type(None)})
_OF_DATA: Final = frozenset({"initial_data", "placeholder_data", "identity"})


class Defaults(PrefixDefaults[QueryDefaults]):
    """A client's default options for queries.

    Later layers win: `DEFAULTS`, the client's, the matching prefixes in the order of registration, the call's.
    """

    def __init__(self, options: QueryDefaults) -> None:
        super().__init__(options, lambda given: check_options(given, defaults=True))
        self._resolved = _assemble(_checked(options))
        self._known: dict[object, ResolvedOptions] = {}

    def resolve(self, key: FrozenKey, given: Mapping[str, Any]) -> ResolvedOptions:
        """Return every option for one call on `key`.

        Raises:
            TypeError: an option is unknown or of a wrong type.
            ValueError: an option's value is impossible.
        """
        if self.differ_by_key:
            check_names(given)
            return _assemble(_checked({**self.get(key), **given}))
        if not given:
            return self._resolved
        plain = _plain(given)
        known = None if plain is None else self._known.get(plain)
        if known is None:
            check_names(given)
            known = _assemble(_checked({**self.get(key), **given}))
            if plain is not None and len(self._known) < KNOWN:
                self._known[plain] = known
        return known

    def fn(self, key: FrozenKey) -> Fn[Any] | None:
        """Return the default query function for `key`, if there is one."""
        return self.get(key).get("fn")


def _plain(given: Mapping[str, object]) -> tuple[object, ...] | None:
    """Return options to look up by, if all may be kept; their types tell True and 1 apart."""
    parts: list[object] = []
    for name, value in given.items():
        kind: type[object] = type(value)
        if kind not in _PLAIN or name in _OF_DATA:
            return None
        parts += (name, kind, value)
    return tuple(parts)


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHECKS[name](value, name) for name, value in given.items() if name != "fn"}


def _assemble(given: dict[str, Any]) -> ResolvedOptions:
    values: dict[str, Any] = {**DEFAULTS, **given}
    values.setdefault("refetch_on_reconnect", values["network_mode"] != "always")
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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
    options: ObserverOptions
    selector: Callable[[Any], R_co] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.key!r}>"

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
def query_options(key: QueryKey, fn: AsyncFn[T], **options: Unpack[ObserverOptions]) -> Options[T, T]: ...
@overload
def query_options(key: QueryKey, fn: PlainFn[T], **options: Unpack[ObserverOptions]) -> Options[T, T]: ...
def query_options(key: QueryKey, fn: Fn[Any], **options: Unpack[ObserverOptions]) -> Options[Any, Any]:
    """Put a key, its function and options into one value, so that the data's type flows from the function.

    Args:
        key: the query key.
        fn: the query function.
        options: see `ObserverOptions`.

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
