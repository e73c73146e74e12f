"""The `tags` option: marks by which `invalidate_queries(tags=...)` and the others find entries."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from querykit import QueryClient, use_identity
from querykit.cache import TAG_NOTES
from querykit.identity import Record
from querykit.layers import Layer
from tests.fetches import Gate, settled
from tests.identities import A, B, names_of, returns

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


@pytest.fixture
async def client():
    async with QueryClient() as client:
        yield client


def names(data: list[str]) -> set[tuple[str, str]]:
    return {("pod", name) for name in data}


def tags_of(client: QueryClient, key: tuple[object, ...] = KEY) -> set[Any]:
    query = client.cache.find(key)
    found = set() if query is None else set(query.tags)
    assert {tag for tag, queries in client.cache._by_tag.items() if query in queries} == found
    return found


def found_by(client: QueryClient, *tags: Any, **filters: Any) -> list[Any]:
    return sorted(key for key, _ in client.get_queries_data(tags=tags, **filters))


# Static tags


async def test_all_who_carry_all_of_the_tags_are_found(client):
    await client.query(("a",), lambda: 1, tags=["x"])
    await client.query(("b",), lambda: 1, tags={"x", "y"})
    await client.query(("c",), lambda: 1)
    assert found_by(client, "x") == [("a",), ("b",)]
    assert found_by(client, "x", "y") == found_by(client, "y") == [("b",)]
    assert found_by(client, "z") == found_by(client, "x", "z") == []


async def test_those_of_all_calls_add_up(client):
    await client.query(KEY, lambda: 1, tags=["x"])
    await client.query(KEY, lambda: 1, tags=["y"])
    await client.prefetch(KEY, lambda: 1, tags=["z"])
    async with client.observe(KEY, lambda: 1, tags=["o"]):
        assert tags_of(client) == {"x", "y", "z", "o"}
    assert tags_of(client) == {"x", "y", "z", "o"}


async def test_a_default_counts_too(client):
    client.set_query_defaults(("pods",), tags=["pods"])
    client.set_query_data(KEY, [])
    assert tags_of(client) == {"pods"}


async def test_a_static_tag_stays_as_long_as_the_entry(client):
    async with client.observe(KEY, Gate(), tags=["x"], retry=0):
        client.set_query_data(KEY, ["web"])
        client.reset_queries(KEY)
        assert client.cache.find(KEY).tags == {"x"}
        client.remove_queries(KEY)
        assert client.cache.find(KEY).tags == {"x"}
    client.remove_queries(KEY)
    client.set_query_data(KEY, ["web"])
    assert tags_of(client) == set()


async def test_a_tag_is_any_hashable_value_and_compares_as_Python_does(client):
    await client.query(KEY, lambda: 1, tags=[("pod", 1), None, 1.0])
    assert found_by(client, ("pod", 1), None, 1) == [KEY]


async def test_no_tags_at_all_are_no_filter_that_could_be_meant(client):
    client.set_query_data(KEY, 1)
    with pytest.raises(ValueError, match="the filter tags is empty: leave it out to mean all"):
        client.invalidate_queries(tags=[])


# Tags of the data


async def test_they_follow_the_data(client):
    data = ["web", "db"]
    await client.query(KEY, lambda: data, tags=names)
    assert tags_of(client) == {("pod", "web"), ("pod", "db")}
    data = ["db", "job"]
    await client.query(KEY, lambda: data, tags=names)
    assert tags_of(client) == {("pod", "db"), ("pod", "job")}
    client.set_query_data(KEY, ["cron"])
    assert tags_of(client) == {("pod", "cron")}
    client.set_query_data(KEY, lambda old: [*old, "web"])
    assert tags_of(client) == {("pod", "cron"), ("pod", "web")}


async def test_they_stand_beside_static_ones(client):
    await client.query(KEY, lambda: ["web"], tags=["pods"])
    await client.query(KEY, lambda: ["web"], tags=names)
    assert tags_of(client) == {"pods", ("pod", "web")}
    client.set_query_data(KEY, ["db"])
    await client.prefetch(KEY, tags=["more"], stale_time=99)
    assert tags_of(client) == {"pods", "more", ("pod", "db")}


async def test_a_rule_that_comes_later_is_asked_of_the_data_there_is(client):
    client.set_query_data(KEY, ["web"])
    await client.query(KEY, lambda: ["db"], tags=names, stale_time=9, gc_time=0)
    await client.query(KEY, lambda: ["db"], tags=names, stale_time=9, swr=True, meta={})
    assert tags_of(client) == set()  # a hit looks at no option
    client.invalidate_queries(KEY)
    fetched = asyncio.ensure_future(client.query(KEY, lambda: ["db"], tags=names))
    await settled()
    assert tags_of(client) == {("pod", "db")}
    assert await fetched == ["db"]


async def test_the_rule_given_last_makes_them(client):
    await client.query(KEY, lambda: ["web"], tags=lambda data: ["first"])
    await client.query(KEY, lambda: ["web"], tags=lambda data: ["second"])
    assert tags_of(client) == {"second"}


async def test_a_rule_is_asked_once_for_each_data(client):
    asked = []

    def rule(data):
        asked.append(data)
        return [data]

    for data in (1, 2):
        await client.query(KEY, lambda data=data: data, tags=rule)
    assert asked == [1, 2]


async def test_initial_data_has_them_too(client):
    async with client.observe(KEY, Gate(), initial_data=["web"], tags=names):
        assert tags_of(client) == {("pod", "web")}


async def test_they_are_of_None_where_that_is_the_data(client):
    await client.query(KEY, lambda: None, tags=lambda data: ["none"] if data is None else [])
    assert tags_of(client) == {"none"}


@pytest.mark.parametrize("how", ["remove", "reset", "forget", "clear"])
@pytest.mark.parametrize("observed", [True, False])
async def test_S3_they_leave_with_the_data(client, how, observed):
    await client.query(KEY, returns(["web"], A), tags=names)
    observation = client.observe(KEY, Gate(), stale_time=99)
    if observed:
        aiter(observation)
    act = {
        "remove": lambda: client.remove_queries(KEY),
        "reset": lambda: client.reset_queries(KEY),
        "forget": lambda: client.forget(A),
        "clear": client.clear,
    }
    act[how]()
    assert tags_of(client) == set()
    assert found_by(client, ("pod", "web")) == []
    assert not client.cache._by_tag
    observation.close()


async def test_they_go_with_an_entry_that_is_collected(client):
    await client.query(KEY, lambda: ["web"], tags=names, gc_time=1)
    await client.query(("other",), lambda: ["web"], tags=["x"], gc_time=1)
    await asyncio.sleep(3)
    assert not client.cache._by_tag


async def test_optimistic_changes_have_none_of_their_own(client):
    await client.query(KEY, lambda: ["web"], tags=names)
    query = client.cache.find(KEY)
    layer = Layer(lambda data: [*data, "new"], Record(client.cache.ledger))
    query.overlay(layer)
    assert client.get_query_data(KEY) == ["web", "new"]
    assert query.tags == {("pod", "web")}
    client.set_query_data(KEY, ["db"])
    assert client.get_query_data(KEY) == ["db", "new"]
    assert query.tags == {("pod", "db")}
    query.withdraw(layer)
    assert query.tags == {("pod", "db")}


async def test_an_optimistic_change_that_has_become_part_of_the_data_counts(client):
    await client.query(KEY, lambda: ["web"], tags=names)
    query = client.cache.find(KEY)
    layer = Layer(lambda data: [*data, "new"], Record(client.cache.ledger))
    query.overlay(layer)
    query.confirm(layer, client.cache.ledger.tick())
    assert tags_of(client) == {("pod", "web"), ("pod", "new")}


# A rule that is wrong


def is_broken(data):
    raise LookupError("no tags")


def is_cancelled(data):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "rule",
    [is_broken, is_cancelled, lambda data: "pod", lambda data: 3, lambda data: None, lambda data: [["x"]]],
    ids=["raises", "cancelled", "string", "number", "None", "unhashable"],
)
async def test_S8_a_rule_that_raises_or_returns_no_tags_is_reported_and_gives_none(client, reported, rule):
    await client.query(KEY, lambda: ["web"], tags=["static"])
    assert await client.query(KEY, lambda: ["db"], tags=rule) == ["db"]
    assert tags_of(client) == {"static"}
    for told in reported.take():
        assert f"the tags of {KEY!r}" in told["message"]
    client.set_query_data(KEY, ["db"])
    assert len(reported.take()) == 1


async def test_S8_what_a_broken_rule_had_given_before_is_gone(client, reported):
    await client.query(KEY, lambda: ["web"], tags=lambda data: [data[0]])
    client.set_query_data(KEY, [])
    assert tags_of(client) == set()
    assert "raised IndexError" in reported.take()[0]["message"]


async def test_a_rule_may_use_the_client(client):
    def rule(data):
        client.set_query_data(("count",), len(data))
        return data

    await client.query(KEY, lambda: ["web"], tags=rule)
    assert (tags_of(client), client.get_query_data(("count",))) == ({"web"}, 1)


async def test_S3_a_rule_that_uses_what_it_forgets_gives_none(client):
    def rule(data):
        use_identity(A)
        client.forget(A)
        return data

    assert await client.query(KEY, lambda: ["web"], tags=rule) == ["web"]
    assert tags_of(client) == set()


@pytest.mark.parametrize("how", ["remove", "forget", "set"])
async def test_S3_a_rule_that_takes_its_own_data_away_gives_none(client, how):
    def rule(data):
        if how == "remove":
            client.remove_queries(KEY)
        elif how == "forget":
            client.forget(A)
        elif data == ["web"]:
            client.set_query_data(KEY, ["db"])
        return data

    client.set_query_data(KEY, ["web"], identity=A)
    async with client.observe(KEY, Gate(), tags=rule, stale_time=99):
        assert tags_of(client) == ({"db"} if how == "set" else set())
        assert set(names_of(client, KEY)) == ({A} if how == "set" else set())


# Identities


async def test_S3_a_rule_runs_under_a_record_whose_identities_spread_to_the_entry(client):
    def rule(data):
        use_identity(A)
        return data

    await client.query(KEY, lambda: ["web"], tags=rule)
    assert set(names_of(client, KEY)) == {A}
    client.forget(A)
    assert found_by(client, "web") == []
    assert client.get_query_data(KEY) is None


async def test_S3_what_a_rule_reads_spreads_too_and_the_entry_goes_with_it(client):
    await client.query(("names",), returns({"web": "Web"}, B))

    def rule(data):
        known = client.get_query_data(("names",), {})
        return [known.get(name, name) for name in data]

    await client.query(KEY, returns(["web"], A), tags=rule)
    assert tags_of(client) == {"Web"}
    assert set(names_of(client, KEY)) == {A, B}
    client.forget(B)
    assert client.get_query_data(KEY) is None
    assert tags_of(client) == set()


async def test_S3_a_rule_is_not_asked_under_the_record_of_who_reads(client):
    def rule(data):
        use_identity(A)
        return data

    async def reader():
        client.set_query_data(KEY, ["web"])
        return "read"

    client.set_query_defaults(KEY, tags=rule)
    await client.query(("reader",), reader)
    assert (set(names_of(client, KEY)), set(names_of(client, ("reader",)))) == ({A}, set())


# With the other filters, and what acts on them


async def test_tags_and_the_other_filters_must_all_hold(client):
    for key, tags in ((("pods", "a"), "x"), (("pods", "b"), "xy"), (("nodes", "a"), "x")):
        await client.query(key, lambda: 1, tags=list(tags))
    client.invalidate_queries(("pods", "b"))
    assert found_by(client, "x", key=("pods",)) == [("pods", "a"), ("pods", "b")]
    assert found_by(client, "x", key=("pods", "a"), exact=True) == [("pods", "a")]
    assert found_by(client, "y", key=("nodes",)) == []
    assert found_by(client, "x", stale=True) == [("pods", "b")]
    assert found_by(client, "x", predicate=lambda query: query.key[1] == "a") == [("nodes", "a"), ("pods", "a")]
    assert found_by(client, "x", fetch_status="fetching") == []
    async with client.observe(("pods", "a"), stale_time=99):
        assert found_by(client, "x", type="active") == [("pods", "a")]
        assert found_by(client, "x", type="inactive") == [("nodes", "a"), ("pods", "b")]


async def test_invalidating_by_tags_fetches_the_observed_ones_anew(client):
    data = ["web"]
    async with client.observe(KEY, lambda: list(data), tags=names, stale_time=99) as results:
        await results.wait_for(lambda result: result.is_success)
        data = ["db"]
        await client.invalidate_queries(tags=[("pod", "web")])
        assert results.result.data == ["db"]
        data = ["job"]
        await client.invalidate_queries(tags=[("pod", "web")])
        assert results.result.data == ["db"]


async def test_all_that_takes_filters_takes_tags(client):
    async with client.observe(KEY, lambda: ["web"], tags=names, stale_time=99) as results:
        await results.wait_for(lambda result: result.is_success)
        tags = [("pod", "web")]
        await client.refetch_queries(tags=tags)
        assert results.result.data_update_count == 2
        client.set_queries_data(tags=tags, updater=lambda data: [*data, "db"])
        assert results.result.data == ["web", "db"]
        assert client.is_fetching(tags=tags) == 0
        client.cancel_queries(tags=tags)
        await client.reset_queries(tags=tags)
        assert results.result.data == ["web"]
        client.remove_queries(tags=tags)
        assert results.result.is_pending


async def test_S6_finding_by_tags_looks_at_those_alone_that_carry_the_rarest(client):
    for n in range(200):
        client.set_query_data(("many", n), n)
        client.cache.tag(client.cache.find(("many", n)), frozenset({"all"} | ({"few"} if n < 2 else set())))
    looked = []
    client.get_queries_data(tags=["all", "few"], predicate=lambda query: looked.append(query.key) or True)
    assert sorted(looked) == [("many", 0), ("many", 1)]


# An invalidation while the data is under way, whose tags nobody knows yet


async def test_S2_what_was_invalidated_by_a_tag_while_it_was_fetched_is_not_fresh(client):
    gate = Gate()
    caller = asyncio.ensure_future(client.query(KEY, gate, tags=names, stale_time=99))
    await settled()
    client.invalidate_queries(tags=[("pod", "web")])
    await gate.answer(["web"])
    assert await caller == ["web"]
    assert client.get_query_state(KEY).is_invalidated


@pytest.mark.parametrize(("refetch_type", "calls"), [("active", 2), ("all", 2), ("inactive", 1), ("none", 1)], ids=str)
async def test_S2_and_where_it_is_observed_is_fetched_anew(client, refetch_type, calls):
    gate = Gate()
    async with client.observe(KEY, gate, tags=names, stale_time=99) as results:
        await settled()
        client.invalidate_queries(("pods",), tags=[("pod", "web")], refetch_type=refetch_type)
        await gate.answer(["web"])
        assert (gate.calls, results.result.data, results.result.is_invalidated) == (calls, ["web"], True)
        if calls == 2:
            await gate.answer(["web", "db"])
            assert (results.result.data, results.result.is_invalidated) == (["web", "db"], False)


@pytest.mark.parametrize(
    ("key", "tags", "exact"),
    [(("pods",), [("pod", "db")], False), (("nodes",), [("pod", "web")], False), (("pods",), [("pod", "web")], True)],
    ids=["tag", "key", "exact"],
)
async def test_S2_others_are_not_meant(client, key, tags, exact):
    gate = Gate()
    caller = asyncio.ensure_future(client.query(KEY, gate, tags=names, stale_time=99))
    await settled()
    client.invalidate_queries(key, tags=tags, exact=exact)
    await gate.answer(["web"])
    await caller
    assert not client.get_query_state(KEY).is_invalidated


async def test_S7_so_many_are_noted_and_what_began_before_them_counts_as_meant(client):
    gate = Gate()
    callers = [asyncio.ensure_future(client.query((name,), gate, tags=names, stale_time=99)) for name in "ab"]
    await settled()
    for n in range(TAG_NOTES):
        client.invalidate_queries(tags=[n])
    await gate.answer(["web"], 0)
    client.invalidate_queries(tags=["one more"])
    await gate.answer(["web"], 1)
    await asyncio.gather(*callers)
    assert [client.get_query_state((name,)).is_invalidated for name in "ab"] == [False, True]
    assert len(client.cache._invalidated_tags) == TAG_NOTES
