"""What a change costs its observers, beside TanStack's query-core in Node, in one run.

    make bench-reactive             # or: python benchmarks/reactive.py

Both columns do the same with the same payloads, in turns, round after round; the best round counts. query-core is
installed into benchmarks/tanstack when it is not there yet; without Node.js and npm the Python column stands alone.
What CPython and V8 differ in is measured first: R, a bare loop over callbacks in the one over the same in the other.
"÷ R" is a ratio in which that is taken out: 1 means as near to the language's own cost as TanStack comes.
Nothing here is checked by time; that each observer was told is.
"""

import asyncio
import gc
import itertools
import json
import math
import os
import platform
import shutil
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from querykit import QueriesObserver, QueryClient, QueryObserver, query_options

HERE = Path(__file__).parent / "tanstack"
ROUNDS = 9
CYCLES = 100_000

Payload = dict[str, Any]
Callback = Callable[[Any], None]


class Round(NamedTuple):
    """What one time took, and how many callbacks it called."""

    seconds: float
    callbacks: float


Run = Callable[[int], Awaitable[Round]]
Scene = Callable[[QueryClient, int], Run]


class Payloads:
    """Fresh payloads, no two of them equal."""

    def __init__(self) -> None:
        self.made = 0

    def one(self) -> Payload:
        self.made += 1
        return {"id": self.made, "name": f"user {self.made}", "tags": ["admin", "eu"]}

    async def fetch(self) -> Payload:
        return self.one()

    def fill(self, client: QueryClient, size: int) -> None:
        for number in range(size):
            client.set_query_data(("clusterMe", number), self.one())


class Seen:
    """What the callbacks of one scene have seen. Each callback is a closure of its own."""

    def __init__(self) -> None:
        self.calls = 0
        self.data: Any = None

    def callback(self) -> Callback:
        def call(result: Any) -> None:
            self.calls += 1
            self.data = result.data

        return call


def check(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found!r}, not {wanted!r}")


# --- the scenes: what tanstack/reactive.mjs has under the same names ----------------------------------------


def counter() -> tuple[Callback, Callable[[], int]]:
    calls = 0

    def add(_result: Any) -> None:
        nonlocal calls
        calls += 1

    return add, lambda: calls


def loop_over_set(_client: QueryClient, size: int) -> Run:
    """The yardstick: callbacks in a dict, the set that keeps its order, of which a copy is called."""
    counters = [counter() for _ in range(size)]
    return _loop(dict.fromkeys(add for add, _ in counters), [calls for _, calls in counters])


def loop_over_list(_client: QueryClient, size: int) -> Run:
    """The same from a list."""
    counters = [counter() for _ in range(size)]
    return _loop([add for add, _ in counters], [calls for _, calls in counters])


def _loop(callbacks: dict[Callback, None] | list[Callback], counts: list[Callable[[], int]]) -> Run:
    given = Payloads().one()

    async def run(times: int) -> Round:
        before = counts[0]()
        begin = time.perf_counter()
        for _ in range(times):
            for call in list(callbacks):
                call(given)
        took = time.perf_counter() - begin
        for count in counts:
            check("calls", count() - before, times)
        return Round(took / times / len(counts), len(counts))

    return run


def set_one(client: QueryClient, size: int) -> Run:
    seen, payloads = Seen(), Payloads()
    payloads.fill(client, 1)
    observers = [observed(client, 0, payloads, seen.callback()) for _ in range(size)]

    async def run(times: int) -> Round:
        values = [payloads.one() for _ in range(times)]
        seen.calls = 0
        begin = time.perf_counter()
        for value in values:
            client.set_query_data(("clusterMe", 0), value)
        took = time.perf_counter() - begin
        check("callbacks", seen.calls, times * len(observers))
        if observers:
            check("data", seen.data, values[-1])
        return Round(took / times, seen.calls / times)

    return run


def observed(client: QueryClient, number: int, payloads: Payloads, callback: Callback) -> object:
    """Observe a key; what is returned keeps the observer, as its owner would."""
    observer = QueryObserver(client, ("clusterMe", number), payloads.fetch, stale_time=math.inf)
    return observer, observer.subscribe(callback)


def many(client: QueryClient, size: int) -> Run:
    payloads = Payloads()
    payloads.fill(client, size)
    options = [query_options(("clusterMe", number), payloads.fetch, stale_time=math.inf) for number in range(size)]
    observer = QueriesObserver(client, options)
    calls, at = 0, 0
    data: Any = None

    def callback(results: Any) -> None:
        nonlocal calls, data
        calls += 1
        data = results[at].data

    undo = observer.subscribe(callback)

    async def run(times: int) -> Round:
        nonlocal calls, at
        check("observed", callable(undo), wanted=True)
        values = [payloads.one() for _ in range(times)]
        calls = 0
        begin = time.perf_counter()
        for value in values:
            at = (at + 7919) % size  # a prime: it comes to every key
            client.set_query_data(("clusterMe", at), value)
        took = time.perf_counter() - begin
        check("callbacks", calls, times)
        check("data", data, values[-1])
        return Round(took / times, calls / times)

    return run


def flag(client: QueryClient, size: int) -> Run:
    return _invalidating(client, size, refetch=False)


def refetch(client: QueryClient, size: int) -> Run:
    return _invalidating(client, size, refetch=True)


def _invalidating(client: QueryClient, size: int, *, refetch: bool) -> Run:
    seen, payloads = Seen(), Payloads()
    keys = size // 10
    payloads.fill(client, keys)
    observers = [observed(client, at % keys, payloads, seen.callback()) for at in range(size)]

    async def run(times: int) -> Round:
        took, calls = 0.0, 0
        for _ in range(times):
            payloads.fill(client, keys)
            seen.calls = 0
            last = payloads.made
            begin = time.perf_counter()
            await client.invalidate_queries(("clusterMe",), refetch_type="active" if refetch else "none")
            took += time.perf_counter() - begin
            calls += seen.calls
            check("fetches", payloads.made - last, keys if refetch else 0)
            state = client.get_query_state(("clusterMe", 0))
            check("flagged", state is not None and state.is_invalidated, not refetch)
        check("observers told", calls >= times * len(observers), wanted=True)
        return Round(took / times, calls / times)

    return run


def observe(client: QueryClient, size: int) -> Run:
    seen, payloads = Seen(), Payloads()
    payloads.fill(client, size)
    callback = seen.callback()

    async def run(times: int) -> Round:
        seen.calls = 0
        begin = time.perf_counter()
        for number in range(times):
            observer = QueryObserver(client, ("clusterMe", number % size), payloads.fetch, stale_time=math.inf)
            undo = observer.subscribe(callback)
            undo()
        took = time.perf_counter() - begin
        return Round(took / times, seen.calls / times)

    return run


# --- both columns, in turns ---------------------------------------------------------------------------------


class Peer:
    """The Node process: it is told what to do, a line at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        if line := await self._process.stdout.readline():
            return dict(json.loads(line))
        raise RuntimeError("the Node process has ended; what it said is above")

    async def ask(self, **asked: object) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._process.stdin.drain()
        return await self.answer()


@dataclass(frozen=True)
class Row:
    """A scene of a size, and how many times a round has in Python and in Node."""

    name: str
    scene: Scene
    size: int
    times: int
    node_times: int

    @property
    def node_scene(self) -> str:
        first, *others = self.scene.__name__.split("_")
        return first + "".join(part.capitalize() for part in others)


class Pair(NamedTuple):
    """One figure in both columns; Node's is None where there is none."""

    here: float
    there: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.there is None else self.here / self.there

    def __sub__(self, other: "Pair") -> "Pair":
        lacks = self.there is None or other.there is None
        return Pair(self.here - other.here, None if lacks else (self.there or 0) - (other.there or 0))

    def __truediv__(self, by: float) -> "Pair":
        return Pair(self.here / by, None if self.there is None else self.there / by)


class Found(NamedTuple):
    """The best round of a row in seconds a time, and the callbacks that a time called."""

    time: Pair
    callbacks: Pair


async def best(rows: list[Row], peer: Peer | None, rounds: int = ROUNDS) -> list[Found]:
    """Return the best round of each row; the rows take turns, and the columns within a row."""
    clients = [QueryClient() for _ in rows]
    runs = [row.scene(client, row.size) for row, client in zip(rows, clients, strict=True)]
    here = [Round(math.inf, 0)] * len(rows)
    there = [Round(math.inf, 0)] * len(rows)
    for at, row in enumerate(rows):
        await runs[at](max(1, row.times // 10))
        if peer is not None:
            await peer.ask(open=at, scene=row.node_scene, size=row.size)
            await peer.ask(run=at, times=row.node_times)
    for _ in range(rounds):
        for at, row in enumerate(rows):
            gc.collect()
            here[at] = min(here[at], await runs[at](row.times))
            if peer is not None:
                there[at] = min(there[at], Round(**await peer.ask(run=at, times=row.node_times)))
    for client in clients:
        await client.aclose()
    if peer is not None:
        await peer.ask(close=True)
    return [
        Found(*(Pair(mine, None if peer is None else its) for mine, its in zip(ours, theirs, strict=True)))
        for ours, theirs in zip(here, there, strict=True)
    ]


def show(
    console: Console,
    title: str,
    lines: list[tuple[str, Pair]],
    language_ratio: float | None,
    columns: tuple[str, str] = ("querykit", "TanStack"),
) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column(columns[0], justify="right")
    if any(pair.there is not None for _, pair in lines):
        table.add_column(columns[1], justify="right")
        table.add_column(f"x {columns[1]}", justify="right")
        if language_ratio is not None:
            table.add_column("÷ R", justify="right")
    for name, pair in lines:
        table.add_row(name, *_cells(pair, language_ratio))
    console.print(table)


def _cells(pair: Pair, language_ratio: float | None) -> Iterator[str]:
    yield _time(pair.here)
    if pair.there is not None and pair.ratio is not None:
        yield _time(pair.there)
        yield f"{pair.ratio:.2f}"
        if language_ratio is not None:
            yield f"{pair.ratio / language_ratio:.2f}"


def _time(seconds: float) -> str:
    if seconds < 1e-6:
        return f"{seconds * 1e9:.1f} ns"
    return f"{seconds * 1e6:.2f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


# --- the tables ---------------------------------------------------------------------------------------------


async def yardstick(console: Console, peer: Peer | None) -> float | None:
    """Return R."""
    rows = [
        Row("a copy of a dict / a Set: R", loop_over_set, 100, 1_000, 20_000),
        Row("a copy of a list / an array", loop_over_list, 100, 1_000, 20_000),
    ]
    found = [each.time for each in await best(rows, peer)]
    lines = [(row.name, pair) for row, pair in zip(rows, found, strict=True)]
    show(console, "A bare loop over 100 callbacks that count, a callback", lines, None, ("CPython", "V8"))
    return found[0].ratio


async def setting(console: Console, peer: Peer | None, language_ratio: float | None) -> None:
    sizes = {0: 2_000, 1: 1_000, 10: 300, 100: 50}
    rows = [Row(f"{size} observers", set_one, size, times, times * 10) for size, times in sizes.items()]
    found = [each.time for each in await best(rows, peer)]
    lines = [(row.name, pair) for row, pair in zip(rows, found, strict=True)]
    slope = (found[3] - found[2]) / 90
    lines.append(("an observer more, of 10 to 100", slope))
    show(console, "set_query_data of an observed key", lines, language_ratio)
    if slope.there is not None and language_ratio is not None:
        aim = slope.there * language_ratio
        console.print(
            f"Aim, a changed observer: TanStack's {_time(slope.there)} x R {language_ratio:.1f}: "
            f"<= {_time(aim)}, here {_time(slope.here)}\n"
        )


async def together(console: Console, peer: Peer | None, language_ratio: float | None) -> None:
    sizes = (100, 1_000, 10_000)
    rows = [Row(f"{size:,} queries", many, size, 200, 1_000) for size in sizes]
    found = [each.time for each in await best(rows, peer)]
    lines = [(row.name, pair) for row, pair in zip(rows, found, strict=True)]
    show(console, "A QueriesObserver, one of its queries changing, a change", lines, language_ratio)
    growths = [("querykit", [pair.here for pair in found])]
    if peer is not None:
        growths.append(("TanStack", [pair.there or 0 for pair in found]))
    for name, times in growths:
        factors = ", then ".join(f"{more / few:.1f}" for few, more in itertools.pairwise(times))
        console.print(f"{name}: for 10 times as many queries a change takes {factors} times as long")
    console.print()


async def invalidating(console: Console, peer: Peer | None, language_ratio: float | None) -> None:
    size = 10_000
    rows = [Row("flagged only", flag, size, 1, 3), Row("and fetched anew", refetch, size, 1, 3)]
    found = await best(rows, peer)
    lines = []
    for row, each in zip(rows, found, strict=True):
        lines += [(row.name, each.time), (f"{row.name}, an observer", each.time / size)]
    show(console, "10,000 observers of 1,000 keys, all invalidated", lines, language_ratio)
    for row, each in zip(rows, found, strict=True):
        console.print(f"Callbacks an observer, {row.name}: {_count(each.callbacks / size)}")
    console.print()


async def coming_and_going(console: Console, peer: Peer | None, language_ratio: float | None) -> None:
    rounds = 5
    row = Row("a cycle", observe, 1_000, CYCLES // rounds, CYCLES // rounds)
    (found,) = await best([row], peer, rounds)
    show(console, f"{CYCLES:,} times observe and leave, over 1,000 keys", [(row.name, found.time)], language_ratio)
    console.print(f"Callbacks a cycle: {_count(found.callbacks)}")
    console.print(f"Memory before and after {CYCLES:,} more, and what a cycle leaves behind:")
    console.print(f"  querykit (traced): {_kept(*await traced(row))}")
    if peer is not None:
        await peer.ask(open=0, scene=row.node_scene, size=row.size)
        await peer.ask(run=0, times=row.node_times)
        before = await peer.ask(memory=True)
        await peer.ask(run=0, times=CYCLES)
        after = await peer.ask(memory=True)
        await peer.ask(close=True)
        console.print(f"  TanStack (V8's whole heap): {_kept(before['bytes'], after['bytes'])}")


async def traced(row: Row) -> tuple[int, int]:
    """Return the memory before and after all cycles, the collector's garbage gone. It is slow, so not timed."""
    gc.collect()
    tracemalloc.start()
    try:
        async with QueryClient() as client:
            run = row.scene(client, row.size)
            sizes = []
            for times in (row.times, CYCLES):
                await run(times)
                await asyncio.sleep(0)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        return sizes[0], sizes[1]
    finally:
        tracemalloc.stop()


def _count(calls: Pair) -> str:
    return f"querykit {calls.here:.2g}" + ("" if calls.there is None else f", TanStack {calls.there:.2g}")


def _kept(before: int, after: int) -> str:
    return f"{before / 1e3:,.0f} kB, {after / 1e3:,.0f} kB: {(after - before) / CYCLES:.1f} bytes"


# --- Node -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tanstack(console: Console) -> AsyncIterator[Peer | None]:
    """Install query-core where it is missing and run it; None, with the reason printed, where that cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or (npm is None and not _installed()):
        missing = "Node.js" if node is None else "npm"
        console.print(f"{missing} was not found on PATH: there is no TanStack column, and no R.")
        yield None
        return
    if not _installed() and npm is not None and (said := await _install(npm)):
        console.print(f"npm could not install query-core: there is no TanStack column, and no R.\n{said}", markup=False)
        yield None
        return
    process = await asyncio.create_subprocess_exec(
        node,
        "--expose-gc",
        str(HERE / "reactive.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_ENV": "production"},
    )
    peer = Peer(process)
    try:
        versions = await peer.answer()
        console.print(f"Node {versions['node']} (V8 {versions['v8']}), @tanstack/query-core {versions['queryCore']}")
        yield peer
    finally:
        if process.stdin is not None:
            process.stdin.close()  # it ends with its input
        await process.wait()


def _installed() -> bool:
    """Whether the query-core of package.json is there."""
    wanted = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]["@tanstack/query-core"]
    found = HERE / "node_modules" / "@tanstack" / "query-core" / "package.json"
    return found.is_file() and bool(json.loads(found.read_text("utf-8"))["version"] == wanted)


async def _install(npm: str) -> str:
    """Install what the lock file says. Returns what npm said if it failed."""
    process = await asyncio.create_subprocess_exec(
        npm, "ci", "--no-audit", "--no-fund", cwd=HERE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode(errors="replace") if process.returncode else ""


async def main() -> None:
    console = Console(width=100)
    console.print(f"CPython {platform.python_version()}, {platform.machine()}; best of {ROUNDS} rounds")
    async with tanstack(console) as peer:
        console.print()
        ratio = await yardstick(console, peer)
        await setting(console, peer, ratio)
        await together(console, peer, ratio)
        await invalidating(console, peer, ratio)
        await coming_and_going(console, peer, ratio)


if __name__ == "__main__":
    asyncio.run(main())
