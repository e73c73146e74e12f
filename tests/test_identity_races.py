"""S3, races: a logout and a token change at every await point of a running fetch, from wherever it may come.

What each of them looks for stands in `tests/logins.py`: nothing computed under the old login is readable,
delivered or written afterwards, and nothing holds it. Where a function is attacked from inside of itself, its
own error reaches its callers (S1): it is what a 401 looks like.
"""

from __future__ import annotations

import asyncio

import pytest

from querykit import QueryCancelled, QueryContext, query_options
from tests.logins import PLACES, Answer, Refused, Work, World

KEY = ("k",)


async def plain(world: World) -> None:
    """Two callers of one fetch."""
    world.start(world.ask(KEY, world.fetch))
    world.start(world.ask(KEY, world.fetch))


async def late_joiner(world: World) -> None:
    """Callers who come at each turn: some join, some find it cached."""
    for _ in range(12):
        world.start(world.ask(KEY, world.fetch, stale_time=60))
        await asyncio.sleep(0)


async def retried(world: World) -> None:
    """A fetch that fails under the login, waits, and tries again."""
    failures = []

    async def fn() -> Answer:
        answer = await world.fetch()
        if len(failures) < 2:
            failures.append(1)
            raise ConnectionError(answer["login"])
        return answer

    world.start(world.ask(KEY, fn))


async def refused(world: World) -> None:
    """A fetch that fails for good; its error is remembered."""
    world.start(world.ask(KEY, world.refuse))
    world.start(world.ask(KEY, world.refuse))
    world.client.prefetch(KEY, world.refuse)


async def shared_connection(world: World) -> None:
    """A connection that one query opened and others use: the credential is read, and named, at each use."""
    opened: list[asyncio.Task[list[str]]] = []

    async def connect() -> list[str]:
        await world.point()
        return ["connection"]

    async def fn() -> Answer:
        if not opened:
            opened.append(asyncio.create_task(connect()))
        connection = await asyncio.shield(opened[0])
        await world.point()
        answer = world.use(connection[0])
        await world.point()
        return answer

    world.start(world.ask(("first",), fn))
    await asyncio.sleep(0)
    world.start(world.ask(("second",), fn))


async def composite(world: World) -> None:
    """A query that reads another."""

    async def parent() -> list[Answer]:
        child = await world.ask(("child",), world.fetch)
        await world.point()
        return [child]

    world.start(world.ask(("parent",), parent))
    world.start(world.ask(("child",), world.fetch))


async def composite_of_three(world: World) -> None:
    """Three levels; the lowest two are read in child tasks."""

    async def middle() -> list[Answer]:
        return await asyncio.gather(world.ask(("a",), world.fetch), world.ask(("b",), world.fetch))

    async def high() -> tuple[str, list[Answer]]:
        await world.point()
        found = await world.ask(("middle",), middle)
        await world.point()
        return "high", found

    world.observe(("high",), high)


async def fallback(world: World) -> None:
    """A parent that catches whatever its child raises; it is observed, and must not keep its fallback."""

    async def parent() -> object:
        try:
            return [await world.ask(("child",), world.fetch)]
        except (QueryCancelled, Refused):
            await world.point()
            return "fallback"

    world.observe(("parent",), parent)


async def fallback_of_a_thread(world: World) -> None:
    """A composite whose function works in a thread."""

    def function(work: Work) -> object:
        try:
            return world.call(work, world.ask, ("child",), world.fetch)
        except (QueryCancelled, Refused):
            return "fallback"

    world.start(world.ask(("parent",), lambda: world.to_thread(function)))


async def previous_data(world: World) -> None:
    """A fetch that adds to the data there is."""

    async def fn(ctx: QueryContext[list[Answer]]) -> list[Answer]:
        await world.point()
        before = ctx.previous_data
        answer = await world.fetch()
        return [*(before or ())[-2:], answer, *(ctx.previous_data or ())[-2:]]

    async def caller() -> None:
        for _ in range(3):
            await world.ask(KEY, fn)

    world.start(caller())


async def stale_if_error(world: World) -> None:
    """A refresh that fails: its caller gets the old data, if it is still there."""

    async def caller() -> None:
        await world.ask(KEY, world.fetch)
        await world.ask(KEY, world.refuse, stale_if_error=60)

    world.start(caller())
    world.start(world.ask(KEY, world.fetch, stale_if_error=60))


async def not_modified(world: World) -> None:
    """Conditional requests: a 304 keeps the very same object."""

    async def fn(ctx: QueryContext[Answer]) -> Answer | None:
        answer = await world.fetch()
        validators = ctx.validators
        ctx.new_validators = "etag"
        await world.point()
        return ctx.previous_data if validators else answer

    async def caller() -> None:
        for _ in range(3):
            await world.ask(KEY, fn)

    world.start(caller())


async def sharing(world: World) -> None:
    """Plain JSON that is equal but for the login: what is shared must not carry it."""

    async def fn() -> dict[str, object]:
        answer = await world.fetch()
        return {"items": [{"name": "web", "by": answer["login"]}, {"name": "db"}], "count": 2}

    world.observe(KEY, fn)
    for _ in range(4):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        world.pendings.append(world.client.invalidate_queries(KEY))


async def observed(world: World) -> None:
    """An observer with a `select` that reads another query too."""

    def select(data: Answer) -> list[object]:
        return [data, world.client.get_query_data(("rights",))]

    world.client.prefetch(("rights",), world.fetch)
    world.observe(query_options(KEY, world.fetch).select(select))
    for _ in range(6):
        await asyncio.sleep(0)
    world.client.refetch_queries(KEY)


async def held(world: World) -> None:
    """Waiters that nobody can cancel: prefetch, a refresh behind stale data, refetches that raise."""
    client = world.client
    world.pendings.append(client.prefetch(KEY, world.fetch))
    for _ in range(5):
        await asyncio.sleep(0)
    world.start(world.ask(KEY, world.fetch, swr=True))
    world.pendings.append(client.refetch_queries(KEY, throw_on_error=True))
    world.start(world.ask(("error",), world.refuse))
    await asyncio.sleep(0)
    world.pendings.append(client.refetch_queries(("error",), throw_on_error=True))
    world.start(client.invalidate_queries(refetch_type="all", throw_on_error=True))


async def late_writes(world: World) -> None:
    """A function whose child task works on, and writes: its own key, another one, by an updater."""
    client = world.client

    async def child(answer: Answer) -> None:
        for number in range(5):
            await world.point()
            client.set_query_data(("late", number % 2), [answer])
            client.set_query_data(("late", 0), lambda before: [*before[-1:], answer])
            client.set_query_data(KEY, ["progress", answer])
            client.set_queries_data(("late",), updater=lambda before: [*before[-1:], answer])

    async def fn() -> Answer:
        answer = await world.fetch()
        world.tasks.append(asyncio.create_task(child(answer)))
        await world.point()
        return answer

    world.start(world.ask(KEY, fn))


async def late_callbacks(world: World) -> None:
    """The same from plain callbacks of the loop, which carry the record too."""
    loop = asyncio.get_running_loop()
    written = loop.create_future()

    def write(answer: Answer, left: int) -> None:
        world.client.set_query_data(("late",), [answer])
        if left:
            loop.call_soon(write, answer, left - 1)
        else:
            written.set_result(None)

    async def fn() -> Answer:
        answer = await world.fetch()
        world.tasks.append(written)
        loop.call_soon(write, answer, 6)
        await world.point()
        return answer

    world.start(world.ask(KEY, fn))


async def initial_data(world: World) -> None:
    """An entry that begins with what another one holds."""

    def first() -> object:
        return world.client.get_query_data(("list",))

    await asyncio.sleep(0)
    world.start(world.ask(("list",), world.fetch))
    for number in range(5):
        await asyncio.sleep(0)
        world.start(world.ask(("item", number), world.fetch, initial_data=first, stale_time=60))


async def stubborn(world: World) -> None:
    """A function that refuses to be cancelled, and returns what it got."""

    async def fn() -> Answer:
        answer = await world.fetch()
        for _ in range(4):
            try:
                await world.point()
            except asyncio.CancelledError:
                continue
        return answer

    world.start(world.ask(KEY, fn))


SCENARIOS = (
    plain, late_joiner, retried, refused, shared_connection, composite, composite_of_three, fallback,
    fallback_of_a_thread, previous_data, stale_if_error, not_modified, sharing, observed, held, late_writes,
    late_callbacks, initial_data, stubborn,
)  # fmt: skip


OBSERVING = (composite_of_three, fallback, sharing, observed)
RACES = [
    pytest.param(scenario, place, id=f"{scenario.__name__}-{place}")
    for scenario in SCENARIOS
    for place in PLACES
    if place != "reader" or scenario in OBSERVING
]


@pytest.mark.no_cover  # thousands of runs of what other tests cover: twice as fast without
@pytest.mark.parametrize("attack", ["logout", "change"])
@pytest.mark.parametrize("scenario, place", RACES)
async def test_S3_nothing_of_the_old_login_survives(scenario, place, attack):
    """At every await point, from every place: see `tests/logins.py`."""
    asyncio.get_running_loop().set_debug(False)  # thousands of runs: five times as fast without
    step = 0
    while await World(attack, place, step).run(scenario):
        step += 1
    assert step > 0
