"""One timer for all that a client does later: data that becomes stale, intervals, grace times (S6)."""

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from querykit.callables import called

__all__: list[str] = []

# A loop's timer may fire up to its clock's resolution early: the next try is later than that.
TICK: Final = 2e-6
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
        report: is told of what a callback raises.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Timer],
        report: Callable[[str, BaseException], None],
    ) -> None:
        self._now = now
        self._later = later
        self._report = report
        self._heap: list[Appointment] = []
        self._due: deque[Appointment] = deque()
        self._cancelled = 0
        self._timer: Timer | None = None
        self._timer_due = math.inf

    def __len__(self) -> int:
        return len(self._heap) + len(self._due) - self._cancelled

    def at(self, due: float, callback: Callable[[], None]) -> Appointment:
        """Call `callback` when the clock reads `due`, not before."""
        appointment = Appointment(self, due, callback)
        heapq.heappush(self._heap, appointment)
        self._set_timer()
        return appointment

    def cancelled(self) -> None:
        """Note that an appointment was cancelled; the timer goes with the last one."""
        self._cancelled += 1
        if not len(self):
            self.clear()
        elif self._cancelled > COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [one for one in self._heap if one.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = sum(one.callback is None for one in self._due)

    def clear(self) -> None:
        """Call nothing of all this any more."""
        for one in (*self._heap, *self._due):
            one.callback = None
        self._heap.clear()
        self._due.clear()
        self._cancelled = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_due = None, math.inf

    def _set_timer(self, earliest: float = 0.0) -> None:
        due = self._heap[0].due
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_due = self._later(max(due, earliest), self._run), due

    def _run(self) -> None:
        self._timer, self._timer_due = None, math.inf
        now = self._now()
        while self._heap and self._heap[0].due <= now:
            self._due.append(heapq.heappop(self._heap))
        if self._heap:
            self._set_timer(now + TICK)
        while self._due:  # each may cancel those after it, or clear it all
            one = self._due.popleft()
            callback, one.callback = one.callback, None
            if callback is None:
                self._cancelled -= 1
                continue
            try:
                callback()
            except Exception as error:
                self._report(f"{called(callback)}, called at its time, raised {type(error).__name__}", error)
