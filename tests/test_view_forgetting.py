"""S3 at an observer: what it remembers goes with the identity under which it was made."""

from __future__ import annotations

import gc
import weakref

import pytest

from querykit import QueriesObserver, QueryClient, QueryObserver, keep_previous_data, query_options, skip, use_identity
from querykit.identity import Ledger
from querykit.memo import Memo
from tests.fetches import Gate, settled
from tests.observing import Results, exceptions

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
OTHER = ("pods", "test")
WHO = ("cluster", "prod")


def selecting(select, fn=skip, key=KEY, **options):
    return query_options(key, fn, **options).select(select)


async def test_S3_nothing_of_a_forgotten_identity_is_in_the_result_when_forget_returns():
    async with QueryClient() as client:
        client.set_query_data(KEY, "secret", identity=WHO)
        results = Results()
        observer = QueryObserver(client, KEY)
        with observer.subscribe(results):
            assert observer.result.data == "secret"
            client.forget(WHO)
            assert (results[-1].data, observer.result.data) == (None, None)
            assert "secret" not in repr([vars_of(observer), results[-1]])


async def test_S3_the_previous_keys_data_goes_though_it_is_another_keys_placeholder():
    async with QueryClient() as client:
        client.set_query_data(KEY, "secret", identity=WHO)
        observer = QueryObserver(client, KEY, placeholder_data=keep_previous_data)
        with observer.subscribe(results := Results()):
            observer.set_options(OTHER, placeholder_data=keep_previous_data)
            assert observer.result.data == "secret"
            client.forget(WHO)
            assert (results[-1].data, results[-1].status, observer.result.data) == (None, "pending", None)


async def test_S3_a_previous_key_that_is_forgotten_before_the_next_switch_is_not_shown():
    async with QueryClient() as client:
        client.set_query_data(KEY, "secret", identity=WHO)
        with QueryObserver(client, KEY) as observer:
            observer.set_options(OTHER)
            client.forget(WHO)
            observer.set_options(("third",), placeholder_data=keep_previous_data)
            assert observer.result.is_pending


async def test_S3_what_select_made_under_an_identity_of_its_own_goes_with_that():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        runs = []

        def select(data):
            use_identity(WHO)
            runs.append(data)
            return f"secret {len(runs)}"

        observer = QueryObserver(client, selecting(select))
        with observer.subscribe(results := Results()):
            assert observer.result.data == "secret 1"
            client.forget(WHO)
            assert results[-1].data == observer.result.data == "secret 2"


async def test_S3_what_select_reads_of_other_queries_counts_as_well():
    async with QueryClient() as client:
        client.set_query_data(OTHER, "secret", identity=WHO)
        client.set_query_data(KEY, 1)
        select = lambda data: client.get_query_data(OTHER)  # noqa: E731
        observer = QueryObserver(client, selecting(select))
        with observer.subscribe(results := Results()):
            assert observer.result.data == "secret"
            client.forget(WHO)
            assert results[-1].data is None
            assert observer.result.data is None


async def test_S3_what_was_selected_before_a_failure_goes_with_the_identity_it_was_made_under(reported):
    async with QueryClient() as client:
        client.set_query_data(KEY, 2, identity=WHO)
        observer = QueryObserver(client, selecting(lambda data: 6 / data))
        with observer.subscribe(results := Results()):
            client.set_query_data(KEY, 0, identity=("cluster", "other"))
            assert (observer.result.data, observer.result.status) == (3, "error")
            client.forget(WHO)
            assert observer.result.data is None
            assert results[-1].data is None
    assert set(exceptions(reported)) == {ZeroDivisionError}


async def test_S3_a_selection_that_forgets_what_it_reads_shows_nothing():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)

        def select(data):
            use_identity(WHO)
            client.forget(WHO)
            return "secret"

        with QueryObserver(client, selecting(select)) as observer:
            assert (observer.result.data, observer.result.status) == (None, "pending")


async def test_S3_an_async_callback_that_is_busy_gets_nothing_that_was_forgotten_meanwhile():
    async with QueryClient() as client:
        seen, gate = [], Gate()

        async def callback(result):
            seen.append(result.data)
            await gate()

        with QueryObserver(client, KEY).subscribe(callback):
            client.set_query_data(KEY, "first")
            await settled()
            client.set_query_data(KEY, "secret", identity=WHO)
            client.forget(WHO)
            await gate.answer(None)
            await settled()
            gate.waiting[-1].set_result(None)
            await settled()
        assert seen == ["first", None]


async def test_S3_a_later_subscriber_is_not_told_what_an_earlier_one_had_forgotten():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY)

        def forgets(result):
            if result.data is not None:
                client.forget(WHO)

        with observer.subscribe(forgets), observer.subscribe(results := Results()):
            client.set_query_data(KEY, "secret", identity=WHO)
        assert "secret" not in results.of("data")


async def test_S3_one_that_nobody_subscribed_to_shows_nothing_that_was_forgotten_either():
    async with QueryClient() as client:
        client.set_query_data(KEY, 1)
        selected = []

        def select(data):
            use_identity(WHO)
            selected.append(data)
            return f"secret {len(selected)}"

        observer = QueryObserver(client, selecting(select))
        assert observer.result.data == "secret 1"
        client.forget(WHO)
        assert "secret" not in repr(vars_of(observer))
        assert observer.result.data == "secret 2"


@pytest.mark.parametrize("how", ["left", "only read", "switched"])
async def test_an_observer_that_nobody_follows_or_holds_any_more_is_collected(how):
    async with QueryClient() as client:
        client.set_query_data(KEY, ["secret"], identity=WHO)
        options = selecting(lambda data: data[0], placeholder_data=keep_previous_data)
        observer = QueryObserver(client, options)
        if how != "only read":
            undo = observer.subscribe(Results())
            if how == "switched":
                observer.set_options(selecting(lambda data: data[0], key=OTHER, placeholder_data=keep_previous_data))
            undo()
        assert observer.result.data == "secret"
        left = weakref.ref(observer)
        del observer
        gc.collect()
        assert left() is None


async def test_of_many_queries_one_that_nobody_holds_any_more_is_collected():
    async with QueryClient() as client:
        client.set_query_data(KEY, "secret", identity=WHO)

        def combine(results):
            use_identity(WHO)
            return [results[0].data]

        observer = QueriesObserver(client, [query_options(KEY, skip)], combine=combine)
        with observer.subscribe(Results()):
            assert observer.result == ["secret"]
        left = weakref.ref(observer)
        del observer
        gc.collect()
        assert left() is None


def test_S3_a_memo_is_not_disturbed_by_an_identity_it_does_not_use():
    gone = []
    memo = Memo(Ledger(), lambda: gone.append(True))
    memo.keep("data", {WHO: 1})
    memo.forget("another")
    assert (memo.value, gone) == ("data", [])
    memo.forget(WHO)
    assert (memo.value, gone) == (None, [True])


def vars_of(observer):
    return [observer._result, observer._told, observer._made_of, vars(observer._view)]


async def test_S6_identities_that_nobody_remembers_any_more_leave_no_trace():
    async with QueryClient() as client:
        ledger = client.cache.ledger
        lasting = Memo(ledger, lambda: None)
        for n in range(500):
            Memo(ledger, lambda: None).keep(n, {("login", n): 1})
            lasting.keep(n, {("user", n): 1})
        assert len(ledger._memos) <= 65
