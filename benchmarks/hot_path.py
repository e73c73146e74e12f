"""What a call on a warm, a cold and a large cache costs, beside Python peers, in one run.

    make bench                      # or: python benchmarks/hot_path.py

Each row is timed in turns with the others, round after round, so that a machine that slows down slows all of
them; the best round counts. Compare ratios, not absolute figures. Nothing here is checked by time.
"""

import asyncio
import gc
import platform
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiocache
import async_lru
import cashews
from rich.console import Console
from rich.table import Table

from querykit import QueryClient

KEY = ("clusterMe", "prod")
ROUNDS = 15

Timed = Callable[[int], Coroutine[Any, Any, float]]


class Bare:
    """The floor: a dict behind a method."""

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {KEY: {"name": "ada"}}

    async def query(self, key: Any) -> Any:
        return self.data[key]

    def get(self, key: Any) -> Any:
        return self.data.get(key)


def awaited(fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Timed:
    """Time `await fn(...)` in a loop of its own, with the call spelled out, as a user's code would have it."""
    call = ", ".join([f"a{at}" for at in range(len(args))] + [f"{name}={name}_" for name in kwargs])
    names = {f"a{at}": value for at, value in enumerate(args)} | {f"{name}_": value for name, value in kwargs.items()}
    return _loop(f"await fn({call})", names | {"fn": fn})


def read(fn: Callable[..., Any], key: Any) -> Timed:
    """Time `fn(key)` likewise."""
    return _loop("fn(key)", {"fn": fn, "key": key})


def _loop(statement: str, names: dict[str, Any]) -> Timed:
    source = (
        f"async def run(times, {', '.join(f'{name}={name}' for name in names)}):\n"
        "    begin = clock()\n"
        f"    for _ in range(times): {statement}\n"
        "    return (clock() - begin) / times\n"
    )
    scope: dict[str, Any] = {**names, "clock": time.perf_counter}
    exec(source, scope)  # noqa: S102 - the statements above
    return scope["run"]  # type: ignore[no-any-return]


def called(call: Callable[[], Any]) -> Timed:
    async def run(times: int) -> float:
        begin = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - begin) / times

    return run


async def best(rows: dict[str, tuple[Timed, int]]) -> dict[str, float]:
    """Return the best round of each row, in seconds a call; the rows take turns."""
    found = dict.fromkeys(rows, float("inf"))
    for run, times in rows.values():
        await run(max(1, times // 10))
    for _ in range(ROUNDS):
        for name, (run, times) in rows.items():
            gc.collect()
            found[name] = min(found[name], await run(times))
    return found


async def fetch_me() -> dict[str, str]:
    await asyncio.sleep(0)
    return {"name": "ada"}


def show(console: Console, title: str, seconds: dict[str, float], floor: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("time", justify="right")
    table.add_column(f"x {floor}", justify="right")
    for name, took in seconds.items():
        table.add_row(name, _time(took), f"{took / seconds[floor]:.2f}")
    console.print(table)


def _time(seconds: float) -> str:
    if seconds < 1e-6:
        return f"{seconds * 1e9:.0f} ns"
    return f"{seconds * 1e6:.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


async def warm(console: Console) -> None:
    bare, memory = Bare(), aiocache.SimpleMemoryCache()
    await memory.set("k", {"name": "ada"})
    cashews.cache.setup("mem://")

    @async_lru.alru_cache(maxsize=1000, ttl=300)
    async def by_async_lru(*_key: str) -> dict[str, str]:
        return await fetch_me()

    @aiocache.cached(ttl=300)  # type: ignore[untyped-decorator]
    async def by_aiocache(*_key: str) -> dict[str, str]:
        return await fetch_me()

    @cashews.cache(ttl=300)
    async def by_cashews(*_key: str) -> dict[str, str]:
        return await fetch_me()

    async with QueryClient() as client:
        await client.query(KEY, fetch_me, stale_time=300)
        defaulted = QueryClient(default_options={"queries": {"stale_time": 300}})
        await defaulted.query(KEY, fetch_me)
        rows: dict[str, tuple[Timed, int]] = {
            "bare coroutine": (awaited(bare.query, KEY), 20_000),
            "client.query(key, fn, stale_time=300)": (
                awaited(client.query, KEY, fetch_me, stale_time=300),
                20_000,
            ),
            "client.query(key, fn), default stale time": (awaited(defaulted.query, KEY, fetch_me), 20_000),
            "async-lru": (awaited(by_async_lru, *KEY), 20_000),
            "cashews": (awaited(by_cashews, *KEY), 2_000),
            "aiocache": (awaited(by_aiocache, *KEY), 2_000),
        }
        show(console, "A fresh entry, awaited", await best(rows), "bare coroutine")
        rows = {
            "dict.get behind a method": (read(bare.get, KEY), 50_000),
            "client.get_query_data(key)": (read(client.get_query_data, KEY), 50_000),
        }
        show(console, "A read without await", await best(rows), "dict.get behind a method")
        await defaulted.aclose()


async def cold(console: Console) -> None:
    table = Table(title="1,000 concurrent callers of one cold key", title_justify="left")
    table.add_column("what")
    table.add_column("upstream calls", justify="right")
    table.add_column("time a caller", justify="right")
    for name, call in _cold_callers():
        calls = 0

        async def upstream() -> dict[str, str]:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0.01)
            return {"name": "ada"}

        begin = time.perf_counter()
        await call(upstream)
        took = time.perf_counter() - begin - 0.01
        table.add_row(name, f"{calls:,}", _time(took / 1000))
    console.print(table)


def _cold_callers() -> list[tuple[str, Callable[[Callable[[], Awaitable[Any]]], Awaitable[object]]]]:
    async def querykit(upstream: Callable[[], Awaitable[Any]]) -> None:
        async with QueryClient() as client:
            await asyncio.gather(*[client.query(KEY, upstream, stale_time=300) for _ in range(1000)])

    async def by_async_lru(upstream: Callable[[], Awaitable[Any]]) -> None:
        @async_lru.alru_cache(maxsize=10, ttl=300)
        async def cached() -> Any:
            return await upstream()

        await asyncio.gather(*[cached() for _ in range(1000)])

    async def by_cashews(upstream: Callable[[], Awaitable[Any]]) -> None:
        @cashews.cache(ttl=300, key="cold")
        async def cached() -> Any:
            return await upstream()

        await asyncio.gather(*[cached() for _ in range(1000)])

    async def by_aiocache(upstream: Callable[[], Awaitable[Any]]) -> None:
        @aiocache.cached(ttl=300, key="cold")  # type: ignore[untyped-decorator]
        async def cached() -> Any:
            return await upstream()

        await asyncio.gather(*[cached() for _ in range(1000)])

    return [("querykit", querykit), ("async-lru", by_async_lru), ("cashews", by_cashews), ("aiocache", by_aiocache)]


async def large(console: Console) -> None:
    clients = {size: QueryClient(max_entries=1_000_000) for size in (1_000, 100_000)}
    for size, client in clients.items():
        for number in range(size):
            client.set_query_data(("pods", number), number)

    def invalidate(client: QueryClient) -> None:
        client.invalidate_queries(("pods", 500), exact=True)

    def remove(client: QueryClient) -> None:
        client.remove_queries(("pods", 500), exact=True)
        client.set_query_data(("pods", 500), 500)

    def set_one(client: QueryClient) -> None:
        client.set_query_data(("pods", 500), 500)

    for title, act in (
        ("Exact invalidation", invalidate),
        ("Exact removal, and setting it again", remove),
        ("set_query_data of an unobserved key", set_one),
    ):
        rows: dict[str, tuple[Timed, int]] = {
            f"{size:,} entries": (called(lambda act=act, client=client: act(client)), 5_000)  # type: ignore[misc]
            for size, client in clients.items()
        }
        show(console, title, await best(rows), "1,000 entries")

    many = clients[100_000]
    prefix = {
        "100,000 entries, all match": (called(lambda: many.invalidate_queries(("pods",))), 1),
        "100,000 entries, none matches": (called(lambda: many.invalidate_queries(("nodes",))), 1_000),
    }
    show(console, "Invalidation of a prefix", await best(prefix), "100,000 entries, all match")
    for client in clients.values():
        await client.aclose()
    await build(console)


async def build(console: Console) -> None:
    gc.collect()
    async with QueryClient(max_entries=1_000_000) as client:
        begin = time.perf_counter()
        for number in range(100_000):
            client.set_query_data(("pods", number), number)
        took = time.perf_counter() - begin
    console.print(f"Building 100,000 entries with a gc time of 5 minutes: {_time(took / 100_000)} each\n")


async def main() -> None:
    console = Console(width=100)
    console.print(f"CPython {platform.python_version()}, {platform.machine()}; best of {ROUNDS} rounds\n")
    await warm(console)
    await cold(console)
    await large(console)


if __name__ == "__main__":
    asyncio.run(main())
