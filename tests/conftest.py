"""What every test gets: a watched loop, in real or virtual time, with ordinary or eager tasks.

An async test fails if it leaves a task or a timer behind, or if its loop was told of an error that the
test did not take from `reported`. `@pytest.mark.virtual_time` makes its sleeps take no time. With
QUERYKIT_EAGER=1 in the environment every test's loop starts its tasks at once (Python 3.12 and later).

Loops are in debug mode, but do not note the stack of everything that is made: it takes most of a test's time.
With PYTHONASYNCIODEBUG=1 they do, and what is left behind says where it was made.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest
from looptime import make_event_loop_class
from pytest_asyncio import is_async_test

EAGER = os.environ.get("QUERYKIT_EAGER", "") not in ("", "0")
WITH_STACKS = bool(os.environ.get("PYTHONASYNCIODEBUG"))
TURNS = 10  # of the loop, in which what was cancelled or closed may end by itself
TESTS_A_FREEZE = 20
BEGUN = count(1)  # the tests of this process
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
    if next(BEGUN) % TESTS_A_FREEZE == 0:
        freeze()
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
    forget_applications()
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
    freeze()


def freeze() -> None:
    """What is alive by now is not looked at by the collection after each test: pytest keeps some of every test."""
    gc.collect()
    gc.freeze()


def forget_applications() -> None:
    """aiohttp's server keeps a thousand applications that have ended, and the backends behind them."""
    cached = getattr(sys.modules.get("aiohttp.web_app"), "_cached_build_middleware", None)
    if cached is not None:
        cached.cache_clear()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    virtual = item.get_closest_marker("virtual_time") is not None
    return {"virtual" if virtual else "real": new_virtual_loop if virtual else new_real_loop}


def nearest_frames(frame: FrameType | None = None, limit: int | None = None) -> list[tuple[str, int, str, None]]:
    """Where a callback or a timer was planned; asyncio itself takes up to three of these frames away again."""
    frame = frame or sys._getframe(1)
    found: list[tuple[str, int, str, None]] = []
    while frame is not None and len(found) < 4:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None))
        frame = frame.f_back
    return found[::-1]


if not WITH_STACKS:
    asyncio.format_helpers.extract_stack = nearest_frames


class QuickInDebugMode(asyncio.BaseEventLoop):
    """Its futures and tasks note no stack; all else that debug mode does, it does."""

    def create_future(self) -> asyncio.Future[Any]:
        return self._without_stack(super().create_future)

    def create_task(self, *args: Any, **options: Any) -> asyncio.Task[Any]:
        if self._debug:
            self._check_thread()
        if EAGER:  # the task begins in here, and debug mode is for it too
            return super().create_task(*args, **options)
        return self._without_stack(super().create_task, *args, **options)

    def _without_stack(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        debug, self._debug = self._debug, self._debug and WITH_STACKS
        try:
            return make(*args, **options)
        finally:
            self._debug = debug


UsualLoop = asyncio.ProactorEventLoop if sys.platform == "win32" else asyncio.SelectorEventLoop


class RealTimeLoop(QuickInDebugMode, UsualLoop):
    """What `asyncio.new_event_loop` would make."""


def new_real_loop() -> asyncio.AbstractEventLoop:
    return with_tasks(RealTimeLoop())


class VirtualTimeLoop(QuickInDebugMode, make_event_loop_class(asyncio.SelectorEventLoop)):
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
