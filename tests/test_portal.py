"""Calling a client from another thread (S12)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import sys
import threading

import pytest

from querykit.client import QueryClient
from querykit.errors import ClientClosed
from querykit.identity import use_identity


async def test_S12_from_a_thread_a_client_s_method_runs_in_its_loop():
    async with QueryClient() as client:
        assert await asyncio.to_thread(client.portal.call, client.query, ("me",), lambda: "ada") == "ada"
        ran_in = await asyncio.to_thread(client.portal.call, threading.get_ident)
        assert ran_in == threading.get_ident()


async def test_S12_what_can_be_awaited_is_awaited_and_what_cannot_is_returned():
    async with QueryClient() as client:
        client.set_query_data(("me",), "ada")
        assert await asyncio.to_thread(client.portal.call, client.get_query_data, ("me",)) == "ada"
        assert await asyncio.to_thread(client.portal.call, client.invalidate_queries, ("me",)) is None
        assert client.cache.find(("me",)).is_invalidated


async def test_S12_keywords_are_passed_and_errors_are_raised_in_the_thread():
    async def fail(*, why):
        raise LookupError(why)

    async with QueryClient() as client:
        with pytest.raises(LookupError, match="no luck"):
            await asyncio.to_thread(client.portal.call, fail, why="no luck")
    with pytest.raises(ClientClosed):
        await asyncio.to_thread(client.portal.call, client.query, ("me",), lambda: 1)


async def test_S12_under_its_own_loop_it_would_wait_for_itself():
    async with QueryClient() as client:
        with pytest.raises(RuntimeError, match="would wait for its own event loop: call the client's method directly"):
            client.portal.call(client.query, ("me",), lambda: 1)


def test_S12_without_a_running_loop_there_is_nothing_to_call():
    client = QueryClient()
    with pytest.raises(RuntimeError, match="the client's event loop is not running"):
        client.portal.call(client.query, ("me",), lambda: 1)

    async def use() -> None:
        async with client:
            pass

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="the client's event loop is not running"):
        client.portal.call(client.query, ("me",), lambda: 1)


async def test_S12_two_clients_on_two_loops_in_two_threads_reach_each_other_by_their_portals():
    began, end = threading.Event(), asyncio.Event()
    other: list[QueryClient] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        async with QueryClient() as client:
            other.append(client)
            loops.append(asyncio.get_running_loop())
            began.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    await asyncio.to_thread(began.wait)

    async with QueryClient() as client:
        client.set_query_data(("me",), "ada")

        async def fetch() -> str:
            return await asyncio.to_thread(other[0].portal.call, other[0].query, ("me",), lambda: "bob")

        assert await client.query(("other",), fetch) == "bob"
        assert client.get_query_data(("me",)) == "ada"
    loops[0].call_soon_threadsafe(end.set)
    await asyncio.to_thread(thread.join)


async def test_S3_what_runs_there_counts_as_part_of_the_query_function_that_the_thread_works_for():
    async with QueryClient() as client:

        def read_me() -> str:
            use_identity(("cluster", "prod"))
            return "ada"

        def work() -> str:
            return client.portal.call(client.query, ("me",), read_me)

        async def fetch() -> str:
            return await asyncio.to_thread(work)

        assert await client.query(("greeting",), fetch) == "ada"
        _ = client.forget(("cluster", "prod"))
        assert client.get_query_data(("greeting",)) is None


class Interrupted(BaseException):
    """What a signal handler raises."""


def is_waiting(thread: int) -> bool:
    """Whether a thread waits for a future's result."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not concurrent.futures.Future.result.__code__:
        frame = frame.f_back
    return frame is not None


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="it needs POSIX signals")
def test_a_thread_that_is_interrupted_stops_what_it_waits_for():
    began, cancelled = threading.Event(), threading.Event()
    main = threading.get_ident()
    clients: list[QueryClient] = []
    end: list[asyncio.Event] = []

    async def live() -> None:
        end.append(asyncio.Event())
        async with QueryClient() as client:
            clients.append(client)
            began.set()
            await end[0].wait()

    async def work() -> None:
        try:
            while not is_waiting(main):  # a signal before that interrupts the call, not the wait
                await asyncio.sleep(0)
            signal.pthread_kill(main, signal.SIGUSR1)
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            end[0].set()

    def interrupt(number, frame):
        raise Interrupted

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        thread.start()
        began.wait()
        with pytest.raises(Interrupted):
            clients[0].portal.call(work)
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()
    assert cancelled.is_set()
