"""Whether and when a failed attempt is made again (S9). It knows nothing of queries."""

import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp

from querykit.errors import ApiError

__all__ = ["is_transient"]

T = TypeVar("T")

BASE_DELAY: Final = 1.0
MAX_DELAY: Final = 30.0
MAX_RETRY_AFTER: Final = 60.0

RetryRule = Callable[[int, BaseException], bool]
DelayRule = Callable[[int, BaseException], float]

_TRANSIENT: Final = (ConnectionError, TimeoutError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
_CERTIFICATE: Final = (
    ssl.SSLCertVerificationError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
)


def full_jitter(longest: float) -> float:
    """Return a random delay between 0 and `longest` seconds."""
    return random.uniform(0, longest)


def is_transient(error: BaseException, also: tuple[type[BaseException], ...] = ()) -> bool:
    """Whether trying again may help.

    It may after a lost connection, a timeout, an `ApiError` of status 408, 429 or 5xx, an error with a true
    `retryable` attribute, or one of the types `also`; never after a certificate that was refused.

    Example:
        >>> is_transient(ConnectionResetError()), is_transient(ValueError())
        (True, False)
    """
    if _is_about_a_certificate(error):
        return False
    if isinstance(error, also) or getattr(error, "retryable", False) is True:
        return True
    if isinstance(error, ApiError):
        return error.status is not None and (error.status in (408, 429) or 500 <= error.status < 600)
    return isinstance(error, _TRANSIENT)


def _is_about_a_certificate(error: BaseException) -> bool:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, _CERTIFICATE):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after how long a failed fetch is tried again.

    Attributes:
        retry: how many times, or a rule `(failures, error) -> bool` that decides alone; `failures` counts from 1.
        delay: None for exponential backoff with full jitter; seconds, or `(failures, error) -> seconds`, exactly.
        retry_on: error types that are retried besides the transient ones.
    """

    retry: float | RetryRule
    delay: float | DelayRule | None
    retry_on: tuple[type[BaseException], ...]

    def wants(self, failures: int, error: BaseException) -> bool:
        """Whether to try again after this failure."""
        if callable(self.retry):
            return bool(self.retry(failures, error))
        return failures <= self.retry and is_transient(error, self.retry_on)

    def delay_after(self, failures: int, error: BaseException, jitter: Callable[[float], float]) -> float:
        """Return the seconds to wait; a server's `Retry-After` is the least."""
        if self.delay is None:
            delay = jitter(min(BASE_DELAY * 2 ** min(failures - 1, 10), MAX_DELAY))
        else:
            delay = self.delay(failures, error) if callable(self.delay) else self.delay
        return max(delay, retry_after(error), 0.0)


def retry_after(error: BaseException) -> float:
    """Return the seconds that the server asked to wait, or 0."""
    asked = getattr(error, "retry_after", None)
    return float(asked) if isinstance(asked, (int, float)) else 0.0


async def attempt(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    failed: Callable[[int, Exception], bool],
    time_left: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]],
    jitter: Callable[[float], float],
) -> T:
    """Call until it succeeds or the policy gives up; then the last error is raised.

    Args:
        call: makes one attempt.
        policy: decides on the retries.
        failed: told of each failure; returns whether a retry is still of use.
        time_left: the seconds until the whole must be done: no wait that a server asked for goes beyond.
        sleep: waits the seconds it is given.
        jitter: draws a delay up to the seconds it is given.
    """
    failures = 0
    while True:
        try:
            return await call()
        except Exception as error:
            failures += 1
            if not failed(failures, error) or not policy.wants(failures, error):
                raise
            if retry_after(error) > min(MAX_RETRY_AFTER, time_left()):
                raise
            delay = policy.delay_after(failures, error, jitter)
        await sleep(delay)
