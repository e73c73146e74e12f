"""MutationObserver: the state of the latest mutation, callbacks for one call, and its life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from querykit import (
    ClientClosed,
    MissingMutationFunction,
    MutationObserver,
    ObserverClosed,
    QueryCancelled,
    QueryClient,
    WrongThread,
    mutation_options,
)
from tests.fetches import Gate, settled

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


async def refused(variables):
    raise LookupError("no")


class Seen(list):
    """Notes the status and data of each state."""

    def __call__(self, state):
        self.append((state.status, state.data))


class TestResult:
    async def test_it_is_idle_before_the_first_mutation(self, client):
        observer = MutationObserver(client, str.title)
        assert observer.result.is_idle
        assert observer.result.submitted_at is None
        assert observer.result is observer.result

    async def test_subscribers_see_each_state_of_the_latest(self, client):
        seen = Seen()
        observer = MutationObserver(client, str.title)
        with observer.subscribe(seen):
            assert await observer.mutate("ada") == "Ada"
            await observer.mutate("bob")
        assert seen == [("pending", None), ("success", "Ada"), ("pending", None), ("success", "Bob")]
        assert observer.result.data == "Bob"
        assert observer.result is observer.result

    async def test_an_older_mutation_is_shown_no_more(self, client):
        gate, seen = Gate(), Seen()
        observer = MutationObserver(client, gate)
        with observer.subscribe(seen):
            observer.mutate()
            observer.mutate()
            await settled()
            await gate.answer("old", 0)
            assert observer.result.is_pending
            await gate.answer("new", 1)
        assert seen[-1] == ("success", "new")
        assert ("success", "old") not in seen

    async def test_an_error_is_shown(self, client):
        observer = MutationObserver(client, refused)
        with observer:
            with pytest.raises(LookupError):
                await observer.mutate(1)
            assert observer.result.is_error

    async def test_reset_shows_none_and_lets_it_run_on(self, client):
        gate, seen = Gate(), Seen()
        observer = MutationObserver(client, gate)
        with observer.subscribe(seen):
            begun = observer.mutate()
            observer.reset()
            assert observer.result.is_idle
            await settled()
            await gate.answer("data")
            assert await begun == "data"
            assert observer.result.is_idle
        assert seen == [("pending", None), ("idle", None)]

    async def test_without_subscribers_it_can_be_read_until_it_is_collected(self, client):
        observer = MutationObserver(client, str.title, gc_time=10)
        await observer.mutate("ada")
        assert observer.result.data == "Ada"
        await asyncio.sleep(20)
        assert observer.result.is_idle
        with observer.subscribe(print):
            assert observer.result.is_idle

    async def test_without_subscribers_it_may_mutate_again(self, client):
        observer = MutationObserver(client, str.title, gc_time=10)
        await observer.mutate("ada")
        await observer.mutate("bob")
        assert observer.result.data == "Bob"
        await asyncio.sleep(20)
        assert len(client.mutations) == 0

    async def test_while_subscribed_it_is_not_collected(self, client):
        observer = MutationObserver(client, str.title, gc_time=10)
        await observer.mutate("ada")
        with observer.subscribe(print):
            await asyncio.sleep(60)
            assert observer.result.data == "Ada"
            client.mutations.clear()
            assert observer.result.data == "Ada"
        assert observer.result.is_idle


class TestCallbacksOfACall:
    async def test_they_come_after_all_others_and_before_the_subscribers(self, client):
        log = []
        observer = MutationObserver(client, str.title, on_settled=lambda *a: log.append("the mutation's"))
        with observer.subscribe(lambda state: log.append(state.status)):
            await observer.mutate(
                "ada",
                on_success=lambda data, name, ctx: log.append((data, name)),
                on_error=lambda *a: log.append("never"),
                on_settled=lambda data, error, name, ctx: log.append((data, error, name)),
            )
        assert log == ["pending", "the mutation's", ("Ada", "ada"), ("Ada", None, "ada"), "success"]

    async def test_those_of_a_failure(self, client):
        log = []
        observer = MutationObserver(client, refused)
        with observer, pytest.raises(LookupError):
            await observer.mutate(
                1,
                on_success=lambda *a: log.append("never"),
                on_error=lambda error, one, ctx: log.append((str(error), one)),
                on_settled=lambda data, error, one, ctx: log.append((data, str(error), one)),
            )
        assert log == [("no", 1), (None, "no", 1)]

    async def test_only_those_of_the_latest_call_are_called(self, client):
        log, gate = [], Gate()
        observer = MutationObserver(client, gate)
        with observer:
            observer.mutate(on_success=lambda data, *a: log.append(data))
            observer.mutate(on_success=lambda data, *a: log.append(data))
            await settled()
            await gate.answer("first", 0)
            await gate.answer("second", 1)
        assert log == ["second"]

    @pytest.mark.parametrize("leaves", [True, False], ids=["left", "never subscribed"])
    async def test_only_while_somebody_is_subscribed(self, client, leaves):
        log, gate = [], Gate()
        observer = MutationObserver(client, gate)
        undo = observer.subscribe(print) if leaves else None
        begun = observer.mutate(on_success=lambda *a: log.append("called"))
        if undo is not None:
            undo()
            undo()
        await settled()
        await gate.answer("Ada")
        assert await begun == "Ada"
        assert log == []

    async def test_async_ones_run_in_a_task_and_what_any_raises_is_reported(self, client, reported):
        log = []

        async def later(data, *arguments):
            await asyncio.sleep(1)
            log.append(data)
            raise ValueError("later")

        observer = MutationObserver(client, str.title, key=("rename",))
        with observer:
            await observer.mutate("ada", on_success=later, on_settled=lambda *a: 1 / 0)
            await asyncio.sleep(2)
        assert log == ["Ada"]
        assert {type(context["exception"]) for context in reported.take()} == {ZeroDivisionError, ValueError}

    async def test_one_that_cannot_be_called_is_refused(self, client):
        observer = MutationObserver(client, str.title)
        with pytest.raises(TypeError, match="on_success"):
            observer.mutate("ada", on_success=1)
        assert len(client.mutations) == 0


class TestOptions:
    async def test_it_takes_a_spec_or_the_default_of_a_key(self, client):
        assert await MutationObserver(client, mutation_options(str.title, key=("a",))).mutate("ada") == "Ada"
        client.set_mutation_defaults(("b",), fn=str.upper)
        assert await MutationObserver(client, key=("b",)).mutate("ada") == "ADA"
        assert [mutation.key for mutation in client.mutations] == [("a",), ("b",)]

    async def test_one_that_runs_goes_on_with_new_options(self, client):
        log, gate = [], Gate()
        observer = MutationObserver(client, gate, on_success=lambda *a: log.append("old"))
        with observer:
            begun = observer.mutate()
            await settled()
            observer.set_options(gate, on_success=lambda *a: log.append("new"))
            await gate.answer(1)
            await begun
        assert log == ["new"]

    async def test_new_options_without_a_function_leave_it_the_one_it_has(self, client):
        client.online.set(False)
        observer = MutationObserver(client, str.title)
        begun = observer.mutate("ada")
        observer.set_options(gc_time=5)
        client.online.set(True)
        assert await begun == "Ada"
        with pytest.raises(MissingMutationFunction):
            observer.mutate("bob")

    async def test_one_that_has_ended_keeps_those_it_had(self, client):
        observer = MutationObserver(client, str.title, meta={"a": 1})
        await observer.mutate("ada")
        observer.set_options(str.title, meta={"a": 2})
        assert client.mutations.find().meta == {"a": 1}

    async def test_another_key_shows_none(self, client):
        observer = MutationObserver(client, str.title, key=("a",))
        with observer:
            await observer.mutate("ada")
            observer.set_options(str.title, key=("b",))
            assert observer.result.is_idle

    async def test_options_before_the_first_mutation_hold_for_it(self, client):
        observer = MutationObserver(client, str.title)
        observer.set_options(str.upper)
        assert await observer.mutate("ada") == "ADA"

    async def test_wrong_ones_are_refused_and_change_nothing(self, client):
        observer = MutationObserver(client, str.title)
        with pytest.raises(TypeError):
            observer.set_options(str.upper, retries=3)
        with pytest.raises(TypeError):
            MutationObserver(client, 1)
        assert await observer.mutate("ada") == "Ada"


class TestLife:
    async def test_a_closed_one_says_so(self, client):
        observer = MutationObserver(client, str.title)
        observer.subscribe(print)
        observer.close()
        observer.close()
        for use in (lambda: observer.subscribe(print), lambda: observer.mutate("a"), observer.reset):
            with pytest.raises(ObserverClosed, match="was closed"):
                use()
        with pytest.raises(ObserverClosed), observer:
            pass
        assert repr(observer) == "<MutationObserver of None, 0 subscribers>"

    async def test_aclose_waits_for_async_subscribers(self, client):
        seen = []

        async def callback(state):
            await asyncio.sleep(1)
            seen.append(state.status)

        observer = MutationObserver(client, str.title)
        observer.subscribe(callback)
        begun = observer.mutate("ada")
        await observer.aclose()
        assert seen == ["pending"]
        assert await begun == "Ada"

    async def test_after_its_client_nothing_can_be_done(self, client):
        observer = MutationObserver(client, str.title)
        with observer.subscribe(print):
            await observer.mutate("ada")
            await client.aclose()
            assert observer.result.is_idle
            with pytest.raises(ClientClosed):
                observer.mutate("bob")

    async def test_a_subscriber_that_raises_is_reported(self, client, reported):
        observer = MutationObserver(client, str.title)
        with observer.subscribe(lambda state: 1 / 0):
            assert await observer.mutate("ada") == "Ada"
        assert len(reported.take()) == 2

    async def test_one_that_leaves_another_in_its_callback_disturbs_nobody(self, client):
        first, second = MutationObserver(client, str.title), Seen()
        undo = first.subscribe(second)
        first.subscribe(lambda state: undo())
        await first.mutate("ada")
        assert second == [("pending", None)]
        first.close()

    async def test_a_subscriber_that_cannot_be_called_is_refused(self, client):
        with pytest.raises(TypeError):
            MutationObserver(client, str.title).subscribe(None)

    async def test_another_thread_is_refused(self, client):
        await settled()
        observer = MutationObserver(client, str.title)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(observer.mutate, "ada")
        observer.subscribe(print)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(observer.close)
        await observer.mutate("bob")

    async def test_a_listener_may_close_the_client_before_it_runs(self, client):
        ran, closing = [], []

        def listener(event):
            if not closing:
                closing.append(client.aclose())
                with pytest.raises(StopIteration):
                    closing[0].send(None)  # as an eager task does

        client.mutations.subscribe(listener)
        begun = MutationObserver(client, lambda: ran.append(1)).mutate()
        with pytest.raises(QueryCancelled):
            await begun
        assert ran == []

    async def test_in_a_batch_it_is_told_once(self, client):
        seen, gate = Seen(), Gate()
        observer = MutationObserver(client, gate)
        with observer.subscribe(seen):
            with client.batch():
                observer.mutate("ada")
                observer.mutate("bob")
                observer.reset()
                observer.mutate("eve")
                assert seen == []
            assert seen == [("pending", None)]
            await settled()
            await gate.answer("Eve")
        assert seen == [("pending", None), ("success", "Eve")]
