"""What every test gets: a watched loop, in real or virtual time, with ordinary or eager tasks.

An async test fails if it leaves a task or a timer behind, or if its loop was told of an error that the
test did not take from `reported`. `@pytest.mark.virtual_time` makes its sleeps take no time. With
QUERYKIT_EAGER=1 in the environment every test's loop starts its tasks at once (Python 3.12 and later).
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from looptime import make_event_loop_class
from pytest_asyncio import is_async_test

EAGER = os.environ.get("QUERYKIT_EAGER", "") not in ("", "0")
TURNS = 10  # of the loop, in which what was cancelled or closed may end by itself
CALL_FAILED = pytest.StashKey[bool]()


class Reported(list[dict[str, Any]]):
    """The contexts the loop's exception handler was called with; what is left at the end fails the test."""

    def take(self) -> list[dict[str, Any]]:
        """All of them, which this list then forgets."""
        taken = list(self)
        self.clear()
        return taken


@pytest.fixture
def reported() -> Reported:
    return Reported()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> None:
    """Watch the loop of an async test; a test without a loop gets none."""
    if is_async_test(request.node):
        request.getfixturevalue("watched_loop")


@pytest.fixture
async def watched_loop(request: pytest.FixtureRequest, reported: Reported) -> AsyncIterator[None]:
    """Set up before the test's other fixtures and torn down after them, in the loop of the test."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    yield
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if request.node.stash.get(CALL_FAILED, False):
        return  # what it left is a consequence
    if left := tasks_left() + timers_left(loop):
        pytest.fail("The test left behind:\n  " + "\n  ".join(left), pytrace=False)
    gc.collect()  # a task whose error nobody asked for says so when it is collected
    if reported:
        told = "\n  ".join(describe(context) for context in reported)
        pytest.fail(f"The loop was told of errors that the test did not take:\n  {told}", pytrace=False)


def tasks_left() -> list[str]:
    return [f"task {task!r}" for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def timers_left(loop: asyncio.AbstractEventLoop) -> list[str]:
    scheduled: list[asyncio.TimerHandle] = loop._scheduled
    return [f"timer {timer!r}" for timer in scheduled if not timer.cancelled()]


def describe(context: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in context.items() if name != "source_traceback")


def pytest_configure(config: pytest.Config) -> None:
    if EAGER and sys.version_info < (3, 12):
        raise pytest.UsageError("QUERYKIT_EAGER needs Python 3.12 or later: older ones have no eager tasks")


def pytest_report_header(config: pytest.Config) -> str:
    return f"tasks: {'eager' if EAGER else 'ordinary'}"


@pytest.fixture(autouse=True, scope="module")
def collections_look_at_one_module() -> None:
    """What is alive before a module's tests is not looked at by the collection after each of them."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"virtual" if virtual else "real": new_virtual_loop if virtual else new_real_loop}


def new_real_loop() -> asyncio.AbstractEventLoop:
    return with_tasks(asyncio.new_event_loop())


class VirtualTimeLoop(make_event_loop_class(asyncio.SelectorEventLoop)):
    """Its clock begins at 0 and jumps to the next timer when nothing is ready and no thread works for it."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Without the runner's time limit: the clock would jump to its end while threads still run."""
        await super().shutdown_default_executor()


def new_virtual_loop() -> asyncio.AbstractEventLoop:
    return with_tasks(VirtualTimeLoop(start=0, noop_cycles=0))


def with_tasks(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    if EAGER and sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.when == "call":
        item.stash[CALL_FAILED] = report.failed
    return report
