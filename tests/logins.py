"""A world for the races of S3: an upstream that answers with the login of the moment, and a look everywhere.

An `Attack` ends the login, or changes it, at one step of one kind of place. From then on nothing that was
answered to the old login may be read, be delivered or be written; at the end nothing may even hold it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from querykit import Observation, Pending, QueryCancelled, QueryClient, QueryState, use_identity
from querykit.signals import query_updated

IDENTITY = ("cluster", "main")
OLD, NEW = "the old login", "the new login"
QUIET = 4  # turns of the loop in which nothing happens are the end
INSIDE = ("inside", "child", "thread")
PLACES = ("outside", "callback", "listener", "receiver", "reader", *INSIDE)


class Answer(dict[str, Any]):
    """What the upstream answered, and to whom; a weak reference can follow it."""


class Refused(Exception):
    """The upstream's error; it says to whom."""


class Work:
    """What one thread does, and whether anybody still waits for it."""

    is_wanted = True


class World:
    """One client under attack.

    Args:
        attack: "logout" or "change".
        place: where it happens, one of PLACES.
        step: at which occasion of that place, from 0.
    """

    def __init__(self, attack: str, place: str, step: int) -> None:
        self.client = QueryClient(sleep=self.sleep, jitter=lambda longest: longest)
        self.attack_name, self.place, self.step = attack, place, step
        self.login: str | None = OLD
        self.attacked = False
        self.observations: list[Observation[Any]] = []
        self.pendings: list[Pending] = []
        self.tasks: list[asyncio.Future[Any]] = []
        self._occasions = 0
        self._threads = ThreadPoolExecutor(thread_name_prefix="world")
        self._at_work: set[Work] = set()
        self._all_wait = asyncio.Event()
        self._all_wait.set()
        self._readers: list[asyncio.Task[None]] = []
        self._old: list[weakref.ref[Answer]] = []
        self._events: dict[tuple[object, int], Any] = {}

    # The attack

    def attack(self) -> None:
        """End or change the login, and look around before anything else happens."""
        self.attacked = True
        self.pendings.append(self.client.forget(IDENTITY))
        self.login = None
        if self.attack_name == "change":
            self.login = NEW
            self.pendings.append(self.client.forget(IDENTITY, restart=True))
        self.look()

    def occasion(self, place: str) -> bool:
        """Whether the attack is due, at this occasion of a place."""
        if place != self.place or self.attacked:
            return False
        self._occasions += 1
        return self._occasions == self.step + 1

    def plain(self, place: str) -> None:
        if self.occasion(place):
            self.attack()

    async def point(self) -> None:
        """An await point of a query function, and an occasion for attacks from inside."""
        await asyncio.sleep(0)
        if self.place in INSIDE and self.occasion(self.place):
            if self.place == "child":
                await asyncio.create_task(self._attack())
            elif self.place == "thread":
                await self.to_thread(lambda work: self.call(work, self.attack))
            else:
                self.attack()

    async def _attack(self) -> None:
        self.attack()

    # Threads: the turns of the loop are counted only while every one of them waits for the loop

    async def to_thread(self, fn: Callable[[Work], Any]) -> Any:
        """Let `fn` work in a thread, as a query function may."""
        work = Work()
        self._works(work, True)
        try:
            return await asyncio.to_thread(fn, work)
        finally:
            work.is_wanted = False
            self._works(work, False)

    def call(self, work: Work, fn: Callable[..., Any], *args: Any) -> Any:
        """Call the client from a thread, by its portal."""

        async def call() -> Any:
            self._works(work, False)
            try:
                result = fn(*args)
                return await result if inspect.isawaitable(result) else result
            finally:
                self._works(work, work.is_wanted)

        return self.client.portal.call(call)

    def _works(self, work: Work, at_work: bool) -> None:
        (self._at_work.add if at_work else self._at_work.discard)(work)
        (self._all_wait.clear if self._at_work else self._all_wait.set)()

    async def _join_threads(self) -> None:
        with ThreadPoolExecutor(1) as joiner:
            await asyncio.get_running_loop().run_in_executor(joiner, self._threads.shutdown)

    async def sleep(self, seconds: float) -> None:
        """The retry delay, in turns of the loop."""
        for _ in range(3):
            await self.point()

    # The upstream

    def use(self, name: str) -> Answer:
        """Use the credential of the moment."""
        use_identity(IDENTITY)
        if self.login is None:
            raise Refused("nobody is logged in")
        answer = Answer(name=name, login=self.login)
        if self.login == OLD:
            self._old.append(weakref.ref(answer))
        return answer

    async def fetch(self, name: str = "plain") -> Answer:
        """A request: it names nothing at first, and answers some turns after using the credential."""
        await self.point()
        answer = self.use(name)
        await self.point()
        await self.point()
        return answer

    async def refuse(self) -> Answer:
        answer = await self.fetch()
        raise Refused(answer["login"])

    # What is delivered

    def deliver(self, result: Any) -> None:
        """Someone got this; what is old may have come before the attack only."""
        if self.attacked:
            found = texts(result)
            own_error = isinstance(result, Exception) and self.place in INSIDE
            assert OLD not in found or own_error, f"delivered: {found}"

    async def ask(self, *args: Any, **options: Any) -> Any:
        """A caller, inside of a function or outside."""
        try:
            result = await self.client.query(*args, **options)
        except QueryCancelled:
            self.deliver(None)
            raise
        except Exception as error:
            self.deliver(error)
            raise
        self.deliver(result)
        return result

    def start(self, awaitable: Awaitable[Any]) -> None:
        """Let a caller run by himself: his error is his own."""

        async def run() -> None:
            try:
                self.deliver(await awaitable)
            except QueryCancelled:
                pass
            except (Refused, ConnectionError) as error:
                self.deliver(error)

        self.tasks.append(asyncio.create_task(run()))

    def observe(self, *args: Any, **options: Any) -> None:
        """Follow a key until the end."""
        observation = self.client.observe(*args, **options)
        self.observations.append(observation)

        async def read() -> None:
            async for result in observation:
                self.deliver(result)
                self.plain("reader")

        self._readers.append(asyncio.create_task(read()))

    # Looking

    def look(self) -> None:
        """Find nothing old, wherever a user can read."""
        client = self.client
        events = [*self._events.values()]
        queries = {id(query): query for query in (*client.cache, *(event.query for event in events))}
        read: list[object] = [client.get_queries_data()]
        for query in queries.values():
            read += (query.state, client.get_query_data(query.key), client.get_query_state(query.key))
        for observation in self.observations:
            try:
                read.append(observation.result)
            except RuntimeError:  # not yet open, or no longer
                continue
        if OLD in texts(read):
            pytest.fail(f"what is old is read: {[each for each in read if OLD in texts(each)]}")
        assert OLD not in repr([client, *client.cache, events, self.pendings, self.observations])

    def _heard(self, event: Any) -> None:
        self._events.setdefault((event.cause, id(event.query)), event)  # which keeps the query, and so its id
        self.plain("listener")

    def _received(self, sender: Any, **arguments: Any) -> None:
        self.plain("receiver")

    async def run(self, scenario: Callable[[World], Awaitable[None]]) -> bool:
        """Run a scenario under attack; return whether the attack had its occasion."""
        asyncio.get_running_loop().set_default_executor(self._threads)
        async with self.client as client:
            with client.cache.subscribe(self._heard), query_updated.connected_to(self._received, sender=client):
                self.tasks.append(asyncio.create_task(scenario(self)))
                quiet = 0
                while quiet < QUIET:
                    quiet = 0 if self._is_busy() else quiet + 1
                    self.plain("outside")
                    asyncio.get_running_loop().call_soon(self.plain, "callback")
                    await asyncio.sleep(0)
                    await self._all_wait.wait()
                    if self.attacked:
                        self.look()
            await self._end()
        return self.attacked

    def _is_busy(self) -> bool:
        return self.client.is_fetching() > 0 or not all(task.done() for task in self.tasks)

    async def _end(self) -> None:
        """Who observes has the new login's answer; nothing holds what is old."""
        for pending in self.pendings:
            try:
                await pending
            except (QueryCancelled, Refused) as error:
                self.deliver(error)
        for observation in self.observations:
            if self.attacked and self.login == NEW:
                assert NEW in texts(observation.result), f"not fetched again: {observation.result!r}"
            observation.close()
        for task in [*self.tasks, *self._readers]:
            await task
        if self.attacked:
            self.look()
            await self._nothing_old_is_held()
        self._threads.shutdown(wait=False)

    async def _nothing_old_is_held(self) -> None:
        self.tasks.clear()
        self.pendings.clear()
        await self._join_threads()
        for _ in range(10):
            await asyncio.sleep(0)
            self._old = [ref for ref in self._old if ref() is not None]
            if not self._old:
                return
            gc.collect()
        pytest.fail(f"what is old is still held, by {[gc.get_referrers(ref()) for ref in self._old]}")


def texts(value: object) -> list[str]:
    """All text in a value: in containers, states, errors and what errors hold."""
    found: list[str] = []
    seen: dict[int, object] = {}
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, str):
            found.append(part)
        elif part is None or id(part) in seen:
            continue
        elif isinstance(part, (list, tuple, set, frozenset)):
            seen[id(part)] = part
            parts.extend(part)
        elif isinstance(part, QueryState):
            parts += (part.data, part.error, part.fetch_failure_reason)
        elif isinstance(part, BaseException):
            seen[id(part)] = part
            parts += (part.args, part.__cause__, part.__context__, vars(part))
        elif isinstance(part, Mapping):
            seen[id(part)] = part
            parts += (*part, *part.values())
    return found
