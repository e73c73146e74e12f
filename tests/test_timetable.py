"""One timer for many appointments: in order, never early, and gone with the last of them."""

from __future__ import annotations

import pytest

from querykit.timetable import COMPACT_FROM, Timetable


class Clock:
    """A clock that a test moves, and the one timer that is set on it."""

    def __init__(self):
        self.time = 0.0
        self.timer = None
        self.set = 0
        self.reported = []

    def later(self, due, callback):
        assert self.timer is None
        self.timer = Handle(self, due, callback)
        self.set += 1
        return self.timer

    def move(self, to):
        while self.timer is not None and self.timer.due <= to:
            timer, self.timer = self.timer, None
            self.time = max(self.time, timer.due)
            timer.callback()
        self.time = to


class Handle:
    def __init__(self, clock, due, callback):
        self.clock, self.due, self.callback = clock, due, callback

    def cancel(self):
        self.clock.timer = None


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timetable(clock):
    return Timetable(
        now=lambda: clock.time, later=clock.later, report=lambda message, error: clock.reported.append((message, error))
    )


def test_it_calls_at_the_time_in_the_order_of_the_times(clock, timetable):
    called = []
    for due in (3, 1, 2):
        timetable.at(due, lambda due=due: called.append((due, clock.time)))
    clock.move(2.5)
    assert (called, len(timetable)) == ([(1, 1), (2, 2)], 1)
    clock.move(3)
    assert (called[-1], len(timetable), clock.timer) == ((3, 3), 0, None)


def test_an_earlier_appointment_moves_the_timer_and_a_later_one_does_not(clock, timetable):
    timetable.at(5, lambda: None)
    timetable.at(9, lambda: None)
    assert (clock.timer.due, clock.set) == (5, 1)
    timetable.at(2, lambda: None)
    assert (clock.timer.due, clock.set) == (2, 2)


def test_a_timer_that_fires_early_is_set_again_a_little_later(clock, timetable):
    called = []
    timetable.at(5, lambda: called.append(1))
    timer, clock.timer, clock.time = clock.timer, None, 5 - 1e-9
    timer.callback()
    assert called == []
    assert 5 < clock.timer.due < 5 + 1e-5
    clock.move(6)
    assert called == [1]


def test_a_cancelled_one_is_not_called_and_the_timer_goes_with_the_last(clock, timetable):
    called = []
    one, other = (timetable.at(due, lambda: called.append(1)) for due in (1, 2))
    one.cancel()
    one.cancel()
    assert len(timetable) == 1
    clock.move(1.5)
    other.cancel()
    assert (called, len(timetable), clock.timer) == ([], 0, None)


def test_one_can_cancel_another_that_is_due_at_the_same_time(clock, timetable):
    called = []
    timetable.at(1, lambda: other.cancel())
    other = timetable.at(1.0, lambda: called.append("cancelled"))
    timetable.at(1.0, lambda: called.append("kept"))
    clock.move(1)
    assert (called, len(timetable)) == (["kept"], 0)


def test_one_can_clear_it_while_others_are_due(clock, timetable):
    called = []
    timetable.at(1, timetable.clear)
    timetable.at(1, lambda: called.append(1))
    timetable.at(2, lambda: called.append(2))
    clock.move(5)
    assert (called, len(timetable), clock.timer) == ([], 0, None)


def test_one_can_make_the_next_at_the_same_time_without_holding_the_loop(clock, timetable):
    called = []

    def again():
        called.append(clock.time)
        if len(called) < 3:
            timetable.at(clock.time, again)

    timetable.at(1, again)
    timer, clock.timer, clock.time = clock.timer, None, 1
    timer.callback()
    assert called == [1]
    clock.move(2)
    assert called == [1, 1, 1]


def test_one_that_raises_is_reported_and_the_others_are_called(clock, timetable):
    called = []
    timetable.at(1, lambda: 1 / 0)
    timetable.at(1, lambda: called.append(1))
    clock.move(1)
    assert called == [1]
    assert [type(error) for _, error in clock.reported] == [ZeroDivisionError]
    assert "raised ZeroDivisionError" in clock.reported[0][0]


def test_many_cancelled_ones_take_no_room(timetable):
    kept = [timetable.at(10_000 + n, lambda: None) for n in range(COMPACT_FROM)]
    for n in range(10 * COMPACT_FROM):
        timetable.at(n, lambda: None).cancel()
    assert len(timetable) == len(kept)
    assert len(timetable._heap) <= 3 * COMPACT_FROM


def test_those_cancelled_while_others_are_due_are_counted_right(clock, timetable):
    later = [timetable.at(100 + n, lambda: None) for n in range(2 * COMPACT_FROM)]
    called = []

    def cancels():
        due[1].cancel()
        for one in later[:-1]:
            one.cancel()
        called.append(len(timetable))

    due = [
        timetable.at(1, callback) for callback in (cancels, lambda: called.append("no"), lambda: called.append("yes"))
    ]
    clock.move(1)
    assert (called, len(timetable)) == ([2, "yes"], 1)
    clock.move(1000)
    assert (len(timetable), clock.timer) == (0, None)


def test_clearing_an_empty_one_does_nothing(timetable):
    timetable.clear()
    assert len(timetable) == 0
