"""What a query function may know of the fetch that it runs for."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from querykit.identity import running_context
from querykit.keys import QueryKey
from querykit.state import NO_DATA, Direction, NoData

__all__ = ["ContextClient", "QueryContext", "current_context"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ContextClient(Protocol):
    """The methods of a client that a query function or a mutation may use."""

    async def query(self, *args: Any, **options: Any) -> Any:
        """See `QueryClient.query`."""
        ...

    def prefetch(self, *args: Any, **options: Any) -> Awaitable[None]:
        """See `QueryClient.prefetch`."""
        ...

    def get_query_data(self, *args: Any, **options: Any) -> Any:
        """See `QueryClient.get_query_data`."""
        ...

    def set_query_data(self, *args: Any, **options: Any) -> None:
        """See `QueryClient.set_query_data`."""
        ...

    def invalidate_queries(self, *args: Any, **filters: Any) -> Awaitable[None]:
        """See `QueryClient.invalidate_queries`."""
        ...

    def cancel_queries(self, *args: Any, **filters: Any) -> Awaitable[None]:
        """See `QueryClient.cancel_queries`."""
        ...


class Progress(Protocol):
    """One running fetch's hold on its entry: it reads what was there, and may show what comes before its end."""

    @property
    def direction(self) -> Direction | None:
        """Which page more of an infinite query it is for, if it is."""
        ...

    @property
    def has_data(self) -> bool:
        """Whether there is data now; unlike reading it, asking this is no use of it."""
        ...

    def read_old(self) -> tuple[object, object]:
        """Return the data there is now, or NO_DATA, and its validators; reading counts as using it (S3)."""
        ...

    def paused(self, paused: bool) -> None:
        """Say that the fetch waits for the network, or goes on."""
        ...

    async def go_live(self, fn: Any, context: Any, /) -> Any:
        """Start a live source anew, and return its first value."""
        ...

    def show(self, data: object) -> None:
        """Let observers see data before the fetch ends; NO_DATA takes away what there was."""
        ...


class QueryContext(Generic[T_co]):
    """Passed to a query function that has one required positional parameter; a new one for each attempt.

    Write it as `QueryContext[<the data's type>]`, or `QueryContext[object]` where no old data is read: with
    `Any` in there mypy takes the function's result for `Any` too.

    Attributes:
        client: the client, as far as a query function may use it.
        query_key: the key that is fetched.
        meta: the query's `meta` option.
        stale_time: the freshness in seconds that the transport read from the response, for
            `stale_time="http"`; None until it is set.
        new_validators: what to keep beside the data that is returned, for the next conditional request.
        validated: the data that they came with: they are kept only if just that is returned.
        page_param: which page of an infinite query to fetch; None in any other.
        progress: how `streamed` and its like show data before the fetch ends; a query function needs it not.

    Example:
        >>> async def fetch_pods(ctx: QueryContext[list[str]]) -> list[str]:
        ...     kind, cluster = ctx.query_key
        ...     return [f"{cluster}/web"]
    """

    __slots__ = (
        "client",
        "meta",
        "new_validators",
        "page_param",
        "progress",
        "query_key",
        "stale_time",
        "validated",
    )

    def __init__(self, client: ContextClient, query_key: QueryKey, meta: Mapping[str, Any], progress: Progress) -> None:
        self.client = client
        self.query_key = query_key
        self.meta = meta
        self.stale_time: float | None = None
        self.new_validators: object = None
        self.validated: object = NO_DATA
        self.page_param: Any = None
        self.progress = progress

    @property
    def direction(self) -> Direction | None:
        """Which page is fetched, where one page more of an infinite query is."""
        return self.progress.direction

    @property
    def previous_data(self) -> T_co | None:
        """The data that the entry has now, or None; what is returned then belongs to its identities too."""
        data: Any = self.progress.read_old()[0]
        return None if data is NO_DATA else data

    @property
    def validators(self) -> object:
        """What was kept beside exactly the data that `previous_data` gives now, or None."""
        data, validators = self.progress.read_old()
        return None if isinstance(data, NoData) else validators

    def __repr__(self) -> str:
        return f"<QueryContext of {self.query_key!r}>"


def current_context() -> QueryContext[Any] | None:
    """Return the context of the query function that this runs in; None outside of one.

    It is for a function whose arguments are its own, as those of a `cached` one are, and for what it calls.

    Example:
        >>> import asyncio
        >>> from querykit.client import QueryClient
        >>> async def main() -> None:
        ...     async with QueryClient() as client:
        ...         @client.cached("pods", stale_time=30)
        ...         async def pods(cluster: str) -> object:
        ...             return current_context()
        ...         print(await pods("prod"))
        >>> asyncio.run(main())
        <QueryContext of ('pods', 'prod')>
    """
    return cast("QueryContext[Any] | None", running_context())


class PerFetch(ABC):
    """A query function that is made anew for each fetch, so that a retry goes on where the attempt before failed."""

    @abstractmethod
    def for_one_fetch(self) -> Callable[[QueryContext[Any]], Any]:
        """Return the function whose calls are the attempts of one fetch."""

    def __call__(self, context: QueryContext[Any], /) -> Any:
        """Make the only attempt of a fetch."""
        return self.for_one_fetch()(context)


# The context's type is not bound to T: a function may return a wider type than it reads.
AsyncFn = Callable[[], Awaitable[T]] | Callable[[QueryContext[Any]], Awaitable[T]]
PlainFn = Callable[[], T] | Callable[[QueryContext[Any]], T]
Fn = AsyncFn[T] | PlainFn[T]
