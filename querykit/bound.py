"""Which unused entries go, and when: expiry and eviction of what rests, by one timer (S6, S7)."""

import contextlib
import heapq
import math
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from cachetools import TLRUCache

from querykit.keys import FrozenKey

__all__: list[str] = []

# A gc time of 0 means right after use; this much later still lets a caller take his answer.
SHORTEST: Final = 0.001
# Collecting up to 5 % late lets entries that came to rest near each other share one due time.
GRAIN: Final = 0.05
TICK: Final = 0.02


def check_max_entries(value: object) -> None:
    """Raise for what is no number of entries.

    Raises:
        TypeError: it is no number.
        ValueError: it is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"max_entries is a number, not {value!r}")
    if not value >= 1:
        raise ValueError(f"max_entries is at least 1, not {value!r}")


class Resting(Protocol):
    """An entry that nobody observes, fetches or waits for."""

    frozen: FrozenKey
    gc_time: float
    touched: bool
    rests: bool


class Timer(Protocol):
    """What can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""
        ...


R = TypeVar("R", bound=Resting)


class _Slots(TLRUCache[FrozenKey, R]):
    """What rests, with cachetools' expiry and order; `gone` collects what it gives up, and whether it was evicted.

    An entry that was used while it rested is met with a second chance: it stays as if it had just come.
    """

    def __init__(self, maxsize: float, due: Callable[[R], float], now: Callable[[], float]) -> None:
        super().__init__(maxsize, lambda _key, entry, _now: due(entry), timer=now)
        self.gone: dict[FrozenKey, tuple[R, bool]] = {}

    def expire(self, time: float | None = None) -> list[tuple[FrozenKey, R]]:
        expired = list(super().expire(time))
        for frozen, entry in expired:
            if entry.touched:
                entry.touched = False
                self[frozen] = entry
            else:
                self.gone[frozen] = (entry, False)
        return expired

    def popitem(self) -> tuple[FrozenKey, R]:
        while True:
            frozen, entry = super().popitem()
            if not entry.touched:
                self.gone[frozen] = (entry, True)
                return frozen, entry
            entry.touched = False
            self[frozen] = entry


class Rest(Generic[R]):
    """The entries at rest: at most `max_entries`, each for its gc time.

    Args:
        max_entries: how many may rest.
        now: reads the clock.
        later: calls back at a time of that clock; returns None where no loop runs yet.
        gone: is told of each entry that goes, and whether it was evicted rather than expired.
    """

    def __init__(
        self,
        max_entries: float,
        *,
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Timer | None],
        gone: Callable[[R, bool], None],
    ) -> None:
        self._slots: _Slots[R] = _Slots(max_entries, self._due, now)
        self._now = now
        self._later = later
        self._gone = gone
        self._dues: list[float] = []
        self._noted: set[float] = set()
        self._timer: Timer | None = None
        self._telling = False

    def admit(self, entry: R) -> None:
        """Let an entry rest from now on."""
        entry.rests, entry.touched = True, False
        self._slots[entry.frozen] = entry
        self._tell()

    def release(self, entry: R) -> None:
        """Take an entry out, since it is in use or gone."""
        if entry.rests:
            entry.rests = False
            self._slots.gone.pop(entry.frozen, None)
            with contextlib.suppress(KeyError):  # it is out already, or its time is over: cachetools raises then
                del self._slots[entry.frozen]

    def clear(self) -> None:
        """Let go of everything, and of the timer."""
        self._slots.clear()
        self._slots.gone.clear()
        self._dues.clear()
        self._noted.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, entry: R) -> float:
        """Return when an entry that comes to rest now is collected, and see that something happens then."""
        gc_time = max(entry.gc_time, SHORTEST)
        earliest = self._now() + gc_time
        if earliest == math.inf:
            return math.inf
        grain = gc_time * GRAIN
        due = max(earliest, math.ceil(earliest / grain) * grain)
        if due not in self._noted:
            self._noted.add(due)
            heapq.heappush(self._dues, due)
            if self._dues[0] == due:
                self._schedule()
        return due

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._later(self._dues[0], self._sweep) if self._dues else None

    def _sweep(self) -> None:
        now, due = self._now(), self._dues[0]
        if due - now > TICK:  # a clock of the user's own goes slower than the loop's
            self._timer = None
            self._schedule()
            return
        now = max(now, due)  # a timer may fire a clock tick early: what was due is due
        while self._dues and self._dues[0] <= now:
            self._noted.discard(heapq.heappop(self._dues))
        self._timer = None
        self._slots.expire(now)
        self._schedule()
        self._tell()

    def _tell(self) -> None:
        if self._telling:  # who does so goes on with what came meanwhile
            return
        self._telling = True
        gone = self._slots.gone
        try:
            while gone:
                frozen = next(iter(gone))
                entry, evicted = gone.pop(frozen)
                if entry.touched:  # by who was told of those before it
                    entry.touched = False
                    self._slots[frozen] = entry
                else:
                    entry.rests = False
                    self._gone(entry, evicted)
        finally:
            self._telling = False
