"""The watch over tests' loops in conftest.py: what it fails, what it lets pass, virtual time, eager tasks."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SAMPLES = """
import asyncio, threading, warnings
import pytest

async def fails():
    raise ValueError("nobody asks for me")

async def test_leaves_a_task():
    asyncio.create_task(asyncio.sleep(100), name="the straggler")

async def test_leaves_a_timer():
    asyncio.get_running_loop().call_later(100, print, "the late one")

@pytest.fixture
async def leaky():
    yield
    asyncio.create_task(asyncio.sleep(100), name="left by a fixture")

async def test_has_a_leaky_fixture(leaky):
    pass

async def test_fails_and_leaves():
    asyncio.create_task(asyncio.sleep(100))
    raise LookupError("its own fault")

async def test_cancels_what_it_began():
    asyncio.create_task(asyncio.sleep(100)).cancel()
    asyncio.get_running_loop().call_later(100, print).cancel()

@pytest.fixture
async def tidy():
    task = asyncio.create_task(asyncio.sleep(100))
    yield
    task.cancel()

async def test_has_a_tidy_fixture(tidy):
    pass

async def test_loses_an_error():
    asyncio.create_task(fails())
    await asyncio.sleep(0)

async def test_loses_an_error_in_a_circle():
    task = asyncio.create_task(fails())
    circle = [task]
    circle.append(circle)
    await asyncio.sleep(0)

async def test_loses_an_error_in_a_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)

async def test_takes_an_error(reported):
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    (context,) = reported.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    assert not reported

async def test_forgets_an_await():
    asyncio.sleep(0)

def test_warns():
    warnings.warn("mind the gap")

def test_leaves_a_thread_error():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

@pytest.mark.virtual_time
async def test_leaves_a_timer_in_virtual_time():
    asyncio.get_running_loop().call_later(100, print)
    await asyncio.sleep(50)

@pytest.mark.virtual_tyme
async def test_misspells_its_mark():
    pass
"""

PASS = {"test_cancels_what_it_began", "test_has_a_tidy_fixture", "test_takes_an_error"}
FAILURES = {
    "test_leaves_a_task": "the straggler",
    "test_leaves_a_timer": "the late one",
    "test_has_a_leaky_fixture": "left by a fixture",
    "test_fails_and_leaves": "its own fault",
    "test_loses_an_error": "nobody asks for me",
    "test_loses_an_error_in_a_circle": "nobody asks for me",
    "test_loses_an_error_in_a_callback": "division by zero",
    "test_forgets_an_await": "was never awaited",
    "test_warns": "mind the gap",
    "test_leaves_a_thread_error": "PytestUnhandledThreadExceptionWarning",
    "test_leaves_a_timer_in_virtual_time": "<TimerHandle",
}


def run_pytest(folder: Path, samples: str, **environment: str) -> str:
    """What a pytest of its own says of `samples` under this project's pyproject.toml and conftest.py."""
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "tests" / "test_samples.py").write_text(samples, "utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = inherited | {"QUERYKIT_EAGER": "", "COLUMNS": "200"} | environment
    command = [sys.executable, "-m", "pytest", "-v", "-rA", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50)
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> tuple[dict[str, set[str]], str]:
    """Of each sample, what pytest said of it, and all that pytest said."""
    without_typo = SAMPLES.replace("@pytest.mark.virtual_tyme", "")
    said = run_pytest(tmp_path_factory.mktemp("samples"), without_typo)
    found: dict[str, set[str]] = {}
    for verdict, name in re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", said, re.MULTILINE):
        found.setdefault(name, set()).add(verdict)
    return found, said


@pytest.mark.parametrize("name", FAILURES)
def test_a_test_that_leaves_something_behind_fails(verdicts, name):
    found, said = verdicts
    why = FAILURES[name]
    assert found[name] & {"FAILED", "ERROR"}, said
    assert re.search(rf"_ (ERROR at teardown of )?{name} _.*?{re.escape(why)}", said, re.DOTALL), said


def test_a_test_that_failed_by_itself_is_not_blamed_twice(verdicts):
    assert verdicts[0]["test_fails_and_leaves"] == {"FAILED"}


@pytest.mark.parametrize("name", sorted(PASS))
def test_a_test_that_cleans_up_passes(verdicts, name):
    assert verdicts[0][name] == {"PASSED"}


def test_an_unknown_mark_is_an_error(tmp_path):
    assert "'virtual_tyme' not found in `markers`" in run_pytest(tmp_path, SAMPLES)


async def test_loop_debug_is_on():
    assert asyncio.get_running_loop().get_debug()


async def test_debug_mode_sees_what_another_thread_may_not_do():
    loop = asyncio.get_running_loop()
    coroutine = asyncio.sleep(0)
    for act in (lambda: loop.call_soon(print), lambda: loop.create_task(coroutine)):
        with pytest.raises(RuntimeError, match="Non-thread-safe"):
            await asyncio.to_thread(act)
    coroutine.close()


async def test_debug_mode_says_where_a_callback_was_planned():
    loop = asyncio.get_running_loop()
    handles = loop.call_soon(print), loop.call_later(1, print), loop.call_at(loop.time() + 1, print)
    for handle in handles:
        handle.cancel()
        assert f"created at {__file__}:" in repr(handle)


async def test_debug_mode_is_on_in_a_task_from_its_first_step():
    async def look() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert await asyncio.create_task(look())


LEFT = """
import asyncio

async def test_leaves_a_task():
    asyncio.create_task(asyncio.Event().wait())
"""


@pytest.mark.parametrize("debug, stacks", [("", False), ("1", True)], ids=["quick", "with-stacks"])
def test_where_a_task_was_made_is_said_if_asyncio_is_told_to(tmp_path, debug, stacks):
    said = run_pytest(tmp_path, LEFT, PYTHONASYNCIODEBUG=debug)
    assert "The test left behind" in said
    assert ("created at" in said) is stacks


def test_a_test_without_a_coroutine_gets_no_loop(request):
    assert "watched_loop" not in request.fixturenames


# --- virtual time ---


@pytest.fixture
async def begun() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.virtual_time
async def test_virtual_time_begins_at_nought_and_fixtures_share_it(begun):
    assert begun == 0


@pytest.mark.virtual_time
async def test_a_virtual_hour_takes_no_time():
    really = time.monotonic()
    loop = asyncio.get_running_loop()
    await asyncio.sleep(3600)
    assert loop.time() == 3600
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(86_400):
            await asyncio.Event().wait()
    assert loop.time() == 90_000
    assert time.monotonic() - really < 1


@pytest.mark.virtual_time
async def test_virtual_timers_fire_in_order_and_never_early():
    loop = asyncio.get_running_loop()
    fired = []
    for delay in (0.3, 0.1, 0.2, 1e-9, 0.1000001):
        loop.call_later(delay, lambda delay=delay: fired.append((delay, loop.time())))
    await asyncio.sleep(1)
    assert [delay for delay, _ in fired] == [1e-9, 0.1, 0.1000001, 0.2, 0.3]
    assert all(at == pytest.approx(delay, abs=2e-6) and at >= delay - 1e-9 for delay, at in fired), fired


@pytest.mark.virtual_time
async def test_virtual_time_waits_for_a_thread():
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(3600):
        await asyncio.to_thread(time.sleep, 0.02)
    assert loop.time() < 60


async def test_real_time_is_real():
    loop = asyncio.get_running_loop()
    assert loop.time() == pytest.approx(time.monotonic(), abs=1)


# --- eager tasks ---

EAGER_SAMPLE = """
import asyncio
import pytest

async def begins_at_once():
    begun = []
    async def begin():
        begun.append(True)
        await asyncio.sleep(0)
        return len(begun)
    task = asyncio.create_task(begin())
    assert begun
    assert await task == 1

async def test_real(): await begins_at_once()

@pytest.mark.virtual_time
async def test_virtual(): await begins_at_once()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_mode_is_eager(tmp_path):
    said = run_pytest(tmp_path, EAGER_SAMPLE, QUERYKIT_EAGER="1")
    assert "tasks: eager" in said
    assert "2 passed" in said


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="3.12 and later have eager tasks")
def test_eager_mode_is_refused_where_there_is_none(tmp_path):
    assert "QUERYKIT_EAGER needs Python 3.12" in run_pytest(tmp_path, EAGER_SAMPLE, QUERYKIT_EAGER="1")


def test_tasks_are_ordinary_without_it(tmp_path):
    assert "2 failed" in run_pytest(tmp_path, EAGER_SAMPLE)
