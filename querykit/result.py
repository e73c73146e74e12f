"""What an observer sees of a query at one moment."""

from operator import is_not
from typing import Any, TypeVar

from msgspec.structs import astuple

from querykit.state import LiveState, QueryState

__all__ = ["QueryResult"]

T = TypeVar("T")


class QueryResult(QueryState[T], frozen=True, eq=False):
    """What an observer sees of a query at one moment: its state, and what follows from it and the options.

    Two results are never equal; an observer gives the same object as long as nothing has changed.
    """

    is_stale: bool
    """Whether the data is older than the observer's stale time, or invalidated, or missing; False if disabled."""
    is_placeholder_data: bool
    """Whether the data is the `placeholder_data`, which is not in the cache."""
    is_enabled: bool
    """Whether the observer fetches by itself."""
    is_fetched_after_mount: bool
    """Whether an answer has come since the observer's first subscription."""
    live: LiveState | None
    """What a live query's source is doing; None for any other query."""

    @property
    def is_pending(self) -> bool:
        """No data and no error yet."""
        return self.status == "pending"

    @property
    def is_success(self) -> bool:
        """The last answer was data."""
        return self.status == "success"

    @property
    def is_error(self) -> bool:
        """The last answer was an error; there may be older data."""
        return self.status == "error"

    @property
    def is_loading_error(self) -> bool:
        """The first fetch has failed: there is no data."""
        return self.is_error and self.data_updated_at is None

    @property
    def is_refetch_error(self) -> bool:
        """A later fetch has failed: there is older data."""
        return self.is_error and self.data_updated_at is not None

    @property
    def is_fetching(self) -> bool:
        """A fetch is running."""
        return self.fetch_status == "fetching"

    @property
    def is_paused(self) -> bool:
        """A fetch waits for the network, or for somebody to look."""
        return self.fetch_status == "paused"

    @property
    def is_loading(self) -> bool:
        """The first fetch is running."""
        return self.is_fetching and self.is_pending

    @property
    def is_refetching(self) -> bool:
        """A later fetch is running."""
        return self.is_fetching and not self.is_pending

    @property
    def is_fetched(self) -> bool:
        """An answer has come, whatever it was."""
        return self.data_update_count > 0 or self.error_update_count > 0


def differ(before: QueryState[Any], after: QueryState[Any]) -> bool:
    """Whether any field has changed, by identity: what is in them may be large, or not comparable."""
    return any(map(is_not, astuple(before), astuple(after)))
