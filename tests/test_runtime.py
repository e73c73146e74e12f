"""The loop that a client lives on: its clock, tasks and reports (S12)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from querykit.errors import ClientClosed, WrongThread
from querykit.runtime import Life, Runtime, running_loop


def make(**arguments: Any) -> Runtime:
    return Runtime(on_bind=arguments.pop("on_bind", lambda now: None), **arguments)


def in_thread(fn: Callable[[], object]) -> object:
    """What `fn` returns, or raises, in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(fn())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


# Binding


def test_S12_no_running_loop_is_needed_before_the_first_fetch():
    runtime = make(clock=lambda: 50.0)
    runtime.check()
    assert runtime.loop is None
    assert runtime.now() == 0.0, "before there is a loop there is no time: what is set has an age"
    with pytest.raises(RuntimeError, match="a fetch needs a running event loop: call this from a coroutine"):
        runtime.bound_loop()


async def test_S12_the_first_call_under_a_running_loop_binds():
    bound: list[float] = []
    runtime = make(on_bind=bound.append)
    before = time.monotonic()
    runtime.check()
    runtime.check()
    assert runtime.bound_loop() is asyncio.get_running_loop()
    assert len(bound) == 1
    assert before <= bound[0] <= time.monotonic()


@pytest.mark.virtual_time
async def test_S4_the_clock_is_the_loop_s_so_that_virtual_time_works_as_it_is():
    runtime = make()
    runtime.check()
    began = runtime.now()
    await asyncio.sleep(1000)
    assert runtime.now() - began == pytest.approx(1000)


async def test_S4_a_plain_loop_s_clock_is_read_without_a_frame_between():
    runtime = make()
    runtime.check()
    assert runtime.now is time.monotonic


async def test_the_clock_may_be_an_argument():
    bound: list[float] = []
    runtime = make(clock=lambda: 50.0, on_bind=bound.append)
    runtime.check()
    assert (runtime.now(), bound) == (50.0, [50.0])


async def test_S12_another_thread_gets_an_error_that_names_the_portal():
    runtime = make()
    runtime.check()
    error = await asyncio.to_thread(in_thread, runtime.check)
    assert isinstance(error, WrongThread)
    assert isinstance(error, RuntimeError)
    assert "client.portal.call" in str(error)


async def test_S12_another_loop_in_another_thread_gets_it_too():
    runtime = make()
    runtime.check()

    async def use() -> None:
        runtime.check()

    assert isinstance(await asyncio.to_thread(in_thread, lambda: asyncio.run(use())), WrongThread)


def test_S12_another_loop_in_the_same_thread_gets_it_too():
    runtime = make()

    async def use() -> None:
        runtime.check()

    asyncio.run(use())
    with pytest.raises(WrongThread):
        asyncio.run(use())
    runtime.check()  # the same thread, and no loop: nothing can run meanwhile


def test_S12_a_client_made_in_one_thread_may_live_in_another():
    runtime = make()

    async def use() -> bool:
        runtime.check()
        return runtime.bound_loop() is asyncio.get_running_loop()

    assert in_thread(lambda: asyncio.run(use())) is True
    with pytest.raises(WrongThread):
        runtime.check()


async def test_a_closed_client_is_an_error_but_for_what_may_still_be_done():
    runtime = make()
    runtime.life = Life.CLOSED
    with pytest.raises(ClientClosed, match="was closed: make a new one"):
        runtime.check()
    runtime.check_thread()
    assert runtime.loop is asyncio.get_running_loop()


def test_running_loop_is_None_where_none_runs():
    assert running_loop() is None


# Tasks


async def test_a_task_has_a_name_and_runs_in_its_context():
    runtime = make()
    runtime.check()
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 5)

    async def work() -> tuple[int, str]:
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return variable.get(), "" if task is None else task.get_name()

    assert await runtime.spawn(work(), "at work", context) == (5, "at work")
    assert await runtime.spawn(work(), "at work") == (0, "at work")


async def test_the_error_of_an_owned_task_is_reported(reported):
    runtime = make()
    runtime.check()

    async def fail() -> None:
        raise LookupError("no")

    runtime.spawn(fail(), "at work")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (context,) = reported.take()
    assert context["message"] == "querykit: at work raised LookupError"
    assert repr(context["exception"]) == "LookupError('no')"


class Ended(asyncio.Future[Any]):
    """What an eager task factory (Python 3.12) returns for a coroutine that never waits."""

    def __init__(self, loop, coro, **options):
        super().__init__(loop=loop)
        self.name = options.get("name")
        try:
            coro.send(None)
        except StopIteration as stop:
            self.set_result(stop.value)
        except LookupError as error:
            self.set_exception(error)

    def set_name(self, name):
        self.name = name

    def get_name(self):
        return self.name


async def test_S1_an_eager_task_that_has_ended_already_is_done_with_at_once(reported):
    runtime = make()
    runtime.check()
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    loop.set_task_factory(Ended)

    async def work() -> int:
        return 5

    async def fail() -> None:
        raise LookupError("no")

    try:
        task = runtime.spawn(work(), "at work")
        assert runtime.spawn(fail(), "at work").done()
    finally:
        loop.set_task_factory(factory)
    assert task.result() == 5
    assert not runtime._tasks
    assert [context["message"] for context in reported.take()] == ["querykit: at work raised LookupError"]


async def test_a_cancelled_task_is_no_error(reported):
    runtime = make()
    runtime.check()
    task = runtime.spawn(asyncio.sleep(100), "at work")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reported == []


@pytest.mark.virtual_time
async def test_winding_up_cancels_all_tasks_but_those_to_spare():
    runtime = make()
    runtime.check()
    one, spared = runtime.spawn(asyncio.sleep(100), "one"), runtime.spawn(asyncio.sleep(100), "spared")
    await runtime.wind_up([spared], grace=5)
    assert one.cancelled()
    assert not spared.done()
    assert runtime.now() == 0
    await runtime.wind_up([], grace=5)
    assert spared.cancelled()
    await runtime.wind_up([], grace=5)


@pytest.mark.virtual_time
async def test_S2_a_task_that_refuses_to_be_cancelled_is_abandoned_and_reported(reported):
    runtime = make()
    runtime.check()

    async def refuse() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(20)

    task = runtime.spawn(refuse(), "querykit fetch of ('me',)")
    await asyncio.sleep(0)
    await runtime.wind_up([], grace=5)
    assert runtime.now() == pytest.approx(5)
    (context,) = reported.take()
    assert "querykit fetch of ('me',) refuses to be cancelled and was abandoned after 5 s" in context["message"]
    await task


# Timers and other threads


@pytest.mark.virtual_time
async def test_a_callback_comes_when_the_client_s_clock_says_so():
    called: list[float] = []
    loop = asyncio.get_running_loop()
    runtime = make(clock=lambda: loop.time() + 1000)
    runtime.check()
    runtime.later(1005, lambda: called.append(runtime.now()))
    runtime.later(900, lambda: called.append(runtime.now()))
    await asyncio.sleep(10)
    assert called == [pytest.approx(1000), pytest.approx(1005)]


async def test_a_callback_for_the_client_s_thread_is_called_at_once_there():
    runtime = make()
    called: list[int] = []
    runtime.in_thread(lambda: called.append(0))
    assert called == [], "it has no thread yet"
    runtime.check()
    runtime.in_thread(lambda: called.append(threading.get_ident()))
    assert called == [threading.get_ident()]


async def test_a_callback_from_another_thread_comes_soon():
    runtime = make()
    runtime.check()
    called: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    await asyncio.to_thread(runtime.in_thread, lambda: called.set_result(threading.get_ident()))
    assert await called == threading.get_ident()


def test_a_callback_for_a_loop_that_was_closed_is_dropped():
    runtime = make()

    async def bind() -> None:
        runtime.check()

    in_thread(lambda: asyncio.run(bind()))
    called: list[int] = []
    runtime._thread = -1  # a thread's number may be used again
    runtime.in_thread(lambda: called.append(0))
    assert called == []


# Reports


async def test_S8_a_report_goes_to_the_loop_s_exception_handler(reported):
    runtime = make()
    runtime.check()
    error = ValueError("no")
    runtime.report("a listener raised", error)
    assert reported.take() == [{"message": "querykit: a listener raised", "exception": error}]


def test_S8_before_there_is_a_loop_it_goes_to_the_log(caplog):
    with caplog.at_level(logging.ERROR, "querykit"):
        make().report("a listener raised", ValueError("no"))
    (record,) = caplog.records
    assert record.message == "a listener raised"
    assert record.exc_info[1].args == ("no",)


async def test_S8_or_to_the_client_s_own_report(reported):
    told: list[tuple[str, BaseException]] = []
    runtime = make(report=lambda message, error: told.append((message, error)))
    runtime.check()
    error = ValueError("no")
    runtime.report("a listener raised", error)
    assert told == [("a listener raised", error)]
    assert reported == []


def test_S8_a_report_that_raises_breaks_nothing(caplog):
    def fail(message, error):
        raise LookupError("no room")

    with caplog.at_level(logging.ERROR, "querykit"):
        make(report=fail).report("a listener raised", ValueError("no"))
    (record,) = caplog.records
    assert record.message == "the client's report raised an error when told: a listener raised"
    assert record.exc_info[0] is LookupError


async def test_a_task_that_has_ended_is_not_kept():
    runtime = make()
    runtime.check()
    await runtime.spawn(asyncio.sleep(0), "short")
    await asyncio.sleep(0)
    gc.collect()
    assert not runtime._tasks
