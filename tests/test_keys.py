"""Query keys (S5): when two are the same entry, and when a prefix matches one."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, strategies as st

from querykit.keys import check_key, freeze, is_ambiguous, matching, snapshot, starts_with


class Color(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    PODS = "pods"


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Selector:
    labels: dict[str, str]
    limit: int = 5
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Fixed:
    name: object


@dataclass
class Other:
    labels: dict[str, str]
    limit: int = 5


class Opaque:
    """Hashable by identity."""


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5, -0.0, math.inf]),
    st.sampled_from(["", "pods", "1", "red"]),
    st.sampled_from([Color.RED, Word.PODS, Number.ONE, Decimal(1), b"pods"]),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(tuple), st.frozensets(inner, max_size=2), st.builds(Fixed, inner)
    ),
    max_leaves=4,
)
parts = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.builds(Selector, st.dictionaries(st.sampled_from(["app"]), st.sampled_from(["web", "db"]))),
        st.builds(Fixed, inner),
    ),
    max_leaves=6,
)
keys = st.lists(parts, max_size=4).map(tuple)


def restated(part: Any) -> Any:
    """An equal part, written in another way: lists for tuples, dicts in another order, `1.0` for `1`."""
    if isinstance(part, bool):
        return part
    if type(part) is int:
        return float(part)
    if type(part) in (list, tuple):
        return tuple(map(restated, part)) if isinstance(part, list) else [restated(each) for each in part]
    if isinstance(part, dict):
        return MappingProxyType({name: restated(value) for name, value in reversed(part.items())})
    if isinstance(part, (set, frozenset)):
        return frozenset(part) if isinstance(part, set) else set(part)
    if isinstance(part, Fixed):
        return Fixed(restated(part.name))
    return part


def reference(part: Any) -> Any:
    """A slow form, compared by `==` alone, in which equal parts are equal (the model)."""
    if isinstance(part, bool):
        return ("bool", part)
    if isinstance(part, (list, tuple)):
        return ("sequence", [reference(each) for each in part])
    if isinstance(part, (dict, MappingProxyType)):
        return ("mapping", {name: reference(value) for name, value in part.items()})
    if isinstance(part, (set, frozenset)):
        return ("set", {repr(reference(each)) for each in part}, len(part))
    if isinstance(part, (Selector, Fixed)):
        values = [part.labels, part.limit] if isinstance(part, Selector) else [part.name]
        return (type(part), reference(values))
    return ("value", part)


@given(keys)
def test_S5_a_frozen_key_is_hashable_and_does_not_change_when_frozen_again(key):
    frozen = freeze(key)
    assert hash(frozen) == hash(freeze(key))
    assert frozen == freeze(key)
    assert freeze(frozen) == frozen


@given(keys)
def test_S5_equal_keys_freeze_equal_however_they_are_written(key):
    other = tuple(map(restated, key))
    assert freeze(key) == freeze(other)
    assert hash(freeze(key)) == hash(freeze(other))


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["1", "pods", 1.0, 0.5])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2), st.builds(Fixed, inner)
    ),
    max_leaves=4,
)


@given(plain, plain)
@example(True, 1)
@example([True], [1])
@example({"a": False}, {"a": 0})
def test_S5_keys_freeze_equal_only_if_they_are_equal(one, other):
    assert (freeze((one,)) == freeze((other,))) is (reference(one) == reference(other))


@given(keys)
def test_S5_a_snapshot_freezes_to_the_same_key(key):
    assert freeze(snapshot(key)) == freeze(key)


@given(keys)
def test_S5_a_key_that_only_itself_equals_is_found_by_the_raw_tuple(key):
    """`is_ambiguous` is what makes the raw look-up of `query` safe."""
    frozen = freeze(key)
    try:
        found = {frozen: None}.get(key, "other")
    except TypeError:  # a part that is unhashable as it stands
        return
    if found is None and not is_ambiguous(frozen):
        assert freeze(key) == frozen


@given(st.lists(plain, max_size=3).map(tuple), st.lists(plain, max_size=3).map(tuple))
def test_S5_a_raw_tuple_that_finds_another_key_finds_an_ambiguous_one(stored, asked):
    frozen = freeze(stored)
    try:
        is_found = asked in {frozen: None}
    except TypeError:
        return
    if is_found and freeze(asked) != frozen:
        assert is_ambiguous(frozen)


def test_trap_14_True_and_1_are_two_keys_and_1_and_1_0_are_one():
    assert freeze((True,)) != freeze((1,))
    assert freeze((False,)) != freeze((0,))
    assert freeze((1,)) == freeze((1.0,)) == freeze((Decimal(1),))
    assert freeze(("1",)) != freeze((1,))
    assert freeze((None,)) != freeze(("None",))
    assert freeze((frozenset({True}),)) != freeze((frozenset({1}),))


def test_S5_enums_compare_as_python_does():
    assert freeze((Word.PODS,)) == freeze(("pods",))
    assert freeze((Number.ONE,)) == freeze((1,)) != freeze((True,))
    assert freeze((Color.RED,)) != freeze(("red",))


def test_S5_a_named_tuple_is_a_sequence():
    assert freeze((Point(1, 2),)) == freeze(([1, 2],))


def test_S5_NaN_is_a_key_that_only_the_same_object_finds():
    nan = float("nan")
    assert freeze((nan,)) == freeze((nan,))
    assert freeze((nan,)) != freeze((float("nan"),))
    assert starts_with(freeze((nan, 1)), freeze((nan,)))


def test_S5_the_order_of_a_mapping_and_of_a_set_is_ignored():
    assert freeze(({"a": 1, "b": 2},)) == freeze((MappingProxyType({"b": 2, "a": 1}),))
    assert freeze(({"a", "b"},)) == freeze((frozenset("ba"),))
    assert freeze(({"a": 1},)) != freeze(({"a": True},))
    assert freeze(({"a": None},)) != freeze(({},))


def test_S5_dataclasses_are_equal_by_class_and_by_the_fields_that_compare():
    assert freeze((Selector({"app": "web"}),)) == freeze((Selector({"app": "web"}, note="mine"),))
    assert freeze((Selector({"app": "web"}),)) != freeze((Other({"app": "web"}),))
    assert freeze((Selector({}),)) != freeze((Selector({}, limit=6),))
    assert freeze((Selector,)) == freeze((Selector,)), "a class is a value like any other"


def test_S5_a_container_never_equals_one_of_another_kind():
    assert len({freeze((each,)) for each in ([], {}, set(), (((),),))}) == 4


def test_a_key_of_plain_parts_is_stored_as_it_is():
    key = ("pods", 3)
    assert freeze(key) is key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("pods", r"is a tuple, not the string 'pods': write \('pods',\)"),
        (["pods", 1], r"not a list: write tuple\(\['pods', 1\]\)"),
        (None, "not None: leave the argument out"),
        (5, "such as .* not int"),
    ],
)
def test_S5_what_is_no_tuple_is_a_TypeError_that_says_what_to_write(key, says):
    with pytest.raises(TypeError, match=says):
        check_key(key)


def test_a_tuple_is_a_key():
    assert check_key(("pods",)) == ("pods",)


@pytest.mark.parametrize(
    "wrap",
    [lambda part: part, lambda part: [part], lambda part: {"a": part}, Fixed],
    ids=["itself", "in a list", "in a dict", "in a dataclass"],
)
def test_S5_an_unhashable_opaque_part_is_a_TypeError_that_says_what_to_put_there(wrap):
    with pytest.raises(TypeError, match="cannot hold a bytearray, which is not hashable: put what identifies it"):
        freeze((wrap(bytearray(b"a")),))


def test_a_snapshot_is_not_reached_by_later_changes():
    labels = {"app": ["web"]}
    selector = Selector({"app": "web"})
    names = {"a"}
    key = snapshot(("pods", labels, selector, [labels], names, Selector))
    labels["app"].append("db")
    labels["new"] = []
    selector.labels["app"] = "db"
    selector.limit = 1
    names.add("b")
    assert key[0] == "pods"
    assert key[1] == {"app": ("web",)}
    assert isinstance(key[2], Selector)
    assert (key[2].labels, key[2].limit) == ({"app": "web"}, 5)
    assert key[3] == ({"app": ("web",)},)
    assert key[4] == {"a"}
    assert key[5] is Selector


def test_a_snapshot_keeps_the_very_objects_that_a_dataclass_holds():
    """Else a key that is equal by such an object would not find its own entry again."""
    owner = Opaque()
    key = snapshot((Fixed(owner),))
    assert key[0].name is owner
    assert freeze(key) == freeze((Fixed(owner),))


@pytest.mark.parametrize("key", [(0,), (1,), (1.0,), (Number.ONE,), ((1,),), (frozenset({0}),), (Decimal(1),)])
def test_S5_a_number_that_equals_0_or_1_makes_a_key_ambiguous(key):
    assert is_ambiguous(freeze(key))


@pytest.mark.parametrize("key", [(), ("pods", 2), (True,), ([True],), ({"a": 1},), (None,), (frozenset("a"),)])
def test_S5_other_keys_are_not_ambiguous(key):
    assert not is_ambiguous(freeze(key))


# Prefixes


def matches(key: tuple[object, ...], prefix: tuple[object, ...]) -> bool:
    return starts_with(freeze(key), freeze(prefix))


@given(st.lists(plain, max_size=4).map(tuple), st.integers(0, 4))
def test_trap_15_every_beginning_of_a_key_is_a_prefix_of_it(key, length):
    assert matches(key, key[:length])


@given(st.lists(plain, max_size=3).map(tuple), plain)
def test_trap_15_a_longer_filter_matches_nothing(key, more):
    """tanstack.md trap 15: it once did where the parts too many were undefined."""
    assert not matches(key, (*key, more))
    assert not matches(key, (*key, None))


@given(st.dictionaries(st.sampled_from("abc"), plain), st.sets(st.sampled_from("abc")))
def test_trap_15_a_mapping_in_a_prefix_matches_by_subset(whole, names):
    subset = {name: value for name, value in whole.items() if name in names}
    assert matches(("pods", whole, "more"), ("pods", subset))
    assert matches(("pods", subset), ("pods", whole)) is (subset == whole)


def test_trap_15_a_mapping_matches_its_values_by_equality_and_nested_sequences_wholly():
    assert not matches(({"a": {"b": 1, "c": 2}},), ({"a": {"b": 1}},))
    assert not matches((("a", "b"),), (("a",),))
    assert matches((("a", "b"),), (["a", "b"],))
    assert not matches(({"a": 1},), ({"a": True},))
    assert not matches(("a",), ({},)), "a mapping matches mappings only"
    assert not matches((frozenset({("a", 1)}),), ({"a": 1},))
    assert not matches((Selector({"app": "web"}),), ({},))


def test_trap_15_the_empty_prefix_matches_all():
    assert matches((), ())
    assert matches(("pods", 1), ())


def test_matching_gives_the_names_that_a_part_means():
    some, more, name = freeze(({"a": 1}, {"a": 1, "b": 2}, "a"))
    children = dict.fromkeys([some, more, name])
    assert list(matching(children, some)) == [some, more]
    assert list(matching(children, more)) == [more]
    assert list(matching(children, "a")) == ["a"]
    assert list(matching(children, "b")) == []
