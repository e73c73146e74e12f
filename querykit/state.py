"""What a query's state is, and the pure functions that judge it. No clock here: `now` is an argument."""

import enum
import math
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

__all__ = [
    "Direction",
    "FetchStatus",
    "LivePhase",
    "LiveState",
    "NetworkMode",
    "QueryState",
    "Skip",
    "StaleTime",
    "Status",
    "skip",
]

T = TypeVar("T")

Status: TypeAlias = Literal["pending", "success", "error"]
FetchStatus: TypeAlias = Literal["idle", "fetching", "paused"]
StaleTime: TypeAlias = float | Literal["static", "http"]
NetworkMode: TypeAlias = Literal["online", "always"]
Direction: TypeAlias = Literal["forward", "backward"]
LivePhase: TypeAlias = Literal["connecting", "live", "stale", "retrying", "stopped"]


class Unset(enum.Enum):
    """The type of `UNSET`: an argument that was not given, where `None` has a meaning of its own."""

    UNSET = enum.auto()


class NoData(enum.Enum):
    """The type of `NO_DATA`: a query that has no data, where `None` is valid data."""

    NO_DATA = enum.auto()


class Skip(enum.Enum):
    """The type of `skip`."""

    skip = enum.auto()


UNSET: Final = Unset.UNSET
NO_DATA: Final = NoData.NO_DATA
skip: Final = Skip.skip
"""In place of a query function: do not fetch. Returned by an updater: leave the entry as it is."""

NEVER: Final = -math.inf
"""The time of what has not happened: older than any age."""


class QueryState(Struct, Generic[T], frozen=True, eq=False):
    """A snapshot of one query's state, built when asked for.

    Times are readings of the client's clock, in seconds. Two states are never equal, since
    comparing them would compare users' data.
    """

    data: T | None
    """The data, or None where there is none: `has_data` tells the two apart."""
    has_data: bool
    data_updated_at: float | None
    data_update_count: int
    error: BaseException | None
    """The last fetch's error: a copy without traceback."""
    error_updated_at: float | None
    error_update_count: int
    fetch_failure_count: int
    """How often the present fetch has failed, retries included; 0 after a success."""
    fetch_failure_reason: BaseException | None
    is_invalidated: bool
    status: Status
    fetch_status: FetchStatus


class LiveState(Struct, frozen=True, eq=False):
    """What a live query's source is doing: see `querykit.live`."""

    phase: LivePhase
    """`connecting`: no value has come yet; `live`; `stale`: it was asked for a new first value, which has not come;
    `retrying`: it has failed or ended, and is started again; `stopped`: nobody follows it."""
    since: float
    """When this phase began, a reading of the client's clock in seconds."""
    error: BaseException | None
    """Why it last failed: a copy without traceback; None since it is live again."""


def is_fresh(valid_at: float, stale_time: StaleTime, learned: float, now: float, *, has_data: bool) -> bool:
    """Whether data may be used without asking again.

    Args:
        valid_at: when the data was current, or `NEVER` if there is none or it was invalidated.
        stale_time: the age in seconds at which it is stale; `"static"` is never, `"http"` is `learned`.
        learned: the freshness in seconds that the transport read from the response.
        now: the time, on the clock of `valid_at`.
        has_data: whether there is data, perhaps invalidated.
    """
    if stale_time == "static":
        return has_data
    return now - valid_at < (learned if stale_time == "http" else stale_time)
