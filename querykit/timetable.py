"""One timer for all that a client does later: data that becomes stale, intervals, grace times (S6)."""

import heapq
import math
from collections.abc import Callable
from typing import Final, Protocol

__all__: list[str] = []

# A loop's timer may fire up to its clock's resolution early.
TICK: Final = 1e-6
COMPACT_FROM: Final = 64


class Timer(Protocol):
    """What can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Appointment:
    """Something to be called once, unless it is cancelled before."""

    __slots__ = ("_timetable", "callback", "due")

    def __init__(self, timetable: "Timetable", due: float, callback: Callable[[], None]) -> None:
        self._timetable = timetable
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: "Appointment") -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        """Do not call it; a second time does nothing."""
        if self.callback is not None:
            self.callback = None
            self._timetable.cancelled()


class Timetable:
    """Calls back at times of the client's clock, by one timer of the loop.

    Args:
        now: reads the clock.
        later: calls back at a time of that clock.
    """

    def __init__(self, *, now: Callable[[], float], later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self._now = now
        self._later = later
        self._heap: list[Appointment] = []
        self._cancelled = 0
        self._timer: Timer | None = None
        self._timer_due = math.inf

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, due: float, callback: Callable[[], None]) -> Appointment:
        """Call `callback` when the clock reads `due`, not before."""
        appointment = Appointment(self, due, callback)
        heapq.heappush(self._heap, appointment)
        self._set_timer()
        return appointment

    def cancelled(self) -> None:
        """Note that an appointment was cancelled; the timer goes with the last one."""
        self._cancelled += 1
        if self._cancelled == len(self._heap):
            self.clear()
        elif self._cancelled > COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [one for one in self._heap if one.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def clear(self) -> None:
        """Call nothing of all this any more."""
        for one in self._heap:
            one.callback = None
        self._heap.clear()
        self._cancelled = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_due = None, math.inf

    def _set_timer(self) -> None:
        due = self._heap[0].due
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_due = self._later(due, self._run), due

    def _run(self) -> None:
        self._timer, self._timer_due = None, math.inf
        now = self._now() + TICK
        due: list[Callable[[], None]] = []
        while self._heap and (self._heap[0].callback is None or self._heap[0].due <= now):
            one = heapq.heappop(self._heap)
            if one.callback is None:
                self._cancelled -= 1
            else:
                due.append(one.callback)
                one.callback = None
        if self._heap:
            self._set_timer()
        for callback in due:
            callback()
