"""What a mutation's state is."""

from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

__all__ = ["MutationState", "MutationStatus"]

T = TypeVar("T")
V = TypeVar("V")

MutationStatus: TypeAlias = Literal["idle", "pending", "success", "error"]


class MutationState(Struct, Generic[T, V], frozen=True, eq=False):
    """A snapshot of one mutation's state. Two states are never equal: a comparison would compare users' data."""

    status: MutationStatus = "idle"
    """`success` and `error` only after the callbacks have ended."""
    data: T | None = None
    """What the function has returned, or None: `has_data` tells the two apart."""
    has_data: bool = False
    error: BaseException | None = None
    """Why it failed: a copy without traceback."""
    variables: V | None = None
    value: Any = None
    """What `on_mutate` has returned."""
    failure_count: int = 0
    failure_reason: BaseException | None = None
    is_paused: bool = False
    """Whether it waits for the network, for somebody to look, or for its turn in its scope."""
    submitted_at: float | None = None
    """When it was called, a reading of the client's clock in seconds."""

    def __repr__(self) -> str:
        return f"<MutationState {self.status}>"  # variables may be secret

    @property
    def is_idle(self) -> bool:
        """Nothing was begun, or it was forgotten since."""
        return self.status == "idle"

    @property
    def is_pending(self) -> bool:
        """It runs, or waits for its turn."""
        return self.status == "pending"

    @property
    def is_success(self) -> bool:
        """It has ended well."""
        return self.status == "success"

    @property
    def is_error(self) -> bool:
        """It has failed."""
        return self.status == "error"


IDLE: Final[MutationState[Any, Any]] = MutationState()
"""The state where there is no mutation."""
