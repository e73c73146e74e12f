"""One key's data and what is known of it. Only the methods here write these fields."""

import enum
from collections.abc import Hashable
from typing import Any, Final

from querykit.errors import QueryCancelled
from querykit.identity import Identities, merged
from querykit.keys import FrozenKey, QueryKey, freeze, is_ambiguous, snapshot
from querykit.state import NEVER, NO_DATA, Direction, FetchStatus, QueryState, StaleTime, Status, is_fresh

__all__ = ["Cause"]

_NOBODY: Final[Identities] = {}


class Cause(enum.StrEnum):
    """Why a query changed, as cache events tell it."""

    CREATE = "create"
    FETCH = "fetch"
    FAILURE = "failure"  # one attempt failed, and is made again
    SUCCESS = "success"
    ERROR = "error"
    SET = "set"
    INVALIDATE = "invalidate"
    CANCEL = "cancel"
    RESET = "reset"
    REMOVE = "remove"
    FORGET = "forget"
    EXPIRE = "expire"  # unused for its gc time
    EVICT = "evict"  # over the client's max_entries
    PAUSE = "pause"  # a fetch waits for the network, or for somebody to look
    CONTINUE = "continue"
    MUTATE = "mutate"  # a mutation was called, or its on_mutate has returned something
    OPTIMISTIC = "optimistic"  # a mutation's change came, or left
    LIVE = "live"  # a live query's source started, failed or stopped
    OBSERVE = "observe"
    LEAVE = "leave"


class Entry:
    """The stored state of one key.

    `epoch` is that of the data: when the fetch that got it began, or when it was set. `valid_at` is when the
    data was current, `NEVER` where there is none or it was invalidated, so that one comparison tells freshness.
    """

    __slots__ = (
        "ambiguous",
        "data",
        "epoch",
        "error",
        "error_direction",
        "error_epoch",
        "error_update_count",
        "error_updated_at",
        "failure_count",
        "failure_reason",
        "frozen",
        "identities",
        "invalidated_epoch",
        "key",
        "learned",
        "update_count",
        "updated_at",
        "valid_at",
        "validators",
    )

    def __init__(self, key: QueryKey, frozen: FrozenKey | None = None) -> None:
        self.frozen = freeze(key) if frozen is None else frozen
        self.key = key if self.frozen is key else snapshot(key)
        self.ambiguous = is_ambiguous(self.frozen)
        self.invalidated_epoch = -1
        self.blank()

    def blank(self) -> None:
        """Go back to the state of a key that was never fetched."""
        self.data: Any = NO_DATA
        self.epoch = 0
        self.valid_at = NEVER
        self.updated_at = NEVER
        self.update_count = 0
        self.error: BaseException | None = None
        self.error_direction: Direction | None = None
        self.error_epoch = 0
        self.error_updated_at = NEVER
        self.error_update_count = 0
        self.failure_count = 0
        self.failure_reason: BaseException | None = None
        self.identities: Identities = _NOBODY
        self.validators: object = None
        self.learned: float = 0.0

    def accept(
        self,
        data: object,
        *,
        updated_at: float,
        epoch: int,
        identities: Identities,
        validators: object = None,
        learned: float = 0.0,
    ) -> None:
        """Take data: it is stale already if it is older than the last invalidation."""
        self.data = data
        self.epoch = epoch
        self.updated_at = updated_at
        self.valid_at = updated_at if epoch > self.invalidated_epoch else NEVER
        self.update_count += 1
        self.error = None
        self.error_direction = None
        self.failure_count = 0
        self.failure_reason = None
        self.identities = identities
        self.validators = validators
        self.learned = learned

    def fail(self, error: BaseException, now: float, epoch: int, identities: Identities) -> None:
        """Take the error of a fetch that began at `epoch` beside the data there is, which is stale from now on."""
        self.error = error
        self.error_epoch = epoch
        self.error_updated_at = now
        self.error_update_count += 1
        self.valid_at = NEVER
        self.add_identities(identities)

    def add_identities(self, identities: Identities) -> None:
        """Belong to these identities as well: something of theirs came beside what is here."""
        if identities:
            self.identities = merged(self.identities, identities)

    def count_failure(self, failures: int, reason: BaseException | None) -> None:
        """Note how often the running fetch has failed."""
        self.failure_count = failures
        self.failure_reason = reason

    def flag(self, epoch: int) -> None:
        """Mark as invalidated: the data, and whatever was begun before `epoch`."""
        self.invalidated_epoch = epoch
        self.valid_at = NEVER

    def shift(self, seconds: float) -> None:
        """Move the times that were taken before there was a clock."""
        self.valid_at += seconds
        self.updated_at += seconds

    def remembers_error(self, error_time: float, now: float) -> bool:
        """Whether the last fetch has failed so short a time ago that its error is answer enough."""
        error = self.error
        is_answer = error is not None and self.error_direction is None and not isinstance(error, QueryCancelled)
        return is_answer and self.error_epoch > self.invalidated_epoch and now - self.error_updated_at < error_time

    def uses(self, identity: Hashable) -> bool:
        """Whether the data or the error was computed under `identity`."""
        return identity in self.identities

    def is_fresh(self, stale_time: StaleTime, now: float) -> bool:
        """Whether the data may be used without asking again."""
        return is_fresh(self.valid_at, stale_time, self.learned, now, has_data=self.has_data)

    @property
    def has_data(self) -> bool:
        """Whether there is data; it may be None."""
        return self.data is not NO_DATA

    @property
    def is_invalidated(self) -> bool:
        """Whether there is data that is known to be out of date."""
        return self.has_data and self.valid_at == NEVER

    @property
    def status(self) -> Status:
        """What the last answer was."""
        if self.error is not None:
            return "error"
        return "success" if self.has_data else "pending"

    def snapshot(self, fetch_status: FetchStatus) -> QueryState[Any]:
        """Return the state as a value."""
        return QueryState(
            data=self.data if self.has_data else None,
            has_data=self.has_data,
            data_updated_at=None if self.updated_at == NEVER else self.updated_at,
            data_update_count=self.update_count,
            error=self.error,
            error_updated_at=None if self.error_updated_at == NEVER else self.error_updated_at,
            error_update_count=self.error_update_count,
            fetch_failure_count=self.failure_count,
            fetch_failure_reason=self.failure_reason,
            is_invalidated=self.is_invalidated,
            status=self.status,
            fetch_status=fetch_status,
        )
