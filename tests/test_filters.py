"""Which queries a call means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from querykit.client import QueryClient
from querykit.filters import Filters, QueryFilters, make_filters
from querykit.keys import freeze, starts_with
from querykit.state import UNSET


def filters(key: object = UNSET, **given_: Any) -> Filters:
    return make_filters(key, given_, unset=UNSET)


def test_what_is_left_out_means_all():
    meant = filters()
    assert meant == Filters()
    assert meant.is_key_alone
    assert not meant.is_conditional


def test_the_key_is_frozen_and_the_tags_are_a_set():
    meant = filters(("pods", {"a": 1}), tags=["x", "x"], exact=True)
    assert meant.key == freeze(("pods", {"a": 1}))
    assert meant.tags == {"x"}
    assert meant.exact


@pytest.mark.parametrize("name", QueryFilters.__annotations__)
def test_omitted_means_all_but_None_never_does(name):
    with pytest.raises(TypeError, match=f"the filter {name}=None means nothing: leave it out to mean all"):
        filters(("pods",), **{name: None})


@pytest.mark.parametrize(("key", "says"), [(None, "not None"), ("pods", "string"), (["pods"], "list"), (3, "int")])
def test_S5_a_key_that_is_no_tuple_is_a_TypeError(key, says):
    with pytest.raises(TypeError, match=f"a key filter is a tuple.*{says}"):
        filters(key)


@pytest.mark.parametrize(
    ("given_", "error", "says"),
    [
        ({"prefix": ("pods",)}, TypeError, "unknown filter 'prefix'; there are key, exact, type, stale, "),
        ({"exact": True}, TypeError, "exact=True needs a key"),
        ({"exact": 1}, TypeError, "the filter exact is True or False, not 1"),
        ({"stale": "yes"}, TypeError, "the filter stale is True or False, not 'yes'"),
        ({"type": "some"}, ValueError, r"the filter type is one of \('all', 'active', 'inactive'\), not 'some'"),
        ({"fetch_status": []}, ValueError, "the filter fetch_status is one of"),
        ({"predicate": "all"}, TypeError, "predicate is a callable that takes the query, not 'all'"),
        ({"tags": "pods"}, TypeError, "tags is a list or set of hashable tags, not 'pods'"),
    ],
    ids=str,
)
def test_a_wrong_filter_says_what_is_right(given_, error, says):
    with pytest.raises(error, match=says):
        filters(**given_)


@pytest.mark.parametrize(
    ("given_", "key_alone", "conditional"),
    [
        ({}, True, False),
        ({"type": "all"}, True, False),
        ({"type": "active"}, False, False),
        ({"tags": ["a"]}, False, False),
        ({"stale": False}, False, True),
        ({"fetch_status": "idle"}, False, True),
        ({"predicate": bool}, False, True),
    ],
    ids=str,
)
def test_S2_only_filters_of_a_key_alone_match_keys_that_are_not_in_the_cache(given_, key_alone, conditional):
    meant = filters(("pods",), **given_)
    assert meant.is_key_alone is key_alone
    assert meant.is_conditional is conditional


# Against a scan by hand

keys = st.lists(st.sampled_from(["pods", "prod", 1, True, {"a": 1}]), min_size=1, max_size=3).map(tuple)
entries = st.dictionaries(
    keys.map(freeze),
    st.tuples(keys, st.frozensets(st.sampled_from(["x", "y"]), max_size=2), st.booleans(), st.booleans()),
    max_size=6,
)
some = st.fixed_dictionaries(
    {},
    optional={
        "key": st.lists(st.sampled_from(["pods", "prod", True, {}]), max_size=2).map(tuple),
        "type": st.sampled_from(["all", "active", "inactive"]),
        "stale": st.booleans(),
        "fetch_status": st.sampled_from(["idle", "fetching", "paused"]),
        "tags": st.frozensets(st.sampled_from(["x", "y"]), min_size=1, max_size=2),
        "predicate": st.sampled_from([lambda query: len(query.key) > 1, lambda query: 0, lambda query: "yes"]),
    },
)


class Follows:
    """An observer to which nothing is ever stale, or everything."""

    def __init__(self, stale_time: Any) -> None:
        self.stale_time = stale_time
        self.enabled = True

    def changed(self) -> None:
        """Do not mind."""

    def closed(self) -> None:
        """Do not mind."""


@given(entries, some, st.booleans())
@settings(max_examples=200)
def test_S6_every_combination_of_filters_finds_what_a_scan_finds(entries, given_, exact):
    client = QueryClient()
    for frozen, (_, tags, is_active, is_stale) in entries.items():
        client.set_query_data(frozen, 1)
        query = client.cache.find(frozen)
        assert query is not None
        client.cache.tag(query, tags)
        if is_active:
            query.attach(Follows("static"))
        if is_stale:
            client.invalidate_queries(frozen, exact=True)
    if exact and "key" in given_:
        given_ = {**given_, "exact": True}
    found = client.cache.match(filters(**given_))
    expected = []
    for query in client.cache:
        is_active = bool(query.observers)
        wanted = [
            "key" not in given_
            or (query.frozen == freeze(given_["key"]) if exact else starts_with(query.frozen, freeze(given_["key"]))),
            given_.get("type", "all") in ("all", "active" if is_active else "inactive"),
            "stale" not in given_ or given_["stale"] is (query.is_invalidated and not is_active),
            given_.get("fetch_status", "idle") == "idle",
            given_.get("tags", frozenset()) <= query.tags,
            bool(given_.get("predicate", bool)(query)) if "predicate" in given_ else True,
        ]
        if all(wanted):
            expected.append(query)
    assert {query.frozen for query in found} == {query.frozen for query in expected}
    assert len(found) == len(expected)


def test_a_predicate_that_raises_changes_nothing():
    client = QueryClient()
    client.set_query_data(("a",), 1)
    client.set_query_data(("b",), 2)

    def fail(query):
        if query.key == ("b",):
            raise LookupError
        return True

    for method in (client.remove_queries, client.invalidate_queries, client.reset_queries):
        with pytest.raises(LookupError):
            method(predicate=fail)
    assert [query.is_invalidated for query in client.cache] == [False, False]
