"""Signals, and the rules that bind them to the cache (design section 5)."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from blinker import ANY, Signal

from querykit import signals
from querykit.cache import CacheEvent
from querykit.client import QueryClient
from querykit.errors import ClientClosed
from querykit.identity import use_identity
from querykit.signals import (
    OWN_SIGNALS,
    auth_failed,
    bind_auth,
    emit,
    logged_out,
    query_added,
    query_removed,
    query_updated,
    reload_requested,
    token_cleared,
    token_set,
)


@pytest.fixture(autouse=True)
def nobody_listens_afterwards():
    yield
    gc.collect()
    assert not [signal for signal in OWN_SIGNALS if signal.receivers]


@pytest.fixture
def told() -> list[tuple[str, BaseException]]:
    return []


@pytest.fixture
def client(told) -> Iterator[QueryClient]:
    client = QueryClient(report=lambda message, error: told.append((message, error)))
    yield client
    for undo in tuple(client._rules):
        undo()


def keys(client: QueryClient) -> set[tuple[object, ...]]:
    return {query.key for query in client.cache}


def invalidated(client: QueryClient) -> set[tuple[object, ...]]:
    return {query.key for query in client.cache if query.is_invalidated}


def test_the_module_s_signals_are_those_whose_sender_is_a_client():
    assert set(OWN_SIGNALS) == {each for each in vars(signals).values() if isinstance(each, Signal)} - {ANY}
    assert len(OWN_SIGNALS) == 8


# Emitting


def test_every_receiver_hears_the_client_and_the_arguments_before_emit_returns(client):
    heard: list[Any] = []

    def hear(sender, **arguments):
        heard.append((sender, arguments))

    with reload_requested.connected_to(hear), reload_requested.connected_to(hear, sender=client):
        emit(reload_requested, client, cluster="prod", url="http://a")
    emit(reload_requested, client, cluster="prod")
    assert heard == [(client, {"cluster": "prod", "url": "http://a"})]


def test_a_receiver_that_asked_for_another_client_hears_nothing(client):
    heard: list[Any] = []

    def hear(sender, **arguments):
        heard.append(sender)

    other = QueryClient()
    with token_set.connected_to(hear, sender=other):
        emit(token_set, client, cluster="prod")
        emit(token_set, other, cluster="prod")
    assert heard == [other]


@pytest.mark.parametrize(
    "error", [LookupError("no"), asyncio.CancelledError()], ids=["an Exception", "a CancelledError"]
)
def test_S8_a_receiver_that_raises_is_reported_and_stops_no_other(client, told, error):
    heard: list[int] = []

    def fail(sender, **arguments):
        raise error

    def hear(sender, **arguments):
        heard.append(1)

    def hear_too(sender, **arguments):
        heard.append(2)

    with token_set.connected_to(hear), token_set.connected_to(fail), token_set.connected_to(hear_too):
        emit(token_set, client, cluster="prod")
    assert sorted(heard) == [1, 2]
    ((message, reported),) = told
    assert reported is error
    assert "fail raised" in message


def test_S8_a_receiver_that_takes_other_arguments_is_reported(client, told):
    class Hears:
        def __call__(self, sender):
            raise AssertionError

    hears = Hears()
    with token_set.connected_to(hears):
        emit(token_set, client, cluster="prod")
    ((message, error),) = told
    assert message.endswith("Hears raised TypeError")
    assert isinstance(error, TypeError)


async def test_S8_an_async_receiver_runs_in_a_task_that_the_client_owns(client, told):
    heard: list[Any] = []

    async def hear(sender, cluster):
        await asyncio.sleep(0)
        heard.append(cluster)

    async def fail(sender, cluster):
        raise LookupError("no")

    async def hang(sender, cluster):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async with client:
        with token_set.connected_to(hear), token_set.connected_to(fail), token_set.connected_to(hang):
            emit(token_set, client, cluster="prod")
            assert heard == [], "emit did not wait for it"
        for _ in range(5):
            await asyncio.sleep(0)
        assert heard == ["prod"]
        ((message, error),) = told
        assert "fail raised LookupError" in message
        assert isinstance(error, LookupError)
    assert heard == ["prod", "cancelled"], "it ends with the client at the latest"


async def test_S8_an_async_receiver_of_a_closed_client_is_reported_and_not_left_unawaited(client, told):
    async def hear(sender, cluster):
        raise AssertionError

    async with client:
        pass
    with token_set.connected_to(hear):
        emit(token_set, client, cluster="prod")
    ((_, error),) = told
    assert isinstance(error, ClientClosed)


async def test_S8_receivers_run_outside_of_every_record(client):
    """A receiver that uses a credential does not make the fetch that emits depend on it."""

    def hear(sender, cluster):
        use_identity(("cluster", cluster))

    async def hear_later(sender, cluster):
        use_identity(("cluster", cluster))

    def fetch() -> str:
        emit(token_set, client, cluster="prod")
        signal.send(cluster="prod")
        return "ada"

    def rule(cluster):
        use_identity(("cluster", cluster))

    signal = Signal()
    async with client:
        client.on(signal, remove=rule)
        with token_set.connected_to(hear), token_set.connected_to(hear_later):
            assert await client.query(("me",), fetch) == "ada"
        await asyncio.sleep(0)
        assert not client.cache.find(("me",)).identities


def test_a_muted_signal_is_not_heard(client):
    heard: list[Any] = []

    def hear(sender, **arguments):
        heard.append(arguments)

    with token_set.connected_to(hear), token_set.muted():
        emit(token_set, client, cluster="prod")
    assert heard == []


# Rules


def test_a_rule_acts_before_the_emitting_call_returns(client):
    client.set_query_data(("pods", "prod"), 1)
    client.set_query_data(("pods", "dev"), 1)
    with client.on(token_set, invalidate=lambda cluster, **_: ("pods", cluster)):
        emit(token_set, client, cluster="prod")
        assert invalidated(client) == {("pods", "prod")}
    with client.on(token_set, remove=("pods",)):
        emit(token_set, client, cluster="prod")
        assert keys(client) == set()


def test_a_rule_s_key_is_a_prefix_unless_exact(client):
    for key in [("auth",), ("auth", "prod")]:
        client.set_query_data(key, 1)
    with client.on(logged_out, remove=("auth",), exact=True):
        emit(logged_out, client, cluster="prod")
    assert keys(client) == {("auth", "prod")}


def test_a_rule_that_returns_None_does_nothing(client, told):
    client.set_query_data(("pods",), 1)
    with client.on(token_set, remove=lambda cluster: None):
        emit(token_set, client, cluster="prod")
    assert keys(client) == {("pods",)}
    assert told == []


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (lambda cluster: {}[cluster], KeyError),
        (lambda other: ("pods",), TypeError),
        (lambda cluster: cluster, TypeError),
        (lambda cluster: ([bytearray()],), TypeError),
    ],
    ids=["it raises", "it takes other arguments", "it returns no key", "it returns an impossible key"],
)
def test_S8_a_rule_that_fails_is_reported_and_stops_no_other(client, told, rule, error):
    client.set_query_data(("me",), 1)
    with client.on(token_set, remove=rule), client.on(token_set, remove=("me",)):
        emit(token_set, client, cluster="prod")
    assert keys(client) == set()
    ((message, reported),) = told
    assert isinstance(reported, error)
    assert message.startswith("the rule <lambda> raised")


def test_a_rule_is_either_of_the_two_and_its_key_a_tuple(client):
    for rules in ({}, {"invalidate": ("a",), "remove": ("a",)}):
        with pytest.raises(TypeError, match="a rule needs either invalidate= or remove="):
            client.on(token_set, **rules)
    with pytest.raises(TypeError, match=r"a rule's key is a tuple, not the string 'auth'"):
        client.on(token_set, remove="auth")
    assert not token_set.receivers


def test_for_own_signals_a_rule_hears_its_own_client_alone(client):
    other = QueryClient()
    for each in (client, other):
        each.set_query_data(("me",), 1)
    with client.on(token_set, remove=("me",)):
        emit(token_set, other, cluster="prod")
        assert keys(client) == {("me",)}
        emit(token_set, client, cluster="prod")
    assert keys(client) == set()
    assert keys(other) == {("me",)}


def test_for_other_signals_a_rule_hears_every_sender_unless_one_is_given(client):
    signal = Signal()
    with client.on(signal, remove=lambda key: (key,)), client.on(signal, remove=lambda key: (key, 2), sender="mine"):
        client.set_query_data(("a",), 1)
        client.set_query_data(("b", 2), 1)
        signal.send("another", key="b")
        assert keys(client) == {("a",)}, "it heard another's"
        signal.send(key="a")
        assert keys(client) == set()
    with client.on(signal, remove=lambda key: (key,), sender=client):
        client.set_query_data(("a",), 1)
        signal.send("another", key="a")
        assert keys(client) == {("a",)}
        signal.send(client, key="a")
        assert keys(client) == set()


def test_a_rule_is_unbound_by_what_on_returns(client):
    client.set_query_data(("me",), 1)
    undo = client.on(token_set, remove=("me",))
    undo()
    undo()
    emit(token_set, client, cluster="prod")
    assert keys(client) == {("me",)}
    assert not token_set.receivers


def test_a_rule_lives_as_long_as_its_client_holds_it(client):
    client.set_query_data(("me",), 1)
    client.on(token_set, remove=("me",))
    gc.collect()
    emit(token_set, client, cluster="prod")
    assert keys(client) == set()


async def test_a_rule_is_unbound_with_its_client(client, told):
    signal = Signal()
    client.on(signal, remove=("me",))
    async with client:
        pass
    assert not signal.receivers
    signal.send()
    assert told == []


def test_S12_a_client_that_is_dropped_takes_its_rules_with_it():
    signal = Signal()
    client = QueryClient()
    client.on(signal, remove=("me",))
    bind_auth(client)
    seen = weakref.ref(client)
    del client
    gc.collect()
    assert seen() is None
    assert not signal.receivers


# The rules of a login


LOGIN = [("clusterMe", "prod"), ("clusterMe", "dev"), ("clusterMe", "prod", 1), ("auth", "prod"), ("auth",), ("pods",)]


@pytest.fixture
def logged_in(client) -> QueryClient:
    for key in LOGIN:
        client.set_query_data(key, 1)
    return client


def test_a_set_token_invalidates_exactly_the_cluster_s_user(logged_in):
    with bind_auth(logged_in):
        emit(token_set, logged_in, cluster="prod")
    assert invalidated(logged_in) == {("clusterMe", "prod")}
    assert keys(logged_in) == set(LOGIN)


def test_a_cleared_token_removes_exactly_that(logged_in):
    with bind_auth(logged_in):
        emit(token_cleared, logged_in, cluster="prod")
    assert keys(logged_in) == set(LOGIN) - {("clusterMe", "prod")}


def test_a_logout_removes_that_and_all_of_auth(logged_in):
    with bind_auth(logged_in):
        emit(logged_out, logged_in, cluster="prod")
    assert keys(logged_in) == {("clusterMe", "dev"), ("clusterMe", "prod", 1), ("pods",)}


def test_other_signals_leave_the_cache_alone_and_unbinding_ends_it(logged_in):
    undo = bind_auth(logged_in)
    emit(auth_failed, logged_in, cluster="prod", error=LookupError())
    assert (keys(logged_in), invalidated(logged_in)) == (set(LOGIN), set())
    undo()
    undo()
    emit(logged_out, logged_in, cluster="prod")
    assert keys(logged_in) == set(LOGIN)
    assert not logged_out.receivers


# Cache events as signals


def test_cache_events_are_available_as_signals(client):
    heard: list[Any] = []

    def hear(kind):
        return lambda sender, event: heard.append((sender, kind, event.kind, event.query.key, str(event.cause)))

    added, updated, removed = hear("added"), hear("updated"), hear("removed")
    with query_added.connected_to(added), query_updated.connected_to(updated), query_removed.connected_to(removed):
        client.set_query_data(("me",), "ada")
        _ = client.remove_queries(("me",))
    assert heard == [
        (client, "added", "added", ("me",), "create"),
        (client, "updated", "updated", ("me",), "set"),
        (client, "removed", "removed", ("me",), "remove"),
    ]


def test_cache_events_cost_nothing_while_nobody_listens(client, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("an event was made")

    monkeypatch.setattr(CacheEvent, "__init__", fail)
    client.set_query_data(("me",), "ada")
    assert client.get_query_data(("me",)) == "ada"


def test_S8_a_receiver_of_cache_events_may_change_the_cache(client):
    kinds: list[str] = []

    def hear(sender, event):
        kinds.append(f"{event.kind} {event.query.key[0]}")
        if event.query.key == ("me",):
            sender.set_query_data(("you",), 1)

    with query_added.connected_to(hear), query_updated.connected_to(hear):
        client.set_query_data(("me",), "ada")
    assert kinds[:2] == ["added me", "updated me"]
    assert "added you" in kinds
