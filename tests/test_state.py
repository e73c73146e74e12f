"""What a query's state is, and when data is fresh (S4)."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from hypothesis import given, strategies as st

from querykit.state import NEVER, NO_DATA, UNSET, QueryState, is_fresh, skip


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_S4_data_is_fresh_as_long_as_its_age_is_below_the_stale_time(valid_at, stale_time, now):
    assert is_fresh(valid_at, stale_time, 0.0, now, has_data=True) is (now - valid_at < stale_time)


def test_trap_8_data_of_exactly_the_stale_time_is_stale():
    assert is_fresh(10.0, 5.0, 0.0, 14.9, has_data=True)
    assert not is_fresh(10.0, 5.0, 0.0, 15.0, has_data=True)
    assert not is_fresh(10.0, 0.0, 0.0, 10.0, has_data=True)


def test_trap_8_no_data_and_invalidated_data_are_stale_whatever_the_time():
    for stale_time in (0.0, 1e9, math.inf, "http"):
        assert not is_fresh(NEVER, stale_time, math.inf, 0.0, has_data=False)
        assert not is_fresh(NEVER, stale_time, math.inf, 0.0, has_data=True)


def test_trap_9_static_data_is_never_stale_even_invalidated():
    assert is_fresh(NEVER, "static", 0.0, 1e9, has_data=True)
    assert not is_fresh(NEVER, "static", 0.0, 0.0, has_data=False)


def test_S4_with_http_the_freshness_is_what_the_response_said():
    assert is_fresh(10.0, "http", 5.0, 14.0, has_data=True)
    assert not is_fresh(10.0, "http", 5.0, 15.0, has_data=True)


def test_an_infinite_stale_time_is_fresh_until_invalidated():
    assert is_fresh(0.0, math.inf, 0.0, 1e12, has_data=True)


@pytest.mark.parametrize("marker", [UNSET, NO_DATA, skip])
def test_a_marker_stays_itself_when_it_is_copied_or_pickled(marker):
    assert copy.deepcopy(marker) is marker
    assert pickle.loads(pickle.dumps(marker)) is marker


def test_two_states_are_never_compared_by_their_data():
    class Refuses:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    def state():
        return QueryState(Refuses(), True, 0.0, 1, None, None, 0, 0, None, False, "success", "idle")

    one, other = state(), state()
    assert one != other
    assert {one, other} == {one, other}
    with pytest.raises(AttributeError):
        one.data = None
