"""One mutation's life: what runs in which order, what it comes to, retries, pauses, and who waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from querykit import (
    Cause,
    ClientClosed,
    MissingMutationFunction,
    MutationContext,
    QueryCancelled,
    QueryClient,
    QueryCycleError,
    QuerykitError,
    QueryObserver,
    WrongThread,
    mutation_options,
)
from tests.fetches import Gate, cancelling, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient(jitter=lambda longest: longest) as client:
        yield client


async def refused(variables=None):
    raise LookupError("no")


def noted(log, name, *, raises=None, is_async=True, returns=None):
    """A callback that notes its name and arguments but the context."""

    async def later(*arguments):
        await asyncio.sleep(0)
        return at_once(*arguments)

    def at_once(*arguments):
        log.append((name, *arguments[:-1]))
        assert isinstance(arguments[-1], MutationContext)
        if raises is not None:
            raise raises
        return returns

    return later if is_async else at_once


class TestTheFunction:
    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
    @pytest.mark.parametrize("takes", [0, 1, 2])
    async def test_it_takes_nothing_or_the_variables_or_the_context_too(self, client, takes, is_async):
        fns = [lambda: "none", lambda name: f"one {name}", lambda name, ctx: f"two {name} {ctx.key} {ctx.meta}"]

        async def zero():
            return fns[0]()

        async def one(name):
            return fns[1](name)

        async def two(name, ctx):
            return fns[2](name, ctx)

        fn = [zero, one, two][takes] if is_async else fns[takes]
        data = await client.mutate(fn, "ada", key=KEY, meta={"a": 1})
        assert data == ["none", "one ada", f"two ada {KEY} {{'a': 1}}"][takes]

    async def test_parameters_with_defaults_are_not_filled(self, client):
        assert await client.mutate(lambda name, times=2: name * times, "a") == "aa"

    async def test_without_variables_they_are_none(self, client):
        assert await client.mutate(lambda variables: variables) is None

    async def test_it_comes_as_one_value_with_its_options(self, client):
        rename = mutation_options(str.title, key=KEY, meta={"a": 1})
        assert await client.mutate(rename, "ada") == "Ada"
        assert await client.mutate(rename, "bob", meta={"a": 2}) == "Bob"
        assert [(one.key, one.meta) for one in client.mutations] == [(KEY, {"a": 1}), (KEY, {"a": 2})]

    async def test_it_comes_from_the_defaults_of_the_key(self):
        async with QueryClient(default_options={"mutations": {"fn": str.title, "meta": {"from": "client"}}}) as client:
            assert await client.mutate(variables="ada") == "Ada"
            client.set_mutation_defaults(("pods",), fn=str.upper)
            assert await client.mutate(variables="ada", key=KEY) == "ADA"
            assert await client.mutate(str.lower, "ADA", key=KEY) == "ada"
            assert client.get_mutation_defaults(KEY) == {"fn": str.upper, "meta": {"from": "client"}}
            assert client.get_mutation_defaults(("x",))["fn"] is str.title

    async def test_without_one_an_error_says_so(self, client):
        with pytest.raises(MissingMutationFunction, match="pass fn") as caught:
            client.mutate(variables=1, key=KEY)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, QuerykitError)
        assert len(client.mutations) == 0


class TestItActsAtTheCall:
    async def test_not_awaiting_it_loses_nothing(self, client):
        gate = Gate()
        client.mutate(gate)
        assert client.is_mutating() == 1
        await settled()
        await gate.answer("done")
        (mutation,) = client.mutations
        assert (mutation.state.status, mutation.state.data, mutation.state.has_data) == ("success", "done", True)

    async def test_what_is_bound_to_its_function_is_in_no_repr_and_in_no_error(self, client):
        begun = client.mutate(functools.partial(asyncio.sleep, 60, "secret"))
        (mutation,) = client.mutations
        assert repr(mutation) == "<Mutation ('sleep',) pending>"
        await client.aclose()
        with pytest.raises(QueryCancelled) as raised:
            await begun
        assert "secret" not in str(raised.value)

    async def test_an_error_that_nobody_awaits_is_on_its_state_and_warns_nobody(self, client):
        client.mutate(refused)
        await settled()
        (mutation,) = client.mutations
        assert mutation.state.is_error
        assert isinstance(mutation.state.error, LookupError)
        assert mutation.state.error.__traceback__ is None

    async def test_awaiting_it_twice_gives_the_same(self, client):
        begun = client.mutate(lambda: [1])
        assert await begun is await begun

    async def test_a_task_group_takes_it(self, client):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(client.mutate(lambda: 1))
        assert task.result() == 1

    async def test_the_caller_gets_the_very_error(self, client):
        error = LookupError("no")

        async def fn():
            raise error

        with pytest.raises(LookupError) as caught:
            await client.mutate(fn)
        assert caught.value is error
        assert client.mutations.find().state.error is not error

    async def test_cancelling_the_caller_does_not_cancel_it(self, client):
        gate = Gate()
        calling = asyncio.create_task(client.mutate(gate))
        await settled()
        calling.cancel()
        await settled()
        assert calling.cancelled()
        await gate.answer("done")
        assert (gate.cancelled, client.mutations.find().state.data) == (0, "done")

    async def test_it_runs_in_the_callers_context(self, client):
        variable = contextvars.ContextVar("variable", default="unset")
        variable.set("the caller's")
        assert await client.mutate(variable.get) == "the caller's"

    async def test_it_is_outside_of_the_fetch_that_called_it(self, client):
        """A mutation's writes count from the call, and are no progress of the fetch that began it."""

        async def fn():
            client.mutate(lambda: client.set_query_data(KEY, "by the mutation"))
            await asyncio.sleep(1)
            return "by the fetch"

        assert await client.query(KEY, fn) == "by the mutation"
        assert client.get_query_data(KEY) == "by the mutation"

    async def test_a_cancelled_error_that_nobody_asked_for_is_an_error(self, client):
        async def fn():
            raise asyncio.CancelledError

        with pytest.raises(
            QueryCancelled, match=r"the mutation of \('pods', 'prod'\) was cancelled by its own function"
        ):
            await client.mutate(fn, key=KEY)

    async def test_what_interrupts_the_loop_reaches_it(self, reported):
        class Interrupted(BaseException):
            pass

        def fn():
            raise Interrupted

        client = QueryClient()
        begun = client.mutate(fn)
        with pytest.raises(QueryCancelled, match="interrupted"):
            await begun
        assert isinstance(client.mutations.find().state.error, QueryCancelled)
        assert isinstance(reported.take()[0]["exception"], Interrupted)
        await client.aclose()


class TestState:
    async def test_it_goes_from_pending_to_success(self, client):
        seen = []
        client.mutations.subscribe(lambda event: seen.append((event.kind, event.cause, event.mutation.state)))
        await client.mutate(str.title, "ada", key=KEY, on_mutate=lambda variables, ctx: "kept")
        assert [(kind, cause, state.status) for kind, cause, state in seen] == [
            ("added", Cause.CREATE, "pending"),
            ("updated", Cause.MUTATE, "pending"),
            ("updated", Cause.MUTATE, "pending"),
            ("updated", Cause.SUCCESS, "success"),
        ]
        state = seen[-1][2]
        assert (state.data, state.has_data, state.variables, state.value) == ("Ada", True, "ada", "kept")
        assert (state.error, state.failure_count, state.failure_reason) == (None, 0, None)
        assert (state.is_idle, state.is_pending, state.is_success, state.is_error) == (False, False, True, False)
        assert seen[0][2].is_pending
        assert state.submitted_at == 0.0

    async def test_it_turns_success_only_after_the_callbacks(self, client):
        seen = []

        def look(*arguments):
            seen.append(client.mutations.find().status)

        await client.mutate(lambda: 1, on_mutate=look, on_success=look, on_settled=look)
        assert seen == ["pending"] * 3

    async def test_it_turns_error_only_after_the_callbacks(self, client):
        seen = []

        def look(*arguments):
            seen.append(client.mutations.find().status)

        with pytest.raises(LookupError):
            await client.mutate(refused, on_error=look, on_settled=look)
        assert seen == ["pending"] * 2
        assert client.mutations.find().state.failure_count == 1

    async def test_none_is_data(self, client):
        await client.mutate(lambda: None)
        assert client.mutations.find().state.has_data

    async def test_two_states_are_never_equal_and_none_shows_data(self, client):
        await client.mutate(str.title, "secret", key=KEY)
        mutation = client.mutations.find()
        assert mutation.state is mutation.state
        assert repr(mutation) == "<Mutation ('pods', 'prod') success>"
        assert repr(mutation.state) == "<MutationState success>"

    async def test_without_a_key_it_is_named_after_its_function(self, client):
        client.mutate(refused)
        await settled()
        assert repr(client.mutations.find()) == "<Mutation ('refused',) error>"


class TestCallbacks:
    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
    async def test_of_a_success_the_clients_come_first(self, is_async):
        log = []
        names = ("on_mutate", "on_success", "on_error", "on_settled")
        callbacks = {name: noted(log, f"client {name}", is_async=is_async, returns="client's") for name in names}
        own = {name: noted(log, name, is_async=is_async, returns="own") for name in names}

        async def fn(variables):
            log.append(("fn", variables))
            return "data"

        async with QueryClient(mutation_callbacks=callbacks) as client:
            assert await client.mutate(fn, 1, **own) == "data"
            assert client.mutations.find().state.value == "own"
        assert log == [
            ("client on_mutate", 1),
            ("on_mutate", 1),
            ("fn", 1),
            ("client on_success", "data", 1),
            ("on_success", "data", 1),
            ("client on_settled", "data", None, 1),
            ("on_settled", "data", None, 1),
        ]

    @pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
    async def test_of_a_failure_the_clients_come_first(self, is_async):
        log, error = [], LookupError("no")
        names = ("on_mutate", "on_success", "on_error", "on_settled")

        def fn():
            raise error

        callbacks = {name: noted(log, f"client {name}", is_async=is_async) for name in names}
        async with QueryClient(mutation_callbacks=callbacks) as client:
            with pytest.raises(LookupError):
                await client.mutate(fn, 1, **{name: noted(log, name, is_async=is_async) for name in names})
        assert log == [
            ("client on_mutate", 1),
            ("on_mutate", 1),
            ("client on_error", error, 1),
            ("on_error", error, 1),
            ("client on_settled", None, error, 1),
            ("on_settled", None, error, 1),
        ]

    async def test_the_context_carries_what_on_mutate_returned(self, client):
        seen = []

        def see(*arguments):
            ctx = arguments[-1]
            seen.append((ctx.value, ctx.key, ctx.meta, ctx.client is client))

        await client.mutate(
            lambda v, ctx: see(ctx), on_mutate=lambda v, ctx: "kept", on_success=see, on_settled=see, key=KEY
        )
        assert seen == [("kept", KEY, {}, True)] * 3

    async def test_the_context_is_frozen_but_for_its_value(self, client):
        async def fn(variables, ctx):
            ctx.value = "new"
            with pytest.raises(AttributeError):
                ctx.key = ("other",)
            return repr(ctx)

        assert await client.mutate(fn, key=KEY) == "<MutationContext of ('pods', 'prod')>"

    @pytest.mark.parametrize("name", ["on_mutate", "on_success", "on_settled"])
    async def test_one_that_raises_before_the_end_makes_the_mutation_fail(self, client, name):
        log, error = [], ValueError("mine")
        failures = {"on_error": noted(log, "on_error"), "on_settled": noted(log, "on_settled")}
        if name == "on_settled":
            failures["on_settled"] = self.once(error, noted(log, "on_settled"))
            given = failures
        else:
            given = {**failures, name: noted([], name, raises=error)}
        with pytest.raises(ValueError, match="mine"):
            await client.mutate(lambda: "data", 1, **given)
        assert log == [("on_error", error, 1), ("on_settled", None, error, 1)]
        state = client.mutations.find().state
        assert (state.status, state.data, state.failure_count) == ("error", None, 1)

    @staticmethod
    def once(error, then):
        calls = []

        def callback(*arguments):
            calls.append(arguments)
            if len(calls) == 1:
                raise error
            return then(*arguments)

        return callback

    async def test_those_of_a_failed_one_are_reported_and_the_first_error_raised(self, reported):
        callbacks = {name: noted([], name, raises=ValueError(name)) for name in ("on_error", "on_settled")}
        log = []

        async def cancelled(*arguments):
            log.append("on_settled")
            raise asyncio.CancelledError

        async with QueryClient(mutation_callbacks=callbacks) as client:
            with pytest.raises(LookupError):
                await client.mutate(
                    refused, key=KEY, on_error=noted(log, "on_error", raises=ValueError("own")), on_settled=cancelled
                )
            assert client.mutations.find().state.is_error
        assert [context["message"] for context in reported.take()] == [
            "querykit: on_error of <Mutation ('pods', 'prod') pending> raised ValueError",
            "querykit: on_error of <Mutation ('pods', 'prod') pending> raised ValueError",
            "querykit: on_settled of <Mutation ('pods', 'prod') pending> raised ValueError",
            "querykit: on_settled of <Mutation ('pods', 'prod') pending> raised CancelledError",
        ]
        assert log[-1] == "on_settled"

    async def test_the_classic_recipe_works_with_them_alone(self, client):
        """Cancel, snapshot, set; restore on error: TanStack's recipe, without `optimistic`."""
        client.set_query_data(KEY, ["web"])

        async def on_mutate(name, ctx):
            await ctx.client.cancel_queries(KEY)
            before = ctx.client.get_query_data(KEY)
            ctx.client.set_query_data(KEY, [*before, name])
            return before

        def on_error(error, name, ctx):
            ctx.client.set_query_data(KEY, ctx.value)

        with pytest.raises(LookupError):
            await client.mutate(refused, "db", on_mutate=on_mutate, on_error=on_error)
        assert client.get_query_data(KEY) == ["web"]


class TestRetries:
    async def test_trap_21_it_is_not_retried_by_default(self, client):
        calls = []

        async def fn():
            calls.append(1)
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await client.mutate(fn)
        assert len(calls) == 1

    async def test_retry_n_makes_n_more_attempts(self, client):
        calls, seen = [], []

        async def fn():
            calls.append(asyncio.get_running_loop().time())
            raise ConnectionError(len(calls))

        client.mutations.subscribe(lambda event: seen.append((event.cause, event.mutation.state.failure_count)))
        with pytest.raises(ConnectionError):
            await client.mutate(fn, retry=2, retry_delay=5)
        assert calls == [0, 5, 10]
        state = client.mutations.find().state
        assert (state.failure_count, str(state.failure_reason)) == (3, "3")
        assert [count for cause, count in seen if cause is Cause.FAILURE] == [1, 2, 3]

    async def test_a_success_after_a_retry_forgets_the_failures(self, client):
        calls = []

        async def fn():
            calls.append(1)
            if len(calls) == 1:
                raise ConnectionError
            return "data"

        assert await client.mutate(fn, retry=1) == "data"
        state = client.mutations.find().state
        assert (state.failure_count, state.failure_reason) == (0, None)

    async def test_only_what_is_transient_is_retried_or_of_the_types_given(self, client):
        calls = []

        async def fn():
            calls.append(1)
            raise LookupError

        with pytest.raises(LookupError):
            await client.mutate(fn, retry=1)
        with pytest.raises(LookupError):
            await client.mutate(fn, retry=1, retry_on=(LookupError,))
        assert len(calls) == 3


class TestPauses:
    async def test_it_waits_for_the_network_and_resumes_by_itself(self, client):
        log = []
        client.mutations.subscribe(lambda event: log.append((event.cause, event.mutation.state.is_paused)))
        client.online.set(False)
        begun = client.mutate(lambda: "sent", on_mutate=lambda v, ctx: log.append("on_mutate"))
        await settled()
        assert client.mutations.find().state.is_paused
        assert client.mutations.find().status == "pending"
        client.online.set(True)
        assert await begun == "sent"
        assert log == [
            (Cause.CREATE, True),
            (Cause.MUTATE, True),
            "on_mutate",
            (Cause.CONTINUE, False),
            (Cause.SUCCESS, False),
        ]

    async def test_trap_21_a_retry_waits_until_somebody_looks(self, client):
        calls = []

        async def fn():
            calls.append(1)
            if len(calls) == 1:
                raise ConnectionError
            return "sent"

        begun = client.mutate(fn, retry=1, retry_delay=5)
        await settled()
        client.focus.set(False)
        await asyncio.sleep(10)
        assert (len(calls), client.mutations.find().state.is_paused) == (1, True)
        client.focus.set(True)
        assert await begun == "sent"

    async def test_one_that_may_run_when_on_mutate_has_ended_is_not_paused(self, client):
        client.online.set(False)
        begun = client.mutate(lambda: 1, on_mutate=lambda v, ctx: client.online.set(True))
        assert await begun == 1
        assert not client.mutations.find().state.is_paused

    async def test_one_that_does_not_ask_for_the_network_runs(self, client):
        client.online.set(False)
        assert await client.mutate(lambda: 1, network_mode="always") == 1

    async def test_a_retry_waits_for_the_network_and_for_somebody_to_look(self, client):
        calls, causes = [], []

        async def fn():
            calls.append(1)
            if len(calls) == 1:
                client.online.set(False)
                client.focus.set(False)
                raise ConnectionError
            return "data"

        client.mutations.subscribe(lambda event: causes.append(event.cause))
        begun = client.mutate(fn, retry=1, retry_delay=1)
        await asyncio.sleep(5)
        assert (len(calls), client.mutations.find().state.is_paused) == (1, True)
        client.online.set(True)
        await settled()
        assert len(calls) == 1
        client.focus.set(True)
        assert await begun == "data"
        assert causes[2:] == [Cause.FAILURE, Cause.PAUSE, Cause.CONTINUE, Cause.SUCCESS]

    async def test_queries_are_fetched_again_only_after_those_that_were_paused_have_ended(self, client):
        order = []
        gate = Gate()

        async def pods():
            order.append("pods")
            await asyncio.sleep(0)
            return "pods"

        async def fn():
            order.append("mutation")
            return await gate()

        with QueryObserver(client, KEY, pods):
            await settled()
            client.online.set(False)
            client.mutate(fn)
            client.mutate(fn, scope="s")
            client.mutate(fn, scope="s")
            await settled()
            client.online.set(True)
            await settled()
            await gate.answer("done", 0)
            client.focus.set(False)
            client.focus.set(True)
            await settled()
            await gate.answer("done", 1)
            assert order == ["pods", "mutation", "mutation", "mutation"]
            await gate.answer("done", 2)
            assert order == ["pods", "mutation", "mutation", "mutation", "pods"]

    async def test_queries_do_not_wait_for_what_stays_paused(self, client):
        calls = []

        with QueryObserver(client, KEY, lambda: calls.append(1), network_mode="always"):
            client.online.set(False)
            client.mutate(lambda: 1)
            await settled()
            client.focus.set(False)
            client.focus.set(True)
            await settled()
            assert len(calls) == 2

    async def test_queries_do_not_wait_for_what_was_not_paused_by_the_network(self, client):
        calls = []

        async def pods():
            calls.append(1)

        gate = Gate()
        with QueryObserver(client, KEY, pods):
            client.mutate(gate)
            await settled()
            client.focus.set(False)
            client.focus.set(True)
            await settled()
            assert len(calls) == 2
        await gate.answer(1)


class TestInvalidating:
    async def fetched(self, client, *keys):
        for key in keys:
            await client.query(key, lambda: "data", stale_time=60)

    def flagged(self, client):
        return [query.key for query in client.cache if query.is_invalidated]

    async def test_keys_are_invalidated_by_prefix_after_a_success(self, client):
        await self.fetched(client, ("pods", 1), ("pods", 2), ("nodes",))
        await client.mutate(lambda: 1, invalidates=[("pods",)])
        assert self.flagged(client) == [("pods", 1), ("pods", 2)]

    async def test_a_callable_makes_them_of_data_and_variables(self, client):
        await self.fetched(client, ("pods", 1), ("pods", 2), ("pods", 3))
        await client.mutate(
            lambda number: number + 1, 1, invalidates=lambda data, number: [("pods", number), ("pods", data)]
        )
        assert self.flagged(client) == [("pods", 1), ("pods", 2)]

    async def test_it_happens_after_on_success_and_before_on_settled(self, client):
        await self.fetched(client, KEY)
        seen = []

        def look(*arguments):
            seen.append(self.flagged(client))

        await client.mutate(lambda: 1, invalidates=[KEY], on_success=look, on_settled=look)
        assert seen == [[], [KEY]]

    async def test_it_happens_also_if_on_success_raises(self, client):
        await self.fetched(client, KEY)
        with pytest.raises(ValueError):
            await client.mutate(lambda: 1, invalidates=[KEY], on_success=noted([], "on_success", raises=ValueError()))
        assert self.flagged(client) == [KEY]

    async def test_a_failure_invalidates_nothing(self, client):
        await self.fetched(client, KEY)
        with pytest.raises(LookupError):
            await client.mutate(refused, invalidates=[KEY])
        assert self.flagged(client) == []

    async def test_the_refetches_are_not_awaited(self, client):
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await settled()
            await gate.answer("old")
            await client.mutate(lambda: 1, invalidates=[KEY])
            assert gate.calls == 2
            await gate.answer("new")

    @pytest.mark.parametrize(
        "rule",
        [lambda data, variables: 1 / 0, cancelling, lambda data, variables: "pods", lambda data, variables: [None]],
        ids=["raises", "raises CancelledError", "string", "no key"],
    )
    async def test_a_rule_that_raises_or_gives_no_keys_is_reported(self, client, reported, rule):
        assert await client.mutate(lambda: 1, invalidates=rule, key=KEY) == 1
        (context,) = reported.take()
        assert context["message"].startswith("querykit: invalidates of <Mutation ('pods', 'prod') pending>")


class TestCircles:
    async def test_awaiting_the_own_mutation_is_refused(self, client):
        box = []

        async def fn():
            await asyncio.sleep(0)
            await box[0]

        box.append(client.mutate(fn, key=KEY))
        with pytest.raises(QueryCycleError, match=r"\('pods', 'prod'\) → \('pods', 'prod'\)"):
            await box[0]

    async def test_awaiting_one_of_the_same_scope_is_refused(self, client):
        async def fn():
            await client.mutate(lambda: 1, scope="s", key=("inner",))

        with pytest.raises(QueryCycleError, match=r"\('outer',\) → \('inner',\) → \('outer',\)"):
            await client.mutate(fn, scope="s", key=("outer",))

    async def test_starting_one_of_the_same_scope_is_fine(self, client):
        order = []

        async def fn():
            client.mutate(order.append, "inner", scope="s")
            await asyncio.sleep(1)
            order.append("outer")

        await client.mutate(fn, scope="s")
        await settled()
        assert order == ["outer", "inner"]

    async def test_a_circle_through_a_query_is_refused(self, client):
        async def pods():
            return await client.mutate(fn, key=("mutation",))

        async def fn():
            return await client.query(KEY, pods)

        with pytest.raises(QueryCycleError):
            await client.query(KEY, pods, retry=0)

    async def test_who_waits_no_more_closes_no_circle(self, client):
        async def outer():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await inner
            await asyncio.sleep(5)
            return "outer"

        async def waiting():
            await asyncio.sleep(2)
            return await begun

        inner = client.mutate(waiting)
        begun = client.mutate(outer)
        assert (await begun, await inner) == ("outer", "outer")

    async def test_what_outlives_its_mutation_may_wait_for_others(self, client):
        tasks = []

        async def later():
            await asyncio.sleep(1)
            return await client.mutate(lambda: "data", scope="s")

        async def fn():
            tasks.append(asyncio.create_task(later()))

        await client.mutate(fn, scope="s")
        assert await tasks[0] == "data"

    async def test_a_query_function_may_await_a_mutation(self, client):
        async def pods():
            return await client.mutate(lambda: "data")

        assert await client.query(KEY, pods) == "data"


class TestClosing:
    async def test_those_who_wait_get_query_cancelled(self, client):
        gate, log = Gate(), []
        calling = asyncio.create_task(client.mutate(gate, key=KEY, on_error=noted(log, "on_error")))
        await settled()
        await client.aclose()
        with pytest.raises(QueryCancelled, match=r"the mutation of .* was closed with its client"):
            await calling
        assert (gate.cancelled, log, len(client.mutations)) == (1, [], 0)

    async def test_one_that_has_not_begun_to_run_ends_too(self, client):
        begun = client.mutate(asyncio.sleep, 60)
        queued = client.mutate(lambda: 1, scope="s")
        await client.aclose()
        with pytest.raises(QueryCancelled):
            await begun
        del queued

    async def test_from_inside_a_mutation_that_one_is_left_to_end(self, client):
        async def fn():
            await client.aclose()
            return "data"

        assert await client.mutate(fn, invalidates=[KEY]) == "data"
        assert len(client.mutations) == 0

    async def test_from_inside_a_mutation_the_next_of_its_scope_does_not_begin(self, client):
        ran = []

        async def fn():
            client.mutate(ran.append, 1, scope="s")
            await asyncio.sleep(1)
            await client.aclose()
            return "data"

        assert await client.mutate(fn, scope="s") == "data"
        await settled()
        assert ran == []

    async def test_from_inside_one_that_has_not_begun_to_run_it_is_left_to_end(self, client):
        def changes(variables):
            closing.append(asyncio.ensure_future(client.aclose()))
            return []

        closing = []
        assert await client.mutate(lambda: "data", optimistic=changes) == "data"
        await closing[0]

    async def test_from_inside_on_mutate_the_function_does_not_run(self, client):
        ran, gate = [], Gate()

        async def on_mutate(variables, ctx):
            await asyncio.sleep(1)
            await client.aclose()

        client.mutate(gate, scope="s")
        begun = client.mutate(ran.append, 1, scope="s", on_mutate=on_mutate)
        with pytest.raises(QueryCancelled, match="closed with its client"):
            await begun
        await settled()
        assert ran == []

    async def test_closing_while_a_failed_one_runs_its_callbacks_ends_it(self, client):
        async def slow(*arguments):
            await asyncio.sleep(60)

        client.mutate(refused, on_error=slow)
        await settled()
        await client.aclose()
        assert asyncio.get_running_loop().time() == 0

    async def test_afterwards_nothing_begins(self, client):
        await client.aclose()
        with pytest.raises(ClientClosed):
            client.mutate(lambda: 1)


class TestInterrupting:
    async def test_its_caller_learns_of_it_its_change_leaves_and_the_next_of_its_scope_runs(self, client):
        client.set_query_data(KEY, ["web"])
        begun = client.mutate(asyncio.sleep, 60, scope="s", optimistic=[(KEY, lambda data: [*data, "db"])])
        following = client.mutate(lambda: "next", scope="s")
        await settled()
        client.mutations.find().task.cancel()
        with pytest.raises(QueryCancelled, match="interrupted"):
            await begun
        assert (client.get_query_data(KEY), await following) == (["web"], "next")


class TestFromElsewhere:
    async def test_another_thread_is_refused_and_the_portal_serves_it(self, client):
        await settled()
        with pytest.raises(WrongThread, match="portal"):
            await asyncio.to_thread(client.mutate, lambda: 1)
        assert await asyncio.to_thread(client.portal.call, client.mutate, str.title, "ada") == "Ada"

    def test_without_a_loop_it_cannot_begin(self):
        with pytest.raises(RuntimeError, match="event loop"):
            QueryClient().mutate(lambda: 1)


class TestLeavingNothingBehind:
    async def test_a_failure_keeps_no_frame_alive(self, client):
        class Held:
            pass

        held = Held()
        seen = weakref.ref(held)

        async def fn(held):
            raise LookupError

        client.mutate(fn, held, gc_time=0)
        del held
        await asyncio.sleep(1)
        gc.collect()  # the frames of an eager task hold those of its caller, in a circle
        assert seen() is None

    @pytest.mark.parametrize("fn", [lambda: 1, refused], ids=["success", "failure"])
    async def test_no_record_lives_on_after_the_end(self, client, fn):
        client.set_query_data(KEY, ["web"])
        client.mutate(fn, optimistic=[(KEY, lambda data: [*data, "db"])])
        await settled()
        gc.collect()
        assert len(client.mutations) == 1
        assert len(client.cache.ledger.living) == 0
