"""Optimistic changes: the data is seen with the pending ones applied, and only a mutation's own change goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from querykit import Cause, QueryClient, QueryObserver, skip, use_identity
from querykit.state import NO_DATA
from tests.fetches import Gate, cancelling, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


@pytest.fixture
async def client() -> AsyncIterator[QueryClient]:
    async with QueryClient() as client:
        yield client


def add(name):
    return lambda data: [*data, name]


async def refused():
    raise LookupError("no")


def adding(client, gate, name, key=KEY, **options):
    return client.mutate(gate, optimistic=[(key, add(name))], **options)


def layers(client, key=KEY):
    return bool(client.cache.find(key).layers)


class TestSeeing:
    async def test_the_change_is_seen_when_mutate_returns_and_before_on_mutate(self, client):
        client.set_query_data(KEY, ["web"])
        seen = []
        begun = adding(client, lambda: 1, "db", on_mutate=lambda v, ctx: seen.append(client.get_query_data(KEY)))
        assert client.get_query_data(KEY) == ["web", "db"]
        await begun
        assert seen == [["web", "db"]]

    async def test_observers_and_callers_see_it(self, client):
        client.set_query_data(KEY, ["web"])
        gate, seen = Gate(), []
        with QueryObserver(client, KEY).subscribe(lambda result: seen.append(result.data)):
            adding(client, gate, "db")
            assert await client.query(KEY, lambda: 1, stale_time=60) == ["web", "db"]
            await settled()
            await gate.answer(1)
        assert seen == [["web", "db"]]

    async def test_the_cache_tells_of_it(self, client):
        client.set_query_data(KEY, ["web"])
        causes = []
        client.cache.subscribe(lambda event: causes.append(event.cause))
        gate = Gate()
        begun = adding(client, gate, "db")
        await settled()
        await gate.answer(LookupError())
        with pytest.raises(LookupError):
            await begun
        assert causes == [Cause.OPTIMISTIC, Cause.OPTIMISTIC]

    async def test_an_updater_may_take_the_variables_too(self, client):
        client.set_query_data(KEY, ["web"])
        begun = client.mutate(lambda name: 1, "db", optimistic=[(KEY, lambda data, name: [*data, name])])
        assert client.get_query_data(KEY) == ["web", "db"]
        await begun

    async def test_a_callable_makes_the_changes_of_the_variables(self, client):
        client.set_query_data(KEY, ["web"])
        client.set_query_data(("count",), 1)
        begun = client.mutate(
            lambda name: 1, "db", optimistic=lambda name: [(KEY, add(name)), (("count",), lambda count: count + 1)]
        )
        assert (client.get_query_data(KEY), client.get_query_data(("count",))) == (["web", "db"], 2)
        await begun

    async def test_several_are_applied_in_the_order_of_their_calls(self, client):
        client.set_query_data(KEY, [])
        gate = Gate()
        for name in "abc":
            adding(client, gate, name)
        assert client.get_query_data(KEY) == ["a", "b", "c"]
        await settled()
        await gate.answer(1, 0), await gate.answer(1, 1), await gate.answer(1, 2)

    async def test_a_key_without_data_shows_it_once_data_comes(self, client):
        """It is built, and not collected as long as the change is pending."""
        gate, calls = Gate(), []
        client.set_query_defaults(KEY, gc_time=1)

        def updater(data):
            calls.append(data)
            return [*data, "db"]

        client.mutate(gate, optimistic=[(KEY, updater)])
        await asyncio.sleep(60)
        assert calls == []
        assert client.get_query_data(KEY) is None
        assert await client.query(KEY, lambda: ["web"]) == ["web", "db"]
        await gate.answer(1)
        await asyncio.sleep(60)
        assert client.cache.find(KEY) is None

    async def test_skip_leaves_the_data_as_it_is(self, client):
        client.set_query_data(KEY, ["web"])
        begun = client.mutate(lambda: 1, optimistic=[(KEY, lambda data: skip)])
        assert client.get_query_data(KEY) == ["web"]
        await begun

    @pytest.mark.parametrize("sharing", [True, False])
    async def test_data_that_is_fetched_shares_what_is_equal_or_not(self, client, sharing):
        client.set_query_data(KEY, [{"name": "web"}])
        gate = Gate()
        adding(client, gate, "db")
        before = client.get_query_data(KEY)
        await client.query(KEY, lambda: [{"name": "web"}], structural_sharing=sharing)
        assert client.get_query_data(KEY) == before
        assert (client.get_query_data(KEY) is before) is sharing
        await gate.answer(1)

    async def test_a_function_that_fetches_reads_the_data_without_it(self, client):
        client.set_query_data(KEY, ["web"])
        gate, seen = Gate(), []
        adding(client, gate, "db")

        async def fn(ctx):
            seen.append(ctx.previous_data)
            return ["web"]

        assert await client.query(KEY, fn) == ["web", "db"]
        assert seen == [["web"]]
        await gate.answer(1)

    @pytest.mark.parametrize(
        ("updater", "error"),
        [
            (lambda data: 1 / 0, "ZeroDivisionError"),
            (lambda data: cancelling(), "CancelledError"),
            (lambda data: refused(), "TypeError"),
            (lambda data: (name for name in data), "TypeError"),
        ],
        ids=["raises", "raises CancelledError", "is async", "is a generator"],
    )
    async def test_an_updater_that_raises_is_reported_and_leaves_and_the_mutation_goes_on(
        self, client, reported, updater, error
    ):
        client.set_query_data(KEY, ["web"])
        begun = client.mutate(lambda: "data", optimistic=[(KEY, updater), (KEY, add("db"))])
        assert client.get_query_data(KEY) == ["web", "db"]
        assert await begun == "data"
        (context,) = reported.take()
        assert context["message"] == f"querykit: an optimistic updater of ('pods', 'prod') raised {error}"

    @pytest.mark.parametrize(
        "rule",
        [
            lambda variables: 1 / 0,
            cancelling,
            lambda variables: "pods",
            lambda variables: [KEY],
            lambda variables: [(KEY, None)],
        ],
        ids=["raises", "raises CancelledError", "string", "no pair", "no updater"],
    )
    async def test_a_rule_that_raises_or_gives_no_changes_is_reported_and_the_mutation_goes_on(
        self, client, reported, rule
    ):
        assert await client.mutate(lambda: "data", optimistic=rule, key=KEY) == "data"
        (context,) = reported.take()
        assert context["message"].startswith("querykit: optimistic of <Mutation ('pods', 'prod')")

    @pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
    @pytest.mark.parametrize("how", ["remove", "forget", "clear", "set"])
    async def test_S3_an_updater_that_takes_away_what_it_is_given_brings_none_of_it_back(self, client, how, observed):
        acts = {
            "remove": lambda: client.remove_queries(KEY),
            "forget": lambda: client.forget("ada"),
            "clear": client.clear,
            "set": lambda: once and client.set_query_data(*once.pop()),
        }
        once = [(KEY, ["db"])]

        def impure(data):
            acts[how]()
            return [*data, "new"]

        client.set_query_data(KEY, ["ada's"], identity="ada")
        with QueryObserver(client, KEY) if observed else nullcontext():
            assert await client.mutate(lambda: "data", optimistic=[(KEY, impure)]) == "data"
            assert client.get_query_data(KEY) == (["db", "new"] if how == "set" else None)

    async def test_S8_an_updater_that_sets_its_own_key_again_and_again_is_reported_and_leaves(self, client, reported):
        client.set_query_data(KEY, ["web"])
        update = lambda data: [*data, client.set_query_data(KEY, ["db"])]  # noqa: E731
        assert await client.mutate(lambda: "data", optimistic=[(KEY, update)]) == "data"
        assert client.get_query_data(KEY) == ["db"]
        assert {type(each["exception"]) for each in reported.take()} == {RecursionError}


class TestFailing:
    async def test_its_change_leaves(self, client):
        client.set_query_data(KEY, ["web"])
        with pytest.raises(LookupError):
            await client.mutate(refused, optimistic=[(KEY, add("db"))])
        assert client.get_query_data(KEY) == ["web"]
        assert not layers(client)

    async def test_S7_an_entry_that_only_waited_for_it_is_collected(self, client):
        gate = Gate()
        begun = adding(client, gate, "db")
        await asyncio.sleep(1000)
        assert len(client.cache) == 1
        await gate.answer(LookupError())
        with pytest.raises(LookupError):
            await begun
        await asyncio.sleep(1000)
        assert len(client.cache) == 0

    async def test_it_has_left_before_on_error(self, client):
        client.set_query_data(KEY, ["web"])
        seen = []
        with pytest.raises(LookupError):
            await adding(client, refused, "db", on_error=lambda *a: seen.append(client.get_query_data(KEY)))
        assert seen == [["web"]]

    async def test_only_its_own_change_is_rolled_back_whatever_landed_in_between(self, client):
        client.set_query_data(KEY, ["web"])
        first, second = Gate(), Gate()
        adding(client, first, "a")
        adding(client, second, "b")
        await settled()
        client.set_query_data(KEY, lambda data: [*data, "set"])
        assert client.get_query_data(KEY) == ["web", "set", "a", "b"]
        await client.query(KEY, lambda: ["fetched"])
        await first.answer(LookupError())
        assert client.get_query_data(KEY) == ["fetched", "b"]
        await second.answer(1)
        assert client.get_query_data(KEY) == ["fetched", "b"]

    async def test_it_stays_during_retries(self, client):
        client.set_query_data(KEY, ["web"])

        async def fn():
            raise ConnectionError

        begun = adding(client, fn, "db", retry=1, retry_delay=10)
        await asyncio.sleep(5)
        assert client.get_query_data(KEY) == ["web", "db"]
        with pytest.raises(ConnectionError):
            await begun
        assert client.get_query_data(KEY) == ["web"]

    async def test_a_callback_that_raises_after_the_success_does_not_roll_back(self, client):
        """The server has changed."""
        client.set_query_data(KEY, ["web"])
        with pytest.raises(ZeroDivisionError):
            await adding(client, lambda: 1, "db", on_success=lambda *a: 1 / 0)
        assert client.get_query_data(KEY) == ["web", "db"]

    async def test_on_mutate_that_raises_rolls_back(self, client):
        client.set_query_data(KEY, ["web"])
        with pytest.raises(ZeroDivisionError):
            await adding(client, lambda: 1, "db", on_mutate=lambda *a: 1 / 0)
        assert client.get_query_data(KEY) == ["web"]


class TestSucceeding:
    async def test_it_becomes_part_of_the_data_where_nothing_is_fetched(self, client):
        client.set_query_data(KEY, ["web"])
        await adding(client, lambda: 1, "db")
        assert client.get_query_data(KEY) == ["web", "db"]
        assert not layers(client)

    async def test_it_is_no_younger_and_no_fresher_for_that(self, client):
        client.set_query_data(KEY, ["web"])
        await asyncio.sleep(10)
        await adding(client, lambda: 1, "db")
        assert client.get_query_state(KEY).data_updated_at == 0
        client.invalidate_queries(KEY)
        await adding(client, lambda: 1, "db")
        assert client.get_query_state(KEY).is_invalidated

    async def test_a_fetch_begun_before_the_success_does_not_take_it_away(self, client):
        client.set_query_data(KEY, ["web"])
        gate, seen = Gate(), []
        with QueryObserver(client, KEY, gate).subscribe(lambda result: seen.append(result.data)):
            await adding(client, lambda: 1, "db")
            assert layers(client)
            await gate.answer(["web"])
            assert client.get_query_data(KEY) == ["web", "db"]
            assert not layers(client)
        assert [data for before, data in zip([None, *seen], seen, strict=False) if data != before] == [
            ["web"],
            ["web", "db"],
        ]

    async def test_a_fetch_begun_after_the_success_brings_the_real_thing(self, client):
        client.set_query_data(KEY, ["web"])
        old, new, seen = Gate(), Gate(), []
        with QueryObserver(client, KEY, old) as observer:
            await adding(client, lambda: 1, "db")
            observer.set_options(KEY, new)
            observer.subscribe(lambda result: seen.append(tuple(result.data)))
            client.invalidate_queries(KEY)
            await settled()
            await new.answer(["web", "db-1"])
            assert client.get_query_data(KEY) == ["web", "db-1"]
            assert not layers(client)
        assert set(seen) == {("web", "db"), ("web", "db-1")}

    @pytest.mark.parametrize("ending", ["failed", "cancelled"])
    async def test_it_becomes_part_of_the_data_when_the_older_fetch_brings_none(self, client, ending):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate, retry=0):
            await adding(client, lambda: 1, "db")
            if ending == "failed":
                await gate.answer(LookupError())
            else:
                client.cancel_queries(KEY)
            assert not layers(client)
            assert client.get_query_data(KEY) == ["web", "db"]

    async def test_data_that_is_set_afterwards_replaces_it(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await adding(client, lambda: 1, "db")
            client.set_query_data(KEY, ["set"])
            assert client.get_query_data(KEY) == ["set"]
            assert not layers(client)

    async def test_an_updater_that_is_set_afterwards_builds_on_it(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await adding(client, lambda: 1, "db")
            pending = Gate()
            adding(client, pending, "pending")
            client.set_query_data(KEY, lambda data: [*data, "set"])
            assert client.get_query_data(KEY) == ["web", "db", "set", "pending"]
            await settled()
            await pending.answer(LookupError())
            assert client.get_query_data(KEY) == ["web", "db", "set"]

    async def test_one_above_a_pending_one_waits_for_it(self, client):
        client.set_query_data(KEY, ["web"])
        below = Gate()
        adding(client, below, "a")
        await adding(client, lambda: 1, "b")
        assert layers(client)
        await below.answer(LookupError())
        assert client.get_query_data(KEY) == ["web", "b"]
        assert not layers(client)

    async def test_the_lowest_become_part_of_the_data_below_a_pending_one(self, client):
        client.set_query_data(KEY, ["web"])
        below, above = Gate(), Gate()
        adding(client, below, "a")
        adding(client, above, "b")
        await settled()
        await below.answer(1)
        assert client.cache.find(KEY).base == ["web", "a"]
        assert client.get_query_data(KEY) == ["web", "a", "b"]
        await above.answer(LookupError())
        assert client.get_query_data(KEY) == ["web", "a"]

    async def test_what_another_querys_function_sets_from_before_does_not_take_it_away(self, client):
        """It counts as begun with its fetch: the change that was confirmed since counts as set since."""
        client.set_query_data(KEY, ["web"])
        gate = Gate()

        async def fn():
            value = await gate()
            client.set_query_data(KEY, value)

        asking = asyncio.create_task(client.query(("all",), fn))
        await settled()
        await adding(client, lambda: 1, "db")
        await gate.answer(["web"])
        await asking
        assert client.get_query_data(KEY) == ["web", "db"]

    async def test_invalidating_after_it_does_not_flicker(self, client):
        server = ["web"]
        gate = Gate()

        async def fetch():
            at_begin = list(server)
            await asyncio.sleep(1)
            return at_begin

        async def save():
            await gate()
            server.append("db")

        seen = []
        with QueryObserver(client, KEY, fetch).subscribe(lambda result: seen.append(result.data)):
            await asyncio.sleep(2)
            adding(client, save, "db", invalidates=[KEY])
            client.refetch_queries(KEY)
            await asyncio.sleep(0.5)
            await gate.answer(1)
            await asyncio.sleep(5)
        shown = [data for before, data in zip([None, *seen], seen, strict=False) if data != before]
        assert shown == [["web"], ["web", "db"]]

    async def test_validators_go_since_the_data_is_no_longer_what_they_came_with(self, client):
        seen = []

        async def fn(ctx):
            seen.append(ctx.validators)
            ctx.new_validators = "etag"
            return ["web"]

        await client.query(KEY, fn)
        await adding(client, lambda: 1, "db")
        await client.query(KEY, fn)
        assert seen == [None, None]


class TestRemoving:
    async def test_a_removed_entry_waits_blank_for_data_to_change(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        adding(client, gate, "db")
        client.remove_queries(KEY)
        assert client.get_query_data(KEY) is None
        assert await client.query(KEY, lambda: ["new"]) == ["new", "db"]
        await settled()
        await gate.answer(LookupError())
        assert client.get_query_data(KEY) == ["new"]

    async def test_an_entry_that_is_reset_shows_it_on_its_initial_data(self, client):
        gate = Gate()
        await client.query(KEY, lambda: ["web"], initial_data=["initial"])
        adding(client, gate, "db")
        client.reset_queries(KEY)
        assert client.get_query_data(KEY) == ["initial", "db"]
        await settled()
        await gate.answer(LookupError())
        assert client.get_query_data(KEY) == ["initial"]

    async def test_a_stream_that_begins_anew_keeps_what_was_confirmed_since(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()

        async def fn(ctx):
            await gate()
            ctx.progress.show(NO_DATA)
            ctx.progress.show(["chunk"])
            await gate()
            return ["all"]

        with QueryObserver(client, KEY, fn):
            await adding(client, lambda: 1, "db")
            await gate.answer(1)
            assert client.get_query_data(KEY) == ["chunk", "db"]
            await gate.answer(1)
            assert client.get_query_data(KEY) == ["all", "db"]

    async def test_what_was_confirmed_goes_with_the_data(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await adding(client, lambda: 1, "db")
            client.remove_queries(KEY)
            assert client.get_query_data(KEY) is None
            assert not layers(client)

    async def test_closing_the_client_lets_go_of_all(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        adding(client, gate, "db")
        query = client.cache.find(KEY)
        await client.aclose()
        assert (query.layers, query.has_data) == (None, False)


class TestIdentities:
    async def test_S3_the_change_leaves_with_its_mutation(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        adding(client, gate, "db", identity="ada")
        await settled()
        client.forget("ada")
        assert client.get_query_data(KEY) == ["web"]
        await gate.answer(1)
        assert client.get_query_data(KEY) == ["web"]

    async def test_S3_data_that_was_once_of_that_identity_and_is_no_more_stays(self, client):
        client.set_query_data(KEY, ["ada's"], identity="ada")
        adding(client, Gate(), "db", identity="ada")
        client.set_query_data(KEY, ["web"])
        client.forget("ada")
        assert client.get_query_data(KEY) == ["web"]

    async def test_S3_what_was_confirmed_makes_the_data_belong_to_it(self, client):
        client.set_query_data(KEY, ["web"])
        await adding(client, lambda: 1, "db", identity="ada")
        client.mutations.clear()
        client.forget("ada")
        assert client.get_query_data(KEY) is None

    async def test_S3_also_while_an_older_fetch_runs(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await adding(client, lambda: 1, "db", identity="ada")
            client.mutations.clear()
            client.forget("ada")
            assert client.get_query_data(KEY) is None

    async def test_S3_real_data_that_comes_afterwards_does_not_belong_to_it(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        with QueryObserver(client, KEY, gate):
            await adding(client, lambda: 1, "db", identity="ada")
            client.set_query_data(KEY, ["real"])
            client.forget("ada")
            assert client.get_query_data(KEY) == ["real"]

    async def test_S3_who_reads_it_takes_on_its_identity(self, client):
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        adding(client, gate, "db", identity="ada")
        await client.query(("reader",), lambda: client.get_query_data(KEY))
        await settled()
        await gate.answer(1)
        client.forget("ada")
        assert client.get_query_data(("reader",)) is None

    async def test_S3_the_change_of_a_doomed_mutation_is_not_applied(self, client):
        """Its record may be doomed without anybody telling it: by what its updater has read."""
        client.set_query_data(KEY, ["web"])
        gate = Gate()
        held = Gate()

        async def reader():
            use_identity("ada")
            await held()

        asking = asyncio.create_task(client.query(("reader",), reader))
        await settled()
        query = client.cache.find(("reader",))
        record = query.flight.record
        adding(client, gate, "db")
        mutation = client.mutations.find()
        client.forget("ada")
        mutation.names.update(record.names)
        client.set_query_data(KEY, ["new"])
        assert client.get_query_data(KEY) == ["new"]
        await asyncio.gather(asking, return_exceptions=True)
        await gate.answer(1)
        assert len(client.mutations) == 0


# --- any order against a model ---


@dataclass
class Model:
    """What is known to be so, as of which moment, and the changes in the order of their calls."""

    base: list[str]
    changes: list[list] = field(default_factory=list)  # [name, the moment of its success or None]
    moment: int = 0
    fetch: int | None = None

    def now(self):
        self.moment += 1
        return self.moment

    def land(self, data, began):
        self.base = data
        self.changes = [one for one in self.changes if one[1] is None or one[1] > began]

    def known(self):
        return [*self.base, *(name for name, at in self.changes if at is not None)]

    def seen(self):
        return [*self.base, *(name for name, _ in self.changes)]


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["mutate", "fetch", "land", "drop", "set", "update", "invalidate"]),
        st.tuples(st.sampled_from(["succeed", "fail"]), st.integers(0, 3)),
    ),
    max_size=25,
)


async def follow(steps):
    async with QueryClient() as client:
        client.set_query_data(KEY, ["0"])
        model = Model(["0"])
        fetches, gates, shown = Gate(), {}, []
        with QueryObserver(client, KEY, fetches, stale_time=10**9, retry=0).subscribe(
            lambda result: shown.append(list(result.data))
        ):
            for number, step in enumerate(steps, 1):
                name, before = str(number), model.seen()
                shown.clear()
                if step == "mutate":
                    gates[name] = Gate()
                    adding(client, gates[name], name)
                    model.changes.append([name, None])
                elif step in {"fetch", "invalidate"}:
                    if step == "invalidate":
                        client.invalidate_queries(KEY)
                    elif model.fetch is None:
                        client.refetch_queries(KEY)
                    else:
                        continue
                    model.fetch = model.now()
                elif step == "land" and model.fetch is not None:
                    # The server has what had succeeded when the fetch began, and perhaps more.
                    data = [name]
                    await settled()
                    model.land(data, model.fetch)
                    model.fetch = None
                    await fetches.answer(data)
                elif step == "drop" and model.fetch is not None:
                    client.cancel_queries(KEY)
                    model.fetch = None
                elif step == "set":
                    client.set_query_data(KEY, [name])
                    model.land([name], model.now())
                    model.fetch = None
                elif step == "update":
                    client.set_query_data(KEY, lambda data, name=name: [*data, name])
                    model.land([*model.known(), name], model.now())
                    model.fetch = None
                elif isinstance(step, tuple):
                    pending = [one for one in model.changes if one[1] is None]
                    if not pending:
                        continue
                    one = pending[step[1] % len(pending)]
                    await settled()
                    if step[0] == "succeed":
                        one[1] = model.now()
                        await gates[one[0]].answer("done")
                    else:
                        model.changes.remove(one)
                        await gates[one[0]].answer(LookupError())
                await settled()
                seen = client.get_query_data(KEY)
                assert seen == model.seen(), (steps[:number], seen, model)
                assert all(each in (before, seen) for each in shown), "it flickers"
                assert not shown or shown[-1] == seen
            for one in [one for one in model.changes if one[1] is None]:
                await gates[one[0]].answer(LookupError())
            client.cancel_queries(KEY)
            assert client.cache.find(KEY).layers is None


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_in_any_order_the_data_with_the_pending_changes_is_seen(steps):
    with asyncio.Runner() as runner:
        runner.run(follow(steps))
