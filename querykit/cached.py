"""A function whose calls are queries: `@client.cached`, and `@cached` for who has no client yet."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import WRAPPER_ASSIGNMENTS
from types import MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from querykit.asking import AskingMethods
from querykit.bulk import BulkMethods
from querykit.callables import called
from querykit.checks import or_rule, stale_time as checked_stale_time
from querykit.data import DataMethods
from querykit.keys import QueryKey, freeze
from querykit.observation import Observation
from querykit.options import CachedOptions, ObserverOptions, Options, QueryOptions, StaleTimeOption, check_options
from querykit.pending import Pending

__all__ = ["Cached", "CachedDecorator", "CachedMethods", "HasQueryKey", "UnboundCached", "UnboundDecorator", "cached"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
S = TypeVar("S", bound="HasQueryKey")

KeyRule = Callable[..., QueryKey]


class HasQueryKey(Protocol):
    """What an object has whose methods are cached."""

    @property
    def client(self) -> "CachedMethods":
        """The client in whose cache their data is."""
        ...

    @property
    def __query_key__(self) -> QueryKey:
        """What stands for the object in keys."""
        ...


_SIMPLE: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_ALSO_SIMPLE: Final = inspect.Parameter.KEYWORD_ONLY


class _Rule:
    """What a decorator was told, with the function that it was put on: how a call becomes a query.

    Attributes:
        defaults: by the number of arguments given, which are all by position, the defaults of the others.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        key: KeyRule | None,
        options: QueryOptions,
        *,
        of_instance: bool = False,
    ) -> None:
        self.fn: Final = fn
        self.name: Final = name
        self.key: Final = key
        self.options: Final = options
        self.called: Final[str] = called(fn)
        signature = inspect.signature(fn)
        parameters = list(signature.parameters.values())[of_instance:]
        self.signature: Final = signature.replace(parameters=parameters)
        self.metadata: Final[dict[str, Any]] = {
            **getattr(fn, "__dict__", {}),
            **{name: getattr(fn, name) for name in WRAPPER_ASSIGNMENTS if hasattr(fn, name)},
            "__signature__": self.signature,
            "__wrapped__": fn,
        }
        self.defaults: Final[dict[int, tuple[object, ...]]] = {}
        self._others: Final[dict[int, tuple[dict[str, object], frozenset[str]]]] = {}
        if all(one.kind is _SIMPLE or (one.kind is _ALSO_SIMPLE and not key) for one in parameters):
            self._read(parameters)

    def _read(self, parameters: list[inspect.Parameter]) -> None:
        """Note what there is to know of a call by the number of arguments by position: `inspect` takes much longer."""
        for given in range(sum(one.kind is _SIMPLE for one in parameters) + 1):
            others = {one.name: one.default for one in parameters[given:]}
            required = frozenset(name for name, default in others.items() if default is inspect.Parameter.empty)
            self._others[given] = others, required
            if not required and self.key is None:
                self.defaults[given] = tuple(others.values())

    def parts(self, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, ...]:
        """Return the key parts of one call."""
        known = self._others.get(len(args))
        if known is not None and known[1] <= kwargs.keys() <= known[0].keys():
            values = args + tuple({**known[0], **kwargs}.values())
            if self.key is None:
                return values
            return self._checked(self.key(*values))
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.called}(): {error}") from None
        bound.apply_defaults()
        if self.key is not None:
            return self._checked(self.key(*bound.args, **bound.kwargs))
        return tuple(bound.arguments.values())

    def _checked(self, parts: object) -> tuple[object, ...]:
        if not isinstance(parts, tuple):
            raise TypeError(f"key= of {self.called} returns a tuple of key parts, not {parts!r}")
        return cast("tuple[object, ...]", parts)


class Cached(Generic[P, T]):
    """A function bound to a client: calling it asks the cache. See `QueryClient.cached`.

    What takes the function's arguments means the query of exactly these.
    """

    def __init__(
        self, client: "CachedMethods", rule: _Rule, instance: object = None, stands_for: QueryKey = ()
    ) -> None:
        self.__dict__.update(rule.metadata)
        self._client: Final = client
        self._rule: Final = rule
        self._fn: Final[Callable[..., Any]] = rule.fn if instance is None else MethodType(rule.fn, instance)
        self._prefix: Final[QueryKey] = (rule.name, *stands_for)

    def __repr__(self) -> str:
        return f"<cached {self._rule.called} as {self._prefix!r}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Return the data, as `client.query` does: from the cache if it is fresh, else by calling the function."""
        fn: Callable[..., T] = self._fn
        return self._client.query(self._key(args, kwargs), lambda: fn(*args, **kwargs), **self._rule.options)

    def key(self, /, *args: P.args, **kwargs: P.kwargs) -> QueryKey:
        """Return the query key of a call with these arguments."""
        return self._key(args, kwargs)

    def options(self, /, *args: P.args, **kwargs: P.kwargs) -> Options[T, T]:
        """Return the call as options, for the client's methods and for observers."""
        fn: Callable[..., T] = self._fn
        options = cast("ObserverOptions", self._rule.options)
        return Options(self._key(args, kwargs), lambda: fn(*args, **kwargs), options)

    def get(self, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return the data as it stands in the cache, or None; nothing is fetched."""
        data: T | None = self._client.get_query_data(self._key(args, kwargs))
        return data

    def prefetch(self, /, *args: P.args, **kwargs: P.kwargs) -> Pending:
        """Fetch what is not fresh, beginning now: see `QueryClient.prefetch`."""
        return self._client.prefetch(self.options(*args, **kwargs))

    def observe(self, /, *args: P.args, **kwargs: P.kwargs) -> Observation[T]:
        """Follow the data: see `QueryClient.observe`."""
        return self._client.observe(self.options(*args, **kwargs))

    @overload
    def invalidate(self, /) -> Pending: ...
    @overload
    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> Pending: ...
    def invalidate(self, /, *args: Any, **kwargs: Any) -> Pending:
        """Flag the query of these arguments as out of date; without any argument those of all calls."""
        if args or kwargs:
            return self._client.invalidate_queries(self._key(args, kwargs), exact=True)
        return self._client.invalidate_queries(self._prefix)

    @overload
    def remove(self, /) -> Pending: ...
    @overload
    def remove(self, /, *args: P.args, **kwargs: P.kwargs) -> Pending: ...
    def remove(self, /, *args: Any, **kwargs: Any) -> Pending:
        """Take the query of these arguments out of the cache; without any argument those of all calls."""
        if args or kwargs:
            return self._client.remove_queries(self._key(args, kwargs), exact=True)
        return self._client.remove_queries(self._prefix)

    def _key(self, args: tuple[object, ...], kwargs: dict[str, object]) -> QueryKey:
        rule = self._rule
        defaults = None if kwargs else rule.defaults.get(len(args))
        key = self._prefix + (rule.parts(args, kwargs) if defaults is None else args + defaults)
        try:
            hash(key)
        except TypeError:  # a part that is frozen by value, or cannot be
            try:
                freeze(key)
            except TypeError as error:
                raise TypeError(f"an argument of {self._rule.called}: {error}; key= says what does") from None
        return key


class UnboundCached(Generic[P, T]):
    """A cached function that has no client yet: see `cached`."""

    def __init__(self, rule: _Rule) -> None:
        self.__dict__.update(rule.metadata)
        self._rule = rule
        self._method: _Rule | None = None

    def __repr__(self) -> str:
        return f"<unbound cached {self._rule.called}>"

    def bind(self, client: "CachedMethods") -> Cached[P, T]:
        """Return the function as one that asks this client's cache.

        Raises:
            TypeError: `client` is no `QueryClient`, or the function is a method.
        """
        if not isinstance(client, CachedMethods):
            raise TypeError(f"{self._rule.called} is bound to a QueryClient, not to {client!r}")
        if next(iter(self._rule.signature.parameters), None) == "self":
            raise TypeError(
                f"{self._rule.called} is a method, and `self` is no key part: decorate it with querykit.cached, "
                "and call it on an instance, which has a `client` and a `__query_key__`"
            )
        return Cached(client, self._rule)

    if not TYPE_CHECKING:  # a checker knows already that it cannot be called

        def __call__(self, *args: object, **kwargs: object) -> NoReturn:
            """Refuse: it does not know whose cache to ask."""
            del args, kwargs
            raise TypeError(f"{self._rule.called} has no client yet: call what .bind(client) returns")

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self: "UnboundCached[Concatenate[S, Q], T]", instance: S, owner: type, /) -> Cached[Q, T]: ...
    def __get__(self, instance: Any, owner: type, /) -> Any:
        """Return the method of an instance, bound to the client that the instance has."""
        if instance is None:
            return self
        if self._method is None:
            rule = self._rule
            self._method = _Rule(rule.fn, rule.name, rule.key, rule.options, of_instance=True)
        called = self._rule.called
        client = getattr(instance, "client", None)
        if not isinstance(client, CachedMethods):
            raise TypeError(
                f"{called} is cached by the client of its instance: give {owner.__name__} "
                f"a `client`, a QueryClient, which is {client!r}"
            )
        stands_for = getattr(instance, "__query_key__", None)
        if not isinstance(stands_for, tuple):
            raise TypeError(
                f"{called} is cached by what stands for its instance in keys: give {owner.__name__} "
                f"a `__query_key__`, a tuple, which is {stands_for!r}"
            )
        bound: Cached[..., Any] = Cached(client, self._method, instance, cast("QueryKey", stands_for))
        return bound


class CachedDecorator(Protocol):
    """What `client.cached(...)` returns: put it on an async or a plain function."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> Cached[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Cached[P, T]: ...


class UnboundDecorator(Protocol):
    """What `cached(...)` returns: put it on an async or a plain function, or on a method."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> UnboundCached[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> UnboundCached[P, T]: ...


def cached(
    name: str, *, stale_time: StaleTimeOption, key: KeyRule | None = None, **options: Unpack[CachedOptions]
) -> UnboundDecorator:
    """Make the calls of a function queries, for a library whose users have the client.

    A function is bound to a client by `.bind(client)`. A method needs no binding: its instance has a `client` and a
    `__query_key__`, a tuple that stands for it in keys. The key of a call is then
    `(name, *instance.__query_key__, *arguments)`; `self` is no part of it.

    A function learns of its fetch by `current_context()`: with `stale_time="http"` it gives that to its transport, as
    in `http.get(path, context=current_context())`.

    Args:
        name: the first part of the keys.
        stale_time: the age in seconds from which on data is fetched anew.
        key: see `QueryClient.cached`.
        options: see `QueryOptions`.

    Raises:
        TypeError: `name` is no string, the decorated thing no function, or an option unknown or of a wrong type.
        ValueError: an option's value is impossible.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> class Cluster:
        ...     def __init__(self, client: QueryClient, name: str) -> None:
        ...         self.client = client
        ...         self.__query_key__ = (name,)
        ...     @cached("pods", stale_time=30)
        ...     async def pods(self, namespace: str = "default") -> list[str]:
        ...         return [f"{namespace}/web"]
        >>> async def main() -> list[str]:
        ...     async with QueryClient() as client:
        ...         return await Cluster(client, "prod").pods()
        >>> asyncio.run(main())
        ['default/web']
        >>> Cluster(QueryClient(), "prod").pods.key("kube-system")
        ('pods', 'prod', 'kube-system')
    """
    if not isinstance(name, str):
        raise TypeError(f'cached takes a name for the keys, as in cached("pods", stale_time=30), not {name!r}')
    if key is not None and not callable(key):
        raise TypeError(f"key= is a callable of the function's arguments that returns a tuple, not {key!r}")
    checked = cast("QueryOptions", {**options, "stale_time": or_rule(checked_stale_time)(stale_time, "stale_time")})
    check_options(checked)

    def decorate(fn: Callable[..., Any], /) -> UnboundCached[..., Any]:
        if not callable(fn):
            raise TypeError(f"cached decorates a function, not {fn!r}")
        return UnboundCached(_Rule(fn, name, key, checked))

    return cast("UnboundDecorator", decorate)  # a closure cannot be overloaded


class CachedMethods(AskingMethods, BulkMethods, DataMethods):
    """What makes functions ask a client's cache."""

    def cached(
        self, name: str, *, stale_time: StaleTimeOption, key: KeyRule | None = None, **options: Unpack[CachedOptions]
    ) -> CachedDecorator:
        """Make the calls of a function queries: each asks the cache, and calls the function if that has no fresh data.

        The key is `(name, *arguments)`, with defaults filled in and names put into their places, so that `f("a")`,
        `f(cluster="a")` and, if "a" is its default, `f()` are one query. What `*args` takes is one part, a tuple, and
        what `**kwargs` takes is one, a mapping. The function may be async or not; its call is to be awaited. It finds
        the context of its fetch by `current_context()`.

        The result has `.key(...)`, `.options(...)`, `.get(...)`, `.prefetch(...)`, `.observe(...)`, and
        `.invalidate(...)` and `.remove(...)`, which mean every call if they get no argument.

        Args:
            name: the first part of the keys.
            stale_time: the age in seconds from which on data is fetched anew.
            key: a callable that gets the function's arguments, those left out included, and returns a tuple that
                stands for them in the key; for arguments that cannot be key parts, or do not change the data.
            options: see `QueryOptions`.

        Raises:
            TypeError: `name` is no string, the decorated thing no function, or an option unknown or of a wrong type.
            ValueError: an option's value is impossible.

        Example:
            >>> import asyncio
            >>> from querykit.client import QueryClient
            >>> async def main() -> None:
            ...     async with QueryClient() as client:
            ...         @client.cached("clusterMe", stale_time=30)
            ...         async def cluster_me(cluster: str) -> str:
            ...             return f"ada of {cluster}"
            ...         print(await cluster_me("prod"), cluster_me.get("prod"), cluster_me.get("test"))
            ...         print(cluster_me.key(cluster="prod"))
            >>> asyncio.run(main())
            ada of prod ada of prod None
            ('clusterMe', 'prod')
        """
        decorate = cached(name, stale_time=stale_time, key=key, **options)

        def bound(fn: Callable[..., Any], /) -> Cached[..., Any]:
            return decorate(fn).bind(self)

        return cast("CachedDecorator", bound)
