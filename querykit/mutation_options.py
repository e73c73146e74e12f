"""The options of a mutation: declared, defaulted and validated here and nowhere else."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, TypedDict, TypeVar, Unpack, overload

from querykit.callables import called, required_parameters
from querykit.checks import Seconds, error_types, hashable, mapping, network_mode, retry, retry_delay, seconds
from querykit.context import ContextClient
from querykit.keys import QueryKey, check_key, freeze
from querykit.retry import DelayRule, RetryPolicy, RetryRule
from querykit.state import UNSET, NetworkMode, Unset

__all__ = [
    "MutationCallbacks",
    "MutationContext",
    "MutationDefaults",
    "MutationOptions",
    "MutationSpec",
    "mutation_options",
]

T = TypeVar("T")
V = TypeVar("V")
T_co = TypeVar("T_co", covariant=True)
V_contra = TypeVar("V_contra", contravariant=True)


class MutationContext:
    """What a mutation's function and callbacks may know of it.

    Attributes:
        value: what the mutation's `on_mutate` has returned.
    """

    __slots__ = ("_client", "_key", "_meta", "value")

    def __init__(self, client: ContextClient, key: QueryKey | None, meta: Mapping[str, Any]) -> None:
        self._client = client
        self._key = key
        self._meta = meta
        self.value: Any = None

    @property
    def client(self) -> ContextClient:
        """The client, as far as a mutation may use it."""
        return self._client

    @property
    def key(self) -> QueryKey | None:
        """The mutation's key, if it has one."""
        return self._key

    @property
    def meta(self) -> Mapping[str, Any]:
        """The mutation's `meta` option."""
        return self._meta

    def __repr__(self) -> str:
        return f"<MutationContext of {self._key!r}>"


AsyncMutationFn = (
    Callable[[], Awaitable[T]] | Callable[[V], Awaitable[T]] | Callable[[V, MutationContext], Awaitable[T]]
)
PlainMutationFn = Callable[[], T] | Callable[[V], T] | Callable[[V, MutationContext], T]
MutationFn = AsyncMutationFn[T, V] | PlainMutationFn[T, V]

OnMutate = Callable[[Any, MutationContext], object]
OnSuccess = Callable[[Any, Any, MutationContext], object]
OnError = Callable[[BaseException, Any, MutationContext], object]
OnSettled = Callable[[Any, BaseException | None, Any, MutationContext], object]

Invalidates = Collection[QueryKey] | Callable[[Any, Any], Collection[QueryKey]]
Updater = Callable[[Any], Any] | Callable[[Any, Any], Any]
Optimistic = Collection[tuple[QueryKey, Updater]] | Callable[[Any], Collection[tuple[QueryKey, Updater]]]


class MutationCallbacks(TypedDict, total=False):
    """What is called in a mutation's life, each plain or async and awaited in turn.

    Attributes:
        on_mutate: `(variables, ctx)`, before the function.
        on_success: `(data, variables, ctx)`, after it has returned.
        on_error: `(error, variables, ctx)`, after it, or a callback before, has raised.
        on_settled: `(data, error, variables, ctx)`, last in either case.
    """

    on_mutate: OnMutate | None
    on_success: OnSuccess | None
    on_error: OnError | None
    on_settled: OnSettled | None


class SharedOptions(MutationCallbacks, total=False):
    """The options that a mutation and the defaults have in common: see `MutationOptions`."""

    scope: Hashable
    invalidates: Invalidates
    optimistic: Optimistic
    retry: float | RetryRule
    retry_delay: Seconds | DelayRule | None
    retry_on: tuple[type[BaseException], ...]
    network_mode: NetworkMode
    gc_time: Seconds
    identity: Hashable
    meta: Mapping[str, Any]


class MutationDefaults(SharedOptions, total=False):
    """What may be a default: every option of a mutation but its key, and the function.

    Attributes:
        fn: what does it, with no argument, or with the variables, or with the variables and a `MutationContext`.
    """

    fn: MutationFn[Any, Any]


class MutationOptions(SharedOptions, total=False):
    """The options of a mutation, besides its callbacks: see `MutationCallbacks`.

    Attributes:
        key: by which it is found, and by which default options are.
        scope: mutations of one scope run one after the other, in the order in which they were called.
        invalidates: the keys, or a callable of data and variables that returns them, that are invalidated by
            prefix when the function has succeeded.
        optimistic: `(key, updater)` pairs, or a callable of the variables that returns them. An updater is a
            pure function of the data, or of the data and the variables: what it returns is seen until a fetch
            has brought the real thing, and no longer if the mutation fails. A fetch may show the change before
            the mutation has ended: let it add nothing that is there already.
        retry: how often a transient failure is tried again, or `(failures, error) -> bool`, which decides alone.
        retry_delay: exact seconds, or `(failures, error) -> seconds`; else exponential backoff with full jitter.
        retry_on: error types that are retried besides the transient ones.
        network_mode: `"online"` runs only while `client.online` is; `"always"` does not ask.
        gc_time: for how many seconds a mutation that has ended stays in the mutation cache.
        identity: the identity that it belongs to, where its function does not name it, or may have to wait for
            its turn or the network before it does: one that is forgotten while it waits is not run (S3).
        meta: anything that the function and the callbacks want to know.
    """

    key: QueryKey


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedMutation:
    """A function, if there is one, and every option with its value."""

    fn: Callable[..., Any] | Unset
    key: QueryKey | None
    on_mutate: Callable[..., object] | None
    on_success: Callable[..., object] | None
    on_error: Callable[..., object] | None
    on_settled: Callable[..., object] | None
    scope: Hashable
    invalidates: Any
    optimistic: Any
    retry: RetryPolicy
    network_mode: NetworkMode
    gc_time: float
    identity: Hashable
    meta: Mapping[str, Any]


_DEFAULTS: Final[Mapping[str, Any]] = {
    "fn": UNSET,
    "key": None,
    "on_mutate": None,
    "on_success": None,
    "on_error": None,
    "on_settled": None,
    "scope": None,
    "invalidates": (),
    "optimistic": (),
    "retry": 0,
    "retry_delay": None,
    "retry_on": (),
    "network_mode": "online",
    "gc_time": 300.0,
    "identity": UNSET,
    "meta": MappingProxyType({}),
}


def _callback(value: object, name: str) -> object:
    if value is not None and not callable(value):
        raise TypeError(f"{name} is a callable, not {value!r}")
    return value


def check_mutation_fn(fn: object, name: str = "fn") -> int:
    """Return how many arguments a mutation function takes: none, the variables, the context as well.

    Raises:
        TypeError: it cannot be called, or needs more.
    """
    if not callable(fn):
        raise TypeError(f"a mutation's {name} is callable, not {fn!r}: pass the function itself, not its result")
    positional, named = required_parameters(fn)
    if positional > 2 or named:
        raise TypeError(
            f"a mutation function takes no argument, or the variables, or the variables and a MutationContext, and "
            f"{called(fn)} needs {positional} by position and {named} by name: put what it needs into the variables"
        )
    return positional


def _fn(value: object, name: str) -> object:
    check_mutation_fn(value, name)
    return value


def _key(value: object, what: str) -> QueryKey:
    key = check_key(value, what)
    freeze(key)  # it can be stored
    return key


def _is_list(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))


def _is_pair(value: Any) -> bool:
    return type(value) is tuple and value.__len__() == 2  # pyright loses its items by len()


def keys(value: Any, name: str = "invalidates") -> list[QueryKey]:
    """Return a list of keys.

    Raises:
        TypeError: it is no collection of tuples.
    """
    if not _is_list(value):
        raise TypeError(f"{name} is a list of keys, such as [('pods', cluster)], not {value!r}")
    return [_key(key, "query key") for key in value]


def pairs(value: Any, name: str = "optimistic") -> list[tuple[QueryKey, Callable[..., Any]]]:
    """Return a list of keys, each with the updater of its data.

    Raises:
        TypeError: it is no collection of such pairs.
    """
    if not _is_list(value):
        raise TypeError(f"{name} is a list of (key, updater) pairs, not {value!r}")
    for pair in value:
        if not _is_pair(pair):
            raise TypeError(f"{name} is a list of (key, updater) pairs, and {pair!r} is none")
    return [(_key(key, "query key"), _updater(updater)) for key, updater in value]


def _updater(value: object) -> Callable[..., Any]:
    if not callable(value) or required_parameters(value) not in {(0, 0), (1, 0), (2, 0)}:
        raise TypeError(f"an updater is a function of the data, or of the data and the variables, not {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"an updater is a plain function, called whenever the data changes, not the async {value!r}")
    return value


def _or_rule(check: Callable[[object, str], object]) -> Callable[[object, str], object]:
    return lambda value, name: value if callable(value) else check(value, name)


_CHECKS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "fn": _fn,
    "key": lambda value, _name: _key(value, "mutation key"),
    "on_mutate": _callback,
    "on_success": _callback,
    "on_error": _callback,
    "on_settled": _callback,
    "scope": hashable,
    "invalidates": _or_rule(keys),
    "optimistic": _or_rule(pairs),
    "retry": retry,
    "retry_delay": retry_delay,
    "retry_on": error_types,
    "network_mode": network_mode,
    "gc_time": seconds,
    "identity": hashable,
    "meta": mapping,
}


def checked(given: Mapping[str, Any], *, allowed: Collection[str] = tuple(_CHECKS)) -> dict[str, Any]:
    """Return options as later code reads them.

    Raises:
        TypeError: a name is unknown, or a value is of a wrong type.
        ValueError: a value is impossible, such as a negative time.
    """
    for name in given:
        if name not in allowed:
            raise TypeError(f"unknown mutation option {name!r}; there are {', '.join(allowed)}")
    return {name: _CHECKS[name](value, name) for name, value in given.items()}


def check_defaults(options: Mapping[str, Any]) -> None:
    """Raise what is wrong with default options."""
    checked(options, allowed=[name for name in _CHECKS if name != "key"])


def checked_callbacks(given: object) -> Mapping[str, Any]:
    """Return a client's own callbacks.

    Raises:
        TypeError: they are no mapping, or one is unknown or cannot be called.
    """
    callbacks = mapping({} if given is None else given, "mutation_callbacks")
    return {**checked(callbacks, allowed=tuple(MutationCallbacks.__annotations__))}


def resolved(given: Mapping[str, Any]) -> ResolvedMutation:
    """Return every option of a mutation, checked."""
    values: dict[str, Any] = {**_DEFAULTS, **checked(given)}
    policy = RetryPolicy(values.pop("retry"), values.pop("retry_delay"), values.pop("retry_on"))
    return ResolvedMutation(retry=policy, **values)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MutationSpec(Generic[T_co, V_contra]):
    """A mutation function and its options as one value: see `mutation_options`.

    Attributes:
        fn: the function.
        options: the options given.
    """

    fn: MutationFn[T_co, V_contra]
    options: MutationOptions

    def __repr__(self) -> str:
        return f"<MutationSpec of {called(self.fn)}>"

    def joined(self, more: Mapping[str, Any]) -> tuple[object, dict[str, Any]]:
        """Return the function, and the options with `more` of them."""
        return self.fn, {**self.options, **more}


@overload
def mutation_options(fn: AsyncMutationFn[T, V], **options: Unpack[MutationOptions]) -> MutationSpec[T, V]: ...
@overload
def mutation_options(fn: PlainMutationFn[T, V], **options: Unpack[MutationOptions]) -> MutationSpec[T, V]: ...
def mutation_options(fn: MutationFn[Any, Any], **options: Unpack[MutationOptions]) -> MutationSpec[Any, Any]:
    """Put a mutation function and its options into one value, so that types flow from the function.

    Args:
        fn: async or plain; takes no argument, or the variables, or the variables and a `MutationContext`.
        options: see `MutationOptions`.

    Raises:
        TypeError: `fn` is not such a function, or an option is unknown or of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> def rename(name: str) -> str:
        ...     return name.title()
        >>> mutation_options(rename, key=("rename",)).options["key"]
        ('rename',)
    """
    check_mutation_fn(fn)
    checked(options, allowed=[name for name in _CHECKS if name != "fn"])
    return MutationSpec(fn, options)
