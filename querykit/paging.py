"""The client's method that asks for the pages of an infinite query."""

from typing import Any, TypeVar, Unpack, overload

from querykit.asking import AskingMethods
from querykit.infinite import (
    AsyncPageFn,
    InfiniteOptions,
    InfiniteQueryOptions,
    ParamRule,
    PlainPageFn,
    as_infinite_options,
)
from querykit.keys import QueryKey
from querykit.pages import InfiniteData
from querykit.state import UNSET, Skip

__all__ = ["PagingMethods"]

Page = TypeVar("Page")
Param = TypeVar("Param")
R = TypeVar("R")


class PagingMethods(AskingMethods):
    """What asks for pages."""

    @overload
    async def infinite_query(self, key: InfiniteOptions[Any, Any, R], *, swr: bool = ...) -> R: ...
    @overload
    async def infinite_query(
        self,
        key: QueryKey,
        fn: AsyncPageFn[Page] | Skip,
        *,
        initial_page_param: Param,
        get_next_page_param: ParamRule[Param] | None = ...,
        get_previous_page_param: ParamRule[Param] | None = ...,
        swr: bool = ...,
        **options: Unpack[InfiniteQueryOptions],
    ) -> InfiniteData[Page, Param]: ...
    @overload
    async def infinite_query(
        self,
        key: QueryKey,
        fn: PlainPageFn[Page] | Skip,
        *,
        initial_page_param: Param,
        get_next_page_param: ParamRule[Param] | None = ...,
        get_previous_page_param: ParamRule[Param] | None = ...,
        swr: bool = ...,
        **options: Unpack[InfiniteQueryOptions],
    ) -> InfiniteData[Page, Param]: ...
    async def infinite_query(self, key: Any, fn: Any = UNSET, *, swr: bool = False, **options: Any) -> Any:
        """Return the pages of a key: from the cache if they are fresh, however many they are, else fetched.

        Args:
            key: a tuple, or what `infinite_query_options` returns.
            fn: fetches one page: it takes a `QueryContext`, whose `page_param` says which.
            initial_page_param: the parameter of the first page.
            get_next_page_param: `(last_page, data)` to the parameter of the page after it, or None for no more.
            get_previous_page_param: the same for the page before, from the first page.
            swr: return stale pages at once and fetch behind them.
            options: see `InfiniteQueryOptions`.

        Raises:
            TypeError: the key, `fn`, a rule or an option is of a wrong type, or there is no `initial_page_param`.
            ValueError: an option's value is impossible.
            Exception: what `QueryClient.query` raises.

        Example:
            >>> import asyncio
            >>> from querykit.client import QueryClient
            >>> async def main() -> None:
            ...     async with QueryClient() as client:
            ...         data = await client.infinite_query(
            ...             ("logs",),
            ...             lambda ctx: [f"line {ctx.page_param}"],
            ...             initial_page_param=0,
            ...             get_next_page_param=lambda page, data: len(data.pages),
            ...             pages=2,
            ...         )
            ...         print(data.pages, data.page_params)
            >>> asyncio.run(main())
            (['line 0'], ['line 1']) (0, 1)
        """
        return await self.query(as_infinite_options(key, fn, options), swr=swr)
