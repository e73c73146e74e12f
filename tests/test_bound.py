"""Which unused entries go, and when: gc by one timer (S6), the bound and the second chance (S7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from querykit.bound import SHORTEST, Rest


@dataclass(eq=False)
class Entry:
    frozen: tuple[Hashable, ...]
    gc_time: float
    touched: bool = False
    rests: bool = False
    since: float = 0.0  # the model's: when its time began


@dataclass(eq=False)
class Alarm:
    due: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Bench:
    """A bound under a clock that is moved by hand."""

    max_entries: float = math.inf
    now: float = 1000.0
    early: float = 0.0  # so much before its time an alarm goes off
    has_loop: bool = True
    alarms: list[Alarm] = field(default_factory=list)
    gone: list[tuple[Entry, bool]] = field(default_factory=list)
    when_gone: Callable[[Entry], object] = bool

    def __post_init__(self) -> None:
        self.rest: Rest[Entry] = Rest(self.max_entries, now=lambda: self.now, later=self.later, gone=self.tell)

    def later(self, due: float, callback: Callable[[], None]) -> Alarm | None:
        if not self.has_loop:
            return None
        self.alarms.append(Alarm(due, callback))
        return self.alarms[-1]

    def tell(self, entry: Entry, evicted: bool) -> None:
        self.gone.append((entry, evicted))
        self.when_gone(entry)

    @property
    def waiting(self) -> list[Alarm]:
        self.alarms = sorted((each for each in self.alarms if not each.is_cancelled), key=lambda each: each.due)
        return self.alarms

    def admit(self, name: str, gc_time: float = 100.0) -> Entry:
        entry = Entry((name,), gc_time)
        self.rest.admit(entry)
        return entry

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.waiting and self.waiting[0].due - self.early <= end:
            alarm = self.alarms.pop(0)
            self.now = max(self.now, alarm.due - self.early)
            alarm.callback()
        self.now = end

    def names(self) -> list[tuple[str, bool]]:
        return [(str(entry.frozen[0]), evicted) for entry, evicted in self.gone]


# Against a model

GC_TIMES = [0, 0.0005, 0.01, 1, 7.3, 60, 300, 1e5, math.inf]


class AgainstAModel(RuleBasedStateMachine):
    """Nothing goes early, nothing late by more than 1 s or 5 %; what was used stays; the bound holds."""

    @initialize(max_entries=st.sampled_from([1, 2, 3, 5, math.inf]), early=st.sampled_from([0.0, 1e-4]))
    def begin(self, max_entries, early):
        self.bench = Bench(max_entries, early=early, when_gone=self.check_gone)
        self.entries: list[Entry] = []
        self.is_admitting = False

    def check_gone(self, entry: Entry) -> None:
        _, evicted = self.bench.gone[-1]
        assert not entry.rests
        assert not entry.touched, "it was used: it has a second chance"
        if evicted:
            assert self.is_admitting, "only a newcomer pushes others out"
            assert sum(each.rests for each in self.entries) == self.bench.max_entries, "and only where there is no room"
        else:
            assert self.bench.now + self.bench.early >= self.due(entry), "nothing goes early"
            assert self.bench.now <= self.latest(entry), "nothing goes late"

    def due(self, entry: Entry) -> float:
        return entry.since + max(entry.gc_time, SHORTEST) - 1e-9

    def latest(self, entry: Entry) -> float:
        return self.due(entry) + max(1.0, 0.05 * entry.gc_time)

    def note_second_chances(self, was_touched: list[Entry]) -> None:
        for entry in was_touched:
            if entry.rests and not entry.touched:
                assert self.is_admitting or self.bench.now + self.bench.early >= self.due(entry)
                assert self.bench.now <= self.latest(entry)
                entry.since = self.bench.now

    @rule(gc_time=st.sampled_from(GC_TIMES))
    def a_new_entry_comes_to_rest(self, gc_time):
        self.admit(Entry((len(self.entries),), gc_time))

    @precondition(lambda self: any(not each.rests for each in self.entries))
    @rule(data=st.data(), gc_time=st.sampled_from(GC_TIMES))
    def a_known_entry_comes_to_rest(self, data, gc_time):
        entry = data.draw(st.sampled_from([each for each in self.entries if not each.rests]))
        entry.gc_time = max(entry.gc_time, gc_time)
        self.admit(entry)

    def admit(self, entry: Entry) -> None:
        was_touched = [each for each in self.entries if each.touched and each.rests]
        entry.since = self.bench.now
        if entry not in self.entries:
            self.entries.append(entry)
        self.is_admitting = True
        self.bench.rest.admit(entry)
        assert entry.rests
        self.note_second_chances(was_touched)
        self.is_admitting = False

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def an_entry_is_used(self, data):
        data.draw(st.sampled_from(self.entries)).touched = True

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def an_entry_is_taken_out(self, data):
        entry = data.draw(st.sampled_from(self.entries))
        self.bench.rest.release(entry)
        assert not entry.rests

    @rule(seconds=st.sampled_from([0.0, 0.0002, 0.01, 0.9, 5, 50, 400, 3e5]))
    def time_passes(self, seconds):
        end = self.bench.now + seconds
        while self.bench.waiting and self.bench.alarms[0].due - self.bench.early <= end:
            was_touched = [each for each in self.entries if each.touched and each.rests]
            self.bench.pass_time(max(0.0, self.bench.alarms[0].due - self.bench.early - self.bench.now))
            self.note_second_chances(was_touched)
        self.bench.pass_time(end - self.bench.now)

    @invariant()
    def nobody_stays_too_long(self):
        for entry in getattr(self, "entries", ()):
            if entry.rests:
                assert self.bench.now <= self.latest(entry)

    @invariant()
    def the_bound_holds(self):
        if hasattr(self, "bench"):
            assert sum(each.rests for each in self.entries) <= self.bench.max_entries

    @invariant()
    def one_timer_serves_all(self):
        if hasattr(self, "bench"):
            finite = any(each.rests and each.gc_time < math.inf for each in self.entries)
            assert len(self.bench.waiting) in ((1,) if finite else (0, 1))

    def teardown(self):
        if hasattr(self, "bench"):
            self.bench.rest.clear()
            assert self.bench.waiting == []


TestAgainstAModel = pytest.mark.no_cover(AgainstAModel.TestCase)  # other tests cover it
TestAgainstAModel.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# By example


def test_trap_13_the_gc_time_counts_from_when_an_entry_came_to_rest():
    bench = Bench()
    bench.admit("a", 100)
    bench.pass_time(99.9)
    assert bench.gone == []
    bench.pass_time(5.1)
    assert bench.names() == [("a", False)]


def test_trap_13_a_gc_time_of_0_is_right_after_use():
    bench = Bench()
    bench.admit("a", 0)
    assert bench.gone == [], "who asked still takes his answer"
    bench.pass_time(0.002)
    assert bench.names() == [("a", False)]


def test_an_infinite_gc_time_needs_no_timer():
    bench = Bench()
    for gc_time in (math.inf, 1.7e308):
        bench.admit(str(gc_time), gc_time)
    bench.now = 1e308
    bench.admit("late", 1e308)
    assert all(alarm.due < math.inf for alarm in bench.waiting)
    assert bench.gone == []


def test_S6_entries_that_come_to_rest_near_each_other_go_by_one_alarm():
    bench = Bench()
    for number in range(1000):
        bench.admit(str(number), 300)
        bench.pass_time(0.01)
    fired = 0
    while bench.waiting:
        bench.pass_time(bench.alarms[0].due - bench.now)
        fired += 1
    assert len(bench.gone) == 1000
    assert fired <= 2


def test_S7_they_go_in_the_order_in_which_they_came():
    bench = Bench()
    for name in "abc":
        bench.admit(name, 10)
    bench.pass_time(20)
    assert bench.names() == [("a", False), ("b", False), ("c", False)]


def test_S7_the_longest_unused_goes_when_there_is_no_room():
    bench = Bench(max_entries=2)
    for name in "abcd":
        bench.admit(name)
    assert bench.names() == [("a", True), ("b", True)]


def test_S7_one_that_was_used_while_it_rested_is_met_with_a_second_chance():
    bench = Bench(max_entries=2)
    first = bench.admit("a")
    bench.admit("b")
    first.touched = True
    bench.admit("c")
    assert bench.names() == [("b", True)]
    assert not first.touched
    bench.admit("d")
    assert bench.names() == [("b", True), ("a", True)], "one chance, not two"


def test_S7_a_second_chance_at_the_end_of_its_time_is_a_whole_time_more():
    bench = Bench()
    entry = bench.admit("a", 100)
    entry.touched = True
    bench.pass_time(105)
    assert entry.rests
    bench.pass_time(94)
    assert entry.rests
    bench.pass_time(12)
    assert bench.names() == [("a", False)]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_S7_where_all_were_used_the_first_goes(count):
    bench = Bench(max_entries=count)
    for entry in [bench.admit(str(number)) for number in range(count)]:
        entry.touched = True
    newcomer = bench.admit("new")
    assert newcomer.rests
    assert bench.names() == [("0", True)]


def test_S7_what_is_in_use_is_neither_collected_nor_evicted():
    bench = Bench(max_entries=1)
    used = bench.admit("a", 10)
    bench.rest.release(used)
    bench.admit("b", 10)
    bench.pass_time(100)
    assert bench.names() == [("b", False)]


def test_releasing_what_does_not_rest_does_nothing():
    bench = Bench()
    entry = Entry(("a",), 10)
    bench.rest.release(entry)
    bench.rest.admit(entry)
    bench.now += 100  # its time is over, and no alarm has gone off yet
    bench.rest.release(entry)
    bench.rest.release(entry)
    bench.pass_time(100)
    assert bench.gone == []


def test_a_newcomer_finds_those_whose_time_is_over_before_the_alarm_does():
    bench = Bench(max_entries=1)
    old = bench.admit("old", 10)
    kept = Bench(max_entries=2)
    kept.admit("old", 10).touched = True
    for each in (bench, kept):
        each.now += 100
        each.admit("new", 10)
    assert bench.names() == [("old", False)], "it is expired, not evicted"
    assert not old.rests
    assert kept.names() == []


def test_S8_what_is_used_while_others_go_stays_a_whole_time_more():
    bench = Bench()
    first, touched, again, released = (bench.admit(name, 100) for name in "abcd")

    def when_gone(entry):
        if entry is first:
            touched.touched = True
            bench.rest.release(again)
            bench.rest.admit(again)
            bench.rest.release(released)

    bench.when_gone = when_gone
    bench.pass_time(106)
    assert bench.names() == [("a", False)]
    assert (touched.rests, again.rests, released.rests) == (True, True, False)
    bench.pass_time(90)
    assert bench.names() == [("a", False)]
    bench.pass_time(20)
    assert sorted(bench.names()) == [("a", False), ("b", False), ("c", False)]


def test_S7_who_is_told_may_bring_another_to_rest():
    bench = Bench(max_entries=1)
    bench.when_gone = lambda entry: len(bench.gone) < 4 and bench.admit(f"after {entry.frozen[0]}")
    bench.admit("a")
    bench.admit("b")
    assert len(bench.gone) == 4
    assert all(evicted for _, evicted in bench.gone)


def test_an_alarm_that_goes_off_a_tick_early_is_in_time():
    bench = Bench(early=0.001)
    bench.admit("a", 10)
    bench.pass_time(11)
    assert bench.names() == [("a", False)]
    assert bench.waiting == []


def test_clearing_lets_go_of_everything_and_of_the_timer():
    bench = Bench()
    bench.admit("a", 10)
    bench.rest.clear()
    assert bench.waiting == []
    bench.pass_time(100)
    assert bench.gone == []
    bench.rest.clear()


def test_S8_clearing_while_entries_go_ends_it():
    bench = Bench()
    for name in "abc":
        bench.admit(name, 10)
    bench.when_gone = lambda entry: bench.rest.clear()
    bench.pass_time(100)
    assert bench.names() == [("a", False)]
    assert bench.waiting == []


def test_S12_before_there_is_a_loop_entries_wait_for_it():
    bench = Bench(has_loop=False, max_entries=2)
    for name in "abc":
        bench.admit(name, 10)
    assert bench.names() == [("a", True)], "the bound holds all the same"
    assert bench.waiting == []
    bench.rest.clear()
    bench.has_loop = True
    bench.admit("d", 10)
    bench.pass_time(11)
    assert bench.names() == [("a", True), ("d", False)]


@pytest.mark.parametrize("count", [1000])
def test_S7_coming_to_rest_over_and_over_leaves_nothing_behind(count):
    bench = Bench()
    entry = bench.admit("a", 100)
    for _ in range(count):
        bench.rest.release(entry)
        bench.pass_time(1)
        bench.rest.admit(entry)
    slots: Any = bench.rest._slots
    assert len(slots._TLRUCache__order) < 10
    assert len(bench.rest._dues) <= 22
