"""Whether and when a failed attempt is made again (S9)."""

from __future__ import annotations

import gc
import math
import ssl
import weakref
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given, strategies as st

from querykit.errors import ApiError, InvalidBody, QueryTimeout, RequestTimeout, Unreachable
from querykit.retry import MAX_DELAY, RetryPolicy, attempt, full_jitter, is_transient, retry_after

HOST = ConnectionKey("api.test", 443, True, True, None, None, None, None)
UNTRUSTED = ssl.SSLCertVerificationError(1, "self signed")


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


class Busy(Exception):
    retryable: object = True


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        QueryTimeout(("me",), 3),
        RequestTimeout("slow", status=408),
        Unreachable("away", status=502),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientConnectorError(HOST, OSError(111, "refused")),
        aiohttp.ClientConnectorSSLError(HOST, ssl.SSLError(1, "handshake")),
        aiohttp.ClientPayloadError("half"),
        aiohttp.ServerTimeoutError(),
        Busy(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_S9_an_error_that_may_pass_is_retried(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        OSError("disk"),
        InvalidBody("no JSON", status=200),
        ApiError("no status"),
        aiohttp.InvalidURL("::"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_S9_another_error_is_not_retried(error):
    assert not is_transient(error)


@given(st.integers(100, 700))
def test_S9_408_429_and_5xx_are_retried_and_no_other_status(status):
    assert is_transient(ApiError("no", status=status)) is (status in (408, 429) or 500 <= status <= 599)


@pytest.mark.parametrize("value", [False, None, 1, "yes"])
def test_S9_only_a_retryable_attribute_that_is_True_counts(value):
    error = Busy()
    error.retryable = value
    assert not is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        UNTRUSTED,
        aiohttp.ClientConnectorCertificateError(HOST, UNTRUSTED),
        aiohttp.ServerFingerprintMismatch(b"a", b"b", "api.test", 443),
        caused(Unreachable("away", status=502), UNTRUSTED),
        caused(Unreachable("away", status=502), caused(ConnectionError(), UNTRUSTED)),
        caused(Busy(), UNTRUSTED),
    ],
    ids=lambda error: f"{type(error).__name__} from {error.__cause__!r}",
)
def test_S9_a_refused_certificate_is_never_retried(error):
    assert not is_transient(error)
    assert not is_transient(error, also=(Exception,)), "not even where the caller names its class"


def test_S9_a_cycle_of_causes_ends():
    one, two = ConnectionError(), ConnectionError()
    one.__cause__, two.__cause__ = two, one
    assert is_transient(one)


def test_S9_retry_on_adds_to_what_is_transient():
    assert is_transient(LookupError(), also=(LookupError, ValueError))
    assert is_transient(KeyError(), also=(LookupError,))
    assert is_transient(ConnectionError(), also=(LookupError,))


# The policy


def policy(retry: Any = 3, delay: Any = None, retry_on: Any = ()) -> RetryPolicy:
    return RetryPolicy(retry, delay, retry_on)


@given(st.integers(0, 10), st.integers(1, 20))
def test_S9_a_number_permits_so_many_retries_of_transient_errors(retry, failures):
    assert policy(retry).wants(failures, ConnectionError()) is (failures <= retry)
    assert not policy(retry).wants(failures, ValueError())
    assert policy(retry, retry_on=(ValueError,)).wants(failures, ValueError()) is (failures <= retry)


def test_S9_infinitely_many_keep_the_filter():
    assert policy(math.inf).wants(10**9, ConnectionError())
    assert not policy(math.inf).wants(1, ValueError())


def test_S9_a_callable_decides_alone_and_counts_from_1():
    asked: list[tuple[int, BaseException]] = []

    def rule(failures, error):
        asked.append((failures, error))
        return failures < 2

    error = ValueError("no")
    assert policy(rule).wants(1, error) is True
    assert policy(rule).wants(2, error) is False
    assert asked == [(1, error), (2, error)]
    assert policy(lambda failures, error: "yes").wants(1, UNTRUSTED) is True


@given(st.integers(1, 10_000))
def test_S9_the_delay_is_exponential_with_full_jitter_and_capped(failures):
    longest: list[float] = []
    delay = policy().delay_after(failures, ConnectionError(), lambda most: longest.append(most) or most)
    assert delay == longest[0] == min(2 ** min(failures - 1, 20), MAX_DELAY)
    assert 0 <= policy().delay_after(failures, ConnectionError(), full_jitter) <= delay


@given(st.floats(0, 1e6))
def test_S9_full_jitter_draws_between_nothing_and_the_longest(longest):
    assert 0 <= full_jitter(longest) <= longest


def test_S9_a_number_or_a_callable_is_the_exact_delay():
    assert policy(delay=2.5).delay_after(7, ConnectionError(), full_jitter) == 2.5
    rule = policy(delay=lambda failures, error: failures * 10)
    assert rule.delay_after(3, ConnectionError(), full_jitter) == 30
    assert policy(delay=lambda failures, error: -1).delay_after(1, ConnectionError(), full_jitter) == 0


@given(st.floats(0, 100), st.floats(0, 100))
def test_S9_what_the_server_asks_for_is_the_least(delay, asked):
    error = ApiError("slow down", status=429, retry_after=asked)
    assert policy(delay=delay).delay_after(1, error, full_jitter) == max(delay, asked)
    assert policy().delay_after(1, error, lambda most: 0) == asked


@pytest.mark.parametrize(("value", "seconds"), [(3, 3.0), (0.5, 0.5), ("3", 0.0), (None, 0.0)])
def test_S9_a_retry_after_that_is_no_number_asks_for_nothing(value, seconds):
    error = Busy()
    error.retry_after = value
    assert retry_after(error) == seconds
    assert retry_after(ValueError()) == 0


# Attempts, one after the other


class Bench:
    """A call that fails as told, and what it slept."""

    def __init__(self, *outcomes: object, time_left: float = math.inf) -> None:
        self.outcomes = list(outcomes)
        self.slept: list[float] = []
        self.failures: list[tuple[int, Exception]] = []
        self.of_use = True
        self.time_left = time_left

    async def call(self) -> object:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def failed(self, failures: int, error: Exception) -> bool:
        self.failures.append((failures, error))
        return self.of_use

    async def run(self, policy: RetryPolicy) -> object:
        return await attempt(
            self.call,
            policy,
            failed=self.failed,
            time_left=lambda: self.time_left,
            sleep=self.sleep,
            jitter=lambda longest: longest,
        )


async def test_S9_an_answer_ends_the_attempts():
    bench = Bench("pods")
    assert await bench.run(policy()) == "pods"
    assert bench.slept == []


async def test_trap_21_retry_n_makes_n_plus_1_calls_and_raises_the_last_error():
    errors = [ConnectionError(number) for number in range(5)]
    bench = Bench(*errors)
    with pytest.raises(ConnectionError) as caught:
        await bench.run(policy(2))
    assert caught.value is errors[2]
    assert len(bench.outcomes) == 2
    assert bench.slept == [1, 2]
    assert bench.failures == [(1, errors[0]), (2, errors[1]), (3, errors[2])]


async def test_S9_a_success_after_failures_is_the_answer():
    assert await Bench(ConnectionError(), ConnectionError(), "pods").run(policy()) == "pods"


async def test_S9_other_errors_are_raised_at_once():
    bench = Bench(ValueError("no"), "pods")
    with pytest.raises(ValueError, match="no"):
        await bench.run(policy())
    assert bench.slept == []


async def test_S9_nothing_is_tried_again_once_it_is_of_no_use():
    bench = Bench(ConnectionError(), "pods")
    bench.of_use = False
    with pytest.raises(ConnectionError):
        await bench.run(policy())
    assert bench.slept == []


@pytest.mark.parametrize("asked", [60.1, 3600, math.inf])
@pytest.mark.parametrize("retry", [3, lambda failures, error: True], ids=["a number", "a callable"])
async def test_S9_a_server_that_asks_for_more_than_a_minute_is_not_waited_for(asked, retry):
    bench = Bench(ApiError("later", status=503, retry_after=asked), "pods")
    with pytest.raises(ApiError, match="later"):
        await bench.run(policy(retry))
    assert bench.slept == []


async def test_S9_nor_one_that_asks_for_more_than_the_time_left():
    bench = Bench(ApiError("later", status=503, retry_after=10), "pods", time_left=9.9)
    with pytest.raises(ApiError, match="later"):
        await bench.run(policy())
    bench = Bench(ApiError("later", status=503, retry_after=10), "pods", time_left=10)
    assert await bench.run(policy()) == "pods"
    assert bench.slept == [10]


async def test_S9_exactly_a_minute_is_waited_for():
    bench = Bench(ApiError("later", status=429, retry_after=60), "pods")
    assert await bench.run(policy()) == "pods"
    assert bench.slept == [60]


async def test_S9_a_cancellation_and_an_interrupt_are_no_failures():
    bench = Bench(KeyboardInterrupt(), "pods")
    with pytest.raises(KeyboardInterrupt):
        await bench.run(policy(lambda failures, error: True))
    assert bench.failures == []


async def test_trap_28_an_error_is_let_go_while_the_next_attempt_waits():
    """A retry delay is long: meanwhile nothing may pin the failed attempt's frames."""

    class Lost(ConnectionError):
        """One that can be referred to weakly."""

    error = Lost()
    seen = weakref.ref(error)
    alive: list[bool] = []

    async def sleep(seconds: float) -> None:
        gc.collect()
        alive.append(seen() is not None)

    outcomes: list[Any] = ["pods", error]
    del error

    async def call() -> object:
        if isinstance(outcomes[-1], str):
            return outcomes[-1]
        raise outcomes.pop()

    answer = await attempt(
        call, policy(), failed=lambda *_: True, time_left=lambda: math.inf, sleep=sleep, jitter=lambda longest: longest
    )
    assert answer == "pods"
    assert alive == [False]
