"""Options: declared, defaulted, validated and merged."""

from __future__ import annotations

import functools
import math
import re
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from querykit import infinite_query_options, mutation_options
from querykit.checks import seconds, tag_set
from querykit.keys import freeze
from querykit.options import (
    DEFAULTS,
    Defaults,
    ObserverOptions,
    check_fn,
    check_options,
    query_options,
)
from querykit.state import UNSET, skip

TIMES = ["stale_time", "gc_time", "retry_delay", "timeout", "stale_if_error", "initial_data_age"]


def resolved(**options: Any) -> Any:
    return Defaults({}).resolve(("pods",), options)


def test_every_option_has_a_default():
    assert {*DEFAULTS, "refetch_on_reconnect"} == set(ObserverOptions.__annotations__)


def test_S9_the_default_of_retry_is_3():
    """tanstack.md trap 29: and the other defaults are those of a process that lives."""
    options = resolved()
    assert (options.retry.retry, options.retry.delay, options.retry.retry_on) == (3, None, ())
    assert (options.stale_time, options.gc_time, options.timeout, options.stale_if_error) == (0, 300, None, None)
    assert (options.initial_data, options.initial_data_age, options.identity) == (UNSET, 0, UNSET)
    assert (options.tags, dict(options.meta), options.structural_sharing) == (frozenset(), {}, True)


def test_S12_the_defaults_hold_nothing_that_could_be_changed():
    with pytest.raises(TypeError):
        resolved().meta["mine"] = 1


# Times


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    ("given_", "becomes"), [(3, 3.0), (0, 0.0), (0.5, 0.5), (math.inf, math.inf), (timedelta(minutes=1), 60.0)]
)
def test_a_time_is_seconds_or_a_timedelta(name, given_, becomes):
    options = resolved(**{name: given_})
    value = options.retry.delay if name == "retry_delay" else getattr(options, name)
    assert value == becomes
    assert type(value) is float


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf, timedelta(seconds=-1)])
def test_a_time_that_cannot_be_is_a_ValueError_that_names_the_option(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is 0 or more seconds, not"):
        check_options({name: value})


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [True, [3], Decimal(3), 3j, b"3"], ids=repr)
def test_a_time_of_another_type_is_a_TypeError_that_names_the_option(name, value):
    with pytest.raises(TypeError, match=rf"^{name} is a number of seconds or a timedelta, not"):
        check_options({name: value})


@pytest.mark.parametrize("name", ["gc_time", "initial_data_age", "stale_time"])
def test_a_time_that_must_be_cannot_be_None(name):
    with pytest.raises(TypeError, match=name):
        check_options({name: None})


@pytest.mark.parametrize("name", ["timeout", "stale_if_error", "retry_delay"])
def test_a_time_that_need_not_be_may_be_None(name):
    check_options({name: None})


@given(st.floats(0, allow_nan=False))
def test_seconds_gives_back_what_is_seconds(value):
    assert seconds(value, "age") == value


@pytest.mark.parametrize("word", ["static", "http"])
def test_a_stale_time_may_be_a_word(word):
    assert resolved(stale_time=word).stale_time == word


def test_a_stale_time_of_another_word_is_a_ValueError_that_lists_them():
    with pytest.raises(ValueError, match=r'stale_time is .* "static" or "http", not \'never\''):
        check_options({"stale_time": "never"})


# The other options


@pytest.mark.parametrize(("value", "becomes"), [(0, 0), (5, 5), (True, math.inf), (False, 0), (math.inf, math.inf)])
def test_retry_is_a_number_or_a_bool(value, becomes):
    assert resolved(retry=value).retry.retry == becomes


def test_retry_and_its_delay_may_be_callables():
    def wants(failures, error):
        return True

    def waits(failures, error):
        return 3

    policy = resolved(retry=wants, retry_delay=waits).retry
    assert (policy.retry, policy.delay) == (wants, waits)


@pytest.mark.parametrize("value", [-1, math.nan])
def test_an_impossible_retry_is_a_ValueError(value):
    with pytest.raises(ValueError, match="retry is 0 or more, not"):
        check_options({"retry": value})


@pytest.mark.parametrize("value", ["3", None, timedelta(1), [1]], ids=repr)
def test_a_retry_of_another_type_is_a_TypeError(value):
    with pytest.raises(TypeError, match=r"retry is a number, a bool or a callable \(failures, error\) -> bool, not"):
        check_options({"retry": value})


def test_retry_on_is_error_classes():
    assert resolved(retry_on=(LookupError, ValueError)).retry.retry_on == (LookupError, ValueError)
    assert resolved(retry_on=LookupError).retry.retry_on == (LookupError,)


@pytest.mark.parametrize("value", [LookupError(), (LookupError, int), ("LookupError",), None, [LookupError]], ids=repr)
def test_retry_on_of_anything_else_is_a_TypeError(value):
    with pytest.raises(TypeError, match="retry_on is a tuple of exception classes, not"):
        check_options({"retry_on": value})


@pytest.mark.parametrize(
    "value",
    [["a", 1], {"a", 1}, ("a", 1), {"a": 0, 1: 0}, frozenset(["a", 1])],
    ids=["list", "set", "tuple", "dict", "frozenset"],
)
def test_tags_are_any_collection_of_hashable_values(value):
    assert resolved(tags=value).tags == {"a", 1}


@pytest.mark.parametrize("value", ["pods", b"pods", None, 3, iter(["pods"])], ids=lambda value: type(value).__name__)
def test_tags_that_are_no_collection_are_a_TypeError(value):
    """A string would be its letters; an iterator would be used up by the first look."""
    with pytest.raises(TypeError, match="tags is a list or set of hashable tags, not"):
        tag_set(value)


def test_a_tag_and_an_identity_are_hashable():
    with pytest.raises(TypeError, match="a tag is a hashable value, not a list"):
        check_options({"tags": [["pods"]]})
    with pytest.raises(TypeError, match="identity is a hashable value, not a dict"):
        check_options({"identity": {}})
    assert resolved(identity=("cluster", "prod")).identity == ("cluster", "prod")


def test_meta_is_a_mapping_and_structural_sharing_a_bool():
    assert resolved(meta=MappingProxyType({"a": 1}), structural_sharing=False).meta == {"a": 1}
    with pytest.raises(TypeError, match=r"meta is a mapping, not \['a'\]"):
        check_options({"meta": ["a"]})
    with pytest.raises(TypeError, match="structural_sharing is True or False, not 1"):
        check_options({"structural_sharing": 1})


@pytest.mark.parametrize("value", [None, 0, [], int, skip], ids=["None", "0", "list", "int", "skip"])
def test_initial_data_may_be_anything(value):
    assert resolved(initial_data=value).initial_data is value


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("zzz", "there are stale_time, gc_time"),
        ("select", "query_options(key, fn).select(f)"),
        ("max_pages", "infinite_query_options"),
    ],
)
def test_an_unknown_option_says_what_to_write_instead(name, instead):
    with pytest.raises(TypeError, match=re.escape(instead)):
        check_options({name: 1})


def test_an_unknown_option_is_a_TypeError_that_names_the_one_that_is_meant():
    for use in (check_options, Defaults, lambda given: Defaults({}).resolve((), given)):
        with pytest.raises(TypeError, match="unknown query option 'staletime'; did you mean 'stale_time'"):
            use({"staletime": 3})
    with pytest.raises(TypeError, match="unknown query option 'fn'"):
        check_options({"fn": list})


@pytest.mark.parametrize(
    "fn", [print, list, lambda: 1, skip, UNSET], ids=["builtin", "class", "lambda", "skip", "unset"]
)
def test_a_query_function_is_callable_or_skip(fn):
    check_fn(fn)


@pytest.mark.parametrize("fn", [None, 3, "pods"], ids=repr)
def test_what_is_no_query_function_is_a_TypeError_that_says_what_to_pass(fn):
    with pytest.raises(TypeError, match=r"a query function is callable, not .*: pass the function itself"):
        check_fn(fn)
    with pytest.raises(TypeError, match="a query function is callable"):
        Defaults({"fn": fn})


# Defaults, by prefix


def test_later_layers_win():
    defaults = Defaults({"gc_time": 1, "retry": 1, "stale_time": 1, "fn": list})
    defaults.set(("pods",), {"retry": 2, "stale_time": 2, "fn": dict})
    options = defaults.resolve(("pods", "prod"), {"stale_time": 3})
    assert (options.timeout, options.gc_time, options.retry.retry, options.stale_time) == (None, 1, 2, 3)
    assert defaults.fn(("pods", "prod")) is dict
    assert defaults.fn(("nodes",)) is list
    assert Defaults({}).fn(("pods",)) is None


names = st.sampled_from(["a", "b", {"x": 1}, {"x": 1, "y": 2}])
prefixes = st.lists(names, max_size=2).map(tuple)


@given(st.lists(st.tuples(prefixes, st.integers(0, 9)), max_size=6), st.lists(names, max_size=3).map(tuple))
def test_matching_prefixes_merge_in_the_order_of_their_registration(registered, key):
    """The first registration of a prefix gives it its place, the last one its options."""
    defaults = Defaults({"gc_time": 100})
    order: list[Any] = []
    for prefix, gc_time in registered:
        defaults.set(prefix, {"gc_time": gc_time})
        order = [(each, gc_time if each == prefix else time) for each, time in order]
        if prefix not in dict_keys(order):
            order.append((prefix, gc_time))
    expected = 100
    for prefix, gc_time in order:
        if is_prefix(prefix, key):
            expected = gc_time
    assert defaults.resolve(freeze(key), {}).gc_time == expected
    assert defaults.get(freeze(key))["gc_time"] == expected


def dict_keys(order: list[Any]) -> list[Any]:
    return [prefix for prefix, _ in order]


def is_prefix(prefix: tuple[Any, ...], key: tuple[Any, ...]) -> bool:
    return len(prefix) <= len(key) and all(
        mine.items() <= own.items() if isinstance(mine, dict) and isinstance(own, dict) else mine == own
        for mine, own in zip(prefix, key, strict=False)
    )


def test_setting_a_prefix_again_replaces_all_its_options():
    defaults = Defaults({})
    defaults.set(("pods",), {"retry": 1, "gc_time": 1})
    defaults.set(("pods",), {"retry": 2})
    assert defaults.get(("pods",)) == {"retry": 2}


def test_what_is_set_and_got_is_a_copy():
    given_: Any = {"retry": 1}
    defaults = Defaults({})
    defaults.set(("pods",), given_)
    given_["retry"] = 2
    defaults.get(("pods",))["retry"] = 3
    assert defaults.get(("pods",)) == {"retry": 1}


def test_wrong_defaults_are_refused_and_change_nothing():
    defaults = Defaults({"retry": 1})
    with pytest.raises(ValueError, match="gc_time"):
        defaults.set(("pods",), {"gc_time": -1})
    assert defaults.get(("pods",)) == {"retry": 1}


def test_options_are_resolved_once_where_nothing_differs():
    defaults = Defaults({"retry": 1})
    assert defaults.resolve(("pods",), {}) is defaults.resolve(("nodes",), {})


# Options as one value


def test_query_options_are_checked_when_they_are_made():
    with pytest.raises(TypeError, match=r"write \('pods',\)"):
        query_options("pods", list)
    with pytest.raises(TypeError, match="a query function is callable"):
        query_options(("pods",), 3)
    with pytest.raises(ValueError, match="gc_time"):
        query_options(("pods",), list, gc_time=-1)
    assert query_options(("pods",), list, gc_time=1).options == {"gc_time": 1}


def test_select_chains_and_leaves_the_first_as_it_was():
    pods = query_options(("pods",), list, retry=1)
    names = pods.select(sorted)
    first = names.select(lambda data: data[0])
    assert pods.selector is None
    assert names.selector(["b", "a"]) == ["a", "b"]
    assert first.selector(["b", "a"]) == "a"
    assert (first.key, first.fn, first.options) == (pods.key, pods.fn, pods.options)


def test_select_takes_a_callable():
    with pytest.raises(TypeError, match="select takes a callable of the data, not 'name'"):
        query_options(("pods",), list).select("name")


class TestWhatIsGivenAgain:
    def test_is_resolved_once(self):
        defaults = Defaults({})
        first = defaults.resolve(("a",), {"stale_time": 30, "retry": 1})
        assert defaults.resolve(("b",), {"stale_time": 30, "retry": 1}) is first
        assert defaults.resolve(("b",), {"stale_time": 30.0, "retry": 1}) == first

    def test_is_told_apart_by_type(self):
        defaults = Defaults({})
        assert defaults.resolve((), {"stale_time": 1}).stale_time == 1
        with pytest.raises(TypeError, match="stale_time"):
            defaults.resolve((), {"stale_time": True})

    def test_is_not_kept_where_it_may_be_data(self):
        defaults = Defaults({})
        for given_ in ({"initial_data": "ada"}, {"placeholder_data": "ada"}, {"identity": "ada"}, {"meta": {}}):
            defaults.resolve((), given_)
        assert not defaults._known

    def test_is_kept_up_to_a_bound(self):
        defaults = Defaults({})
        for n in range(500):
            assert defaults.resolve((), {"stale_time": n}).stale_time == n
        assert len(defaults._known) <= 64

    def test_gives_way_to_defaults_of_a_prefix(self):
        defaults = Defaults({})
        assert defaults.resolve(("a",), {"stale_time": 1}).retry.retry == 3
        defaults.set(("a",), {"retry": 5})
        assert defaults.resolve(("a",), {"stale_time": 1}).retry.retry == 5


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda fn: query_options(("me",), fn, meta={"token": "secret"}), "<Options of ('me',)>"),
        (
            lambda fn: infinite_query_options(("logs",), lambda ctx: fn(), initial_page_param="secret"),
            "<InfiniteOptions of ('logs',)>",
        ),
        (lambda fn: mutation_options(fn, meta={"token": "secret"}), "<MutationSpec of sorted>"),
    ],
    ids=["query", "infinite", "mutation"],
)
def test_what_was_given_is_in_no_repr(make, shown):
    assert repr(make(functools.partial(sorted, ["secret"]))) == shown
