"""Scopes: mutations of one scope run one after the other, in the order of their calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import QueryClient
from tests.fetches import Gate, settled

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


async def test_trap_22_functions_of_one_scope_run_one_after_the_other_and_on_mutate_at_once(client):
    order = []

    async def fn(name):
        order.append(f"{name} begins")
        await asyncio.sleep(1)
        order.append(f"{name} ends")

    for name in "ab":
        client.mutate(fn, name, scope="s", on_mutate=lambda name, ctx: order.append(f"on_mutate of {name}"))
    await asyncio.sleep(3)
    assert order == ["on_mutate of a", "a begins", "on_mutate of b", "a ends", "b begins", "b ends"]


async def test_trap_22_a_failure_lets_the_next_run(client):
    order = []

    async def fn(name):
        order.append(name)
        raise LookupError

    for name in "abc":
        client.mutate(fn, name, scope="s")
    await settled()
    assert order == ["a", "b", "c"]


async def test_trap_22_without_a_scope_equal_mutations_run_side_by_side(client):
    gate = Gate()
    client.mutate(gate)
    client.mutate(gate)
    await settled()
    assert gate.calls == 2
    await gate.answer(1, 0)
    await gate.answer(2, 1)


async def test_other_scopes_do_not_wait(client):
    gate = Gate()
    client.mutate(gate, scope="a")
    assert await client.mutate(lambda: 1, scope="b") == 1
    await settled()
    await gate.answer(1)


async def test_queued_ones_show_that_they_are_paused(client):
    gate = Gate()
    client.mutate(gate, scope="s")
    client.mutate(gate, scope="s")
    first, second = client.mutations
    await settled()
    assert (first.state.is_paused, second.state.is_paused) == (False, True)
    await gate.answer(1)
    assert not second.state.is_paused
    await gate.answer(2)
    assert second.state.is_success


async def test_the_next_waits_for_the_callbacks_too(client):
    order = []

    async def on_settled(*arguments):
        await asyncio.sleep(1)
        order.append("settled")

    client.mutate(lambda: order.append("a"), scope="s", on_settled=on_settled)
    await client.mutate(lambda: order.append("b"), scope="s")
    assert order == ["a", "settled", "b"]


async def test_one_that_fails_in_on_mutate_leaves_the_queue(client):
    gate, order = Gate(), []
    client.mutate(gate, scope="s")
    failing = client.mutate(lambda: order.append("never"), scope="s", on_mutate=lambda v, ctx: 1 / 0)
    third = client.mutate(lambda: order.append("third"), scope="s")
    with pytest.raises(ZeroDivisionError):
        await failing
    assert order == []
    await gate.answer(1)
    await third
    assert order == ["third"]


async def test_one_that_waits_for_the_network_holds_up_its_scope(client):
    order = []
    client.online.set(False)
    client.mutate(lambda: order.append("a"), scope="s")
    last = client.mutate(lambda: order.append("b"), scope="s", network_mode="always")
    await settled()
    assert order == []
    client.online.set(True)
    await last
    assert order == ["a", "b"]


async def test_one_whose_turn_comes_while_offline_waits_on(client):
    gate, order = Gate(), []
    client.mutate(gate, scope="s")
    last = client.mutate(lambda: order.append("b"), scope="s")
    await settled()
    client.online.set(False)
    await gate.answer(1)
    assert order == []
    client.online.set(True)
    await last


async def test_a_forgotten_one_keeps_its_turn(client):
    gate, order = Gate(), []
    client.mutate(gate, scope="s", identity="ada")
    last = client.mutate(lambda: order.append("b"), scope="s")
    await settled()
    client.forget("ada")
    await settled()
    assert order == []
    await gate.answer(1)
    await last


async def test_a_scope_is_any_hashable_value(client):
    order = []
    client.mutate(asyncio.sleep, 1, scope=("pods", "prod"), on_settled=lambda *a: order.append("a"))
    await client.mutate(lambda: order.append("b"), scope=("pods", "prod"))
    assert order == ["a", "b"]


@pytest.mark.parametrize("scope", [["s"], {"id": "s"}, {"s"}], ids=repr)
async def test_a_scope_of_a_wrong_type_is_a_type_error(client, scope):
    with pytest.raises(TypeError, match="scope is a hashable value"):
        client.mutate(lambda: 1, scope=scope)
    assert len(client.mutations) == 0
