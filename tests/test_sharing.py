"""Structural sharing (S11)."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, strategies as st

from querykit.sharing import SHARING_LIMIT, share

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(width=16), st.sampled_from(["", "a", "b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def shape(value: Any) -> Any:
    """A form in which `True`, `1` and `1.0` differ, and NaN equals NaN."""
    return json.dumps(value)


def parts_of(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(part for each in inner for part in parts_of(each))]


@given(json_values, json_values)
def test_S11_the_result_equals_the_new_data_and_neither_argument_is_changed(old, new):
    was_old, was_new = copy.deepcopy(old), copy.deepcopy(new)
    shared = share(old, new)
    assert shape(shared).replace("-0.0", "0.0") == shape(new).replace("-0.0", "0.0")
    assert (shape(old), shape(new)) == (shape(was_old), shape(was_new))


@given(json_values.filter(lambda value: "NaN" not in shape(value)))
def test_S11_data_that_equals_the_old_is_the_old(old):
    assert share(old, json.loads(json.dumps(old))) is old


@given(json_values, json_values)
def test_S11_sharing_what_was_shared_changes_nothing(old, new):
    shared = share(old, new)
    assert shape(share(shared, new)) == shape(shared)


@given(st.lists(st.lists(st.integers()), min_size=1, max_size=6), st.data())
def test_S11_the_parts_that_did_not_change_keep_their_identity(old, data):
    at = data.draw(st.integers(0, len(old) - 1))
    new = copy.deepcopy(old)
    new[at].append(-1)
    shared = share(old, new)
    assert shared is not old
    assert all(
        (mine is theirs) is (number != at) for number, (mine, theirs) in enumerate(zip(shared, old, strict=True))
    )


@given(json_values, json_values)
def test_S11_a_result_never_holds_a_container_of_the_new_data_where_an_equal_one_was_in_its_place(old, new):
    shared = share({"a": old, "b": 1}, {"a": new, "b": 2})
    if isinstance(old, (dict, list)) and shape(old) == shape(new) and "NaN" not in shape(old):
        assert shared["a"] is old


def test_S11_values_are_compared_by_type_as_well():
    for old, new in [(1, True), (1, 1.0), ("1", 1), ([], {}), (None, 0)]:
        shared = share([old], [new])
        assert type(shared[0]) is type(new)


def test_S11_a_dict_in_another_order_is_not_the_old_one_but_shares_its_parts():
    old = {"a": [1], "b": [2]}
    shared = share(old, {"b": [2], "a": [1]})
    assert list(shared) == ["b", "a"]
    assert shared["a"] is old["a"]


def test_S11_lists_of_other_lengths_share_what_is_in_the_same_place():
    old = [[1], [2]]
    longer, shorter = share(old, [[1], [2], [3]]), share(old, [[1]])
    assert longer == [[1], [2], [3]]
    assert shorter == [[1]]
    assert (longer[0], longer[1], shorter[0]) == (old[0], old[1], old[0])
    assert longer[0] is old[0]
    assert shorter[0] is old[0]


def test_S11_only_plain_containers_are_looked_into():
    class Names(list):
        pass

    class Refuses:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

    for old, new in [(Names("a"), Names("a")), (("a",), ("a",)), ({"a"}, {"a"}), (Refuses(), Refuses())]:
        assert share(old, new) is new
        assert share([old], [new])[0] is new
    same = Refuses()
    old = [same]
    assert share(old, [same]) is old


def test_S11_nothing_is_shared_above_the_limit():
    old, new = [[1], [2], [3]], [[1], [2], [3]]
    assert share(old, new, limit=6) is old
    assert share(old, new, limit=5) is new
    big = [[number] for number in range(SHARING_LIMIT)]
    again = copy.deepcopy(big)
    assert share(big, again) is again


def test_S11_data_that_is_too_deep_or_holds_itself_is_taken_as_it_is():
    def nested() -> list[Any]:
        inner: list[Any] = []
        for _ in range(100_000):
            inner = [inner]
        return inner

    old, new = nested(), nested()
    assert share(old, new, limit=10**9) is new
    for value in (old, new):  # a list this deep can only be freed by hand
        while value:
            value = value.pop()
    one: list[Any] = []
    one.append(one)
    two: list[Any] = []
    two.append(two)
    assert share(one, two) is two


def test_S11_the_new_data_itself_is_never_copied_where_it_is_the_old():
    data = {"a": [1]}
    assert share(data, data) is data
