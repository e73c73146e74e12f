"""A list upstream that is fetched by pages, and what watches the fetches of it."""

from __future__ import annotations

import asyncio
from typing import Any

from querykit import InfiniteData, InfiniteOptions, QueryContext, infinite_query_options
from tests.fetches import STEPS, settled, turns

KEY = ("logs",)


class Book:
    """Pages upstream by number, of which there are those from `first` to `last`.

    Each fetch returns `[number, edition]`. It waits while the test holds it, and raises what the test says.
    """

    def __init__(self, first: int = 0, last: int = 9, *, held: bool = False) -> None:
        self.first = first
        self.last = last
        self.edition = 1
        self.held = held
        self.asked: list[int] = []
        self.cancelled = 0
        self.errors: dict[int, list[Exception]] = {}
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, ctx: QueryContext[Any]) -> list[int]:
        number = ctx.page_param
        self.asked.append(number)
        edition = self.edition
        try:
            if self.held:
                self.waiting.append(asyncio.get_running_loop().create_future())
                await self.waiting[-1]
            await turns(STEPS)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.errors.get(number):
            raise self.errors[number].pop(0)
        return [number, edition]

    def after(self, page: list[int], data: InfiniteData[list[int], int]) -> int | None:
        return page[0] + 1 if page[0] < self.last else None

    def before(self, page: list[int], data: InfiniteData[list[int], int]) -> int | None:
        return page[0] - 1 if page[0] > self.first else None

    def options(self, start: int = 0, **options: Any) -> InfiniteOptions[Any, Any, Any]:
        rules = {"get_next_page_param": self.after, "get_previous_page_param": self.before}
        return infinite_query_options(KEY, self, initial_page_param=start, **{**rules, **options})

    async def let_go(self) -> None:
        """Let what waits, and what follows, go on."""
        self.held = False
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        await settled()

    async def step(self) -> None:
        """Let the fetch go on that waits longest."""
        await settled()
        next(future for future in self.waiting if not future.done()).set_result(None)
        await settled()

    def took(self) -> list[int]:
        """The pages asked for since this was called last."""
        asked, self.asked = self.asked, []
        return asked


def numbers(data: InfiniteData[list[int], int] | None) -> list[int]:
    """The numbers of the pages; each has the parameter that it was asked for with."""
    if data is None:
        return []
    assert [page[0] for page in data.pages] == list(data.page_params)
    return list(data.page_params)


def editions(data: InfiniteData[list[int], int] | None) -> list[int]:
    return [] if data is None else [page[1] for page in data.pages]
