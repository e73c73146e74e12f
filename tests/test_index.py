"""Finding keys by prefix (S6), and the journal of what was invalidated or removed (S2)."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from querykit.index import Journal, PrefixIndex
from querykit.keys import freeze, starts_with

NAN = math.nan
parts = st.sampled_from(["pods", "prod", 1, True, 1.0, NAN, None, {}, {"a": 1}, {"a": 1, "b": 2}, ("a", "b"), ["a"]])
keys = st.lists(parts, max_size=3).map(tuple).map(freeze)


class AgainstADict(RuleBasedStateMachine):
    """A prefix index finds what a scan over all keys finds."""

    def __init__(self) -> None:
        super().__init__()
        self.index: PrefixIndex[Any] = PrefixIndex()
        self.model: dict[tuple[Hashable, ...], Any] = {}

    @rule(key=keys, value=st.one_of(st.integers(), st.none(), st.just({}), st.just({"a": 1})))
    def add(self, key, value):
        self.index.add(key, value)
        self.model[key] = value

    @rule(key=keys)
    def discard(self, key):
        self.index.discard(key)
        self.model.pop(key, None)

    @rule(data=st.data())
    def discard_one_there_is(self, data):
        if self.model:
            key = data.draw(st.sampled_from(list(self.model)))
            self.index.discard(key)
            del self.model[key]

    @rule(prefix=keys)
    def find(self, prefix):
        expected = [value for key, value in self.model.items() if starts_with(key, prefix)]
        assert sorted(map(repr, self.index.under(prefix))) == sorted(map(repr, expected))

    @invariant()
    def all_are_under_the_empty_prefix(self):
        assert sorted(map(repr, self.index.under(()))) == sorted(map(repr, self.model.values()))

    def teardown(self):
        for key in self.model:
            self.index.discard(key)
        assert not self.index._root, "nodes that nothing needs are gone"


TestAgainstADict = pytest.mark.no_cover(AgainstADict.TestCase)  # other tests cover it


class Counted:
    """A key part that counts how often it is compared or hashed."""

    def __init__(self, name: int) -> None:
        self.name = name
        self.looked_at = 0

    def __hash__(self) -> int:
        self.looked_at += 1
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.looked_at += 1
        return isinstance(other, Counted) and self.name == other.name


def test_S6_a_prefix_costs_what_it_matches_and_not_what_there_is():
    index: PrefixIndex[int] = PrefixIndex()
    others = [Counted(number) for number in range(1000)]
    for part in others:
        index.add(("nodes", part), part.name)
    index.add(("pods", Counted(-1)), -1)
    for part in others:
        part.looked_at = 0
    assert index.under(("pods",)) == [-1]
    assert sum(part.looked_at for part in others) == 0


def test_discarding_what_is_not_there_does_nothing():
    index: PrefixIndex[int] = PrefixIndex()
    index.add(("pods", "prod"), 1)
    for key in ((), ("pods",), ("nodes",), ("pods", "prod", "web")):
        index.discard(key)
    assert index.under(()) == [1]


# The journal


class JournalAgainstAList(RuleBasedStateMachine):
    """The journal's answer is that of a scan over all notes that anything still running may ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal()
        self.notes: list[tuple[tuple[Hashable, ...], int, bool]] = []
        self.epoch = 0
        self.oldest = 0

    @rule(key=keys, exact=st.booleans(), times=st.integers(1, 40))
    def note(self, key, exact, times):
        for number in range(times):
            self.epoch += 1
            noted = (*key, number)
            self.journal.note(noted, self.epoch, exact=exact, oldest=lambda: self.oldest)
            self.notes.append((noted, self.epoch, exact))

    @rule(ahead=st.integers(1, 100))
    def what_runs_ends(self, ahead):
        self.oldest = min(self.oldest + ahead, self.epoch)

    @rule()
    def nothing_runs(self):
        self.journal.clear()
        self.notes.clear()
        assert len(self.journal) == 0

    @rule(key=keys, number=st.integers(0, 5))
    def ask(self, key, number):
        asked = (*key, number)
        found = [
            epoch
            for noted, epoch, exact in self.notes
            if (asked == noted if exact else starts_with(asked, noted)) and epoch >= self.oldest
        ]
        latest = self.journal.latest(asked)
        if found:
            assert latest == max(found)
        else:
            assert latest < max(self.oldest, 1), "older notes may still be there: nothing that runs is older"


TestJournalAgainstAList = pytest.mark.no_cover(JournalAgainstAList.TestCase)


@given(st.integers(100, 400))
def test_S2_notes_that_nothing_is_older_than_are_dropped(count):
    journal = Journal()
    for epoch in range(count):
        journal.note((epoch,), epoch, exact=True, oldest=lambda now=epoch: now)
    assert len(journal) <= 65


@pytest.mark.parametrize("exact", [True, False])
def test_S2_notes_that_something_older_may_ask_for_are_kept(exact):
    journal = Journal()
    for epoch in range(200):
        journal.note((epoch,), epoch, exact=exact, oldest=lambda: 50)
    assert [journal.latest((epoch,)) for epoch in range(50, 200)] == list(range(50, 200))
    assert journal.latest((49,)) == -1


def test_S2_a_key_that_was_never_noted_is_older_than_everything():
    assert Journal().latest(("pods",)) == -1


def test_S2_the_latest_of_the_exact_note_and_of_all_prefixes_counts():
    journal = Journal()
    journal.note(("pods",), 1, exact=False, oldest=int)
    journal.note(("pods", "prod"), 2, exact=True, oldest=int)
    journal.note((), 3, exact=False, oldest=int)
    journal.note(("pods",), 4, exact=True, oldest=int)
    assert journal.latest(("pods", "prod")) == 3
    assert journal.latest(("pods",)) == 4
