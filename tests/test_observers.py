"""Many queries observed at once: a tuple of results, or what `combine` makes of it."""

from __future__ import annotations

import asyncio
import gc
import math

import pytest

from querykit import (
    ClientClosed,
    ObserverClosed,
    QueriesObserver,
    QueryClient,
    QueryObserver,
    WrongThread,
    query_options,
    use_identity,
)
from tests.fetches import settled
from tests.observing import exceptions

pytestmark = pytest.mark.virtual_time

A = ("cluster", "prod")


@pytest.fixture
async def client():
    async with QueryClient() as client:
        yield client


def key(name):
    return ("pods", name)


def option(name, **options):
    async def fetch():
        await asyncio.sleep(0)
        return name.upper()

    return query_options(key(name), fetch, **{"stale_time": math.inf, **options})


def options_of(names, **options):
    return [option(name, **options) for name in names]


def data_of(results):
    return [result.data for result in results]


class TestResults:
    async def test_there_is_a_result_for_each_query_in_their_order(self, client):
        with QueriesObserver(client, options_of("ab")) as many:
            assert data_of(many.result) == [None, None]
            await settled()
            assert data_of(many.result) == ["A", "B"]
            assert isinstance(many.result, tuple)

    async def test_no_queries_give_no_results(self, client):
        with QueriesObserver(client, []) as many:
            assert many.result == ()

    async def test_trap_none_is_fetched_until_somebody_subscribes(self, client):
        many = QueriesObserver(client, options_of("ab"))
        assert data_of(many.result) == [None, None]
        await settled()
        assert client.stats().fetches == 0

    async def test_every_change_is_told_with_all_results(self, client):
        told = []
        many = QueriesObserver(client, options_of("ab"))
        many.subscribe(lambda results: told.append(data_of(results)))
        await settled()
        client.set_query_data(key("a"), 1)
        assert told[-2:] == [["A", "B"], [1, "B"]]

    async def test_the_result_is_the_same_object_until_something_changes(self, client):
        with QueriesObserver(client, options_of("ab")) as many:
            await settled()
            before = many.result
            assert many.result is before
            client.set_query_data(key("a"), 1)
            assert many.result is not before
            assert many.result[1] is before[1]

    async def test_the_same_key_may_be_given_twice(self, client):
        with QueriesObserver(client, options_of("aa")) as many:
            await settled()
            assert data_of(many.result) == ["A", "A"]
            assert client.stats().fetches == 1

    async def test_each_may_select(self, client):
        queries = [option("a"), option("b").select(lambda data: data * 2)]
        with QueriesObserver(client, queries) as many:
            await settled()
            assert data_of(many.result) == ["A", "BB"]

    async def test_a_change_of_one_makes_nothing_of_the_others_anew(self, client):
        selected = []
        queries = [option(name).select(lambda data: selected.append(data) or data) for name in "abc"]
        with QueriesObserver(client, queries):
            await settled()
            selected.clear()
            client.set_query_data(key("b"), 1)
            assert selected == [1]

    async def test_changes_in_a_batch_are_told_once(self, client):
        told = []
        many = QueriesObserver(client, options_of("abc"))
        many.subscribe(lambda results: told.append(data_of(results)))
        await settled()
        told.clear()
        with client.batch():
            for name in "abc":
                client.set_query_data(key(name), 1)
            assert data_of(many.result) == [1, 1, 1]
        assert told == [[1, 1, 1]]

    async def test_an_async_subscriber_gets_the_newest(self, client):
        told, go = [], asyncio.Event()

        async def tell(results):
            told.append(data_of(results))
            await go.wait()

        many = QueriesObserver(client, options_of("a"))
        many.subscribe(tell)
        await settled()
        for n in range(5):
            client.set_query_data(key("a"), n)
        assert len(told) == 1
        go.set()
        await settled()
        assert told[-1] == [4]
        assert len(told) == 2


class TestCombine:
    async def test_it_makes_the_result(self, client):
        with QueriesObserver(client, options_of("ab"), combine=lambda results: data_of(results)) as many:
            await settled()
            assert many.result == ["A", "B"]

    async def test_it_is_called_once_for_the_same_results(self, client):
        calls = []
        with QueriesObserver(client, options_of("ab"), combine=lambda results: calls.append(1)) as many:
            await settled()
            calls.clear()
            assert many.result is many.result is None
            assert calls == []
            client.set_query_data(key("a"), 1)
            assert calls == [1]

    async def test_nobody_is_told_where_what_it_makes_is_equal(self, client):
        told = []
        many = QueriesObserver(client, options_of("ab"), combine=lambda results: {"count": len(results)})
        many.subscribe(told.append)
        await settled()
        client.set_query_data(key("a"), 1)
        assert told == []

    async def test_equal_parts_keep_their_identity(self, client):
        with QueriesObserver(client, options_of("ab"), combine=lambda results: [[r.data] for r in results]) as many:
            await settled()
            before = many.result
            client.set_query_data(key("a"), 1)
            assert many.result == [[1], ["B"]]
            assert many.result[1] is before[1]

    async def test_another_function_makes_another_result(self, client):
        with QueriesObserver(client, options_of("ab"), combine=data_of) as many:
            await settled()
            many.set_queries(options_of("ab"), combine=len)
            assert many.result == 2
            many.set_queries(options_of("abc"))
            assert many.result == 3

    async def test_one_that_raises_is_reported_and_raised_to_who_reads(self, client, reported):
        told = []

        def combine(results):
            if results[0].data == "bad":
                raise LookupError("bad")
            return data_of(results)

        many = QueriesObserver(client, options_of("ab"), combine=combine)
        many.subscribe(told.append)
        await settled()
        client.set_query_data(key("a"), "bad")
        assert [type(each["exception"]) for each in reported.take()] == [LookupError]
        with pytest.raises(LookupError):
            _ = many.result
        client.set_query_data(key("a"), "good")
        assert many.result == told[-1] == ["good", "B"]

    async def test_S3_what_it_used_is_forgotten_with_its_identity(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)

        def combine(results):
            return [client.get_query_data(("rights",)), *data_of(results)]

        told = []
        many = QueriesObserver(client, options_of("a"), combine=combine)
        many.subscribe(told.append)
        await settled()
        assert many.result == ["ada's", "A"]
        client.forget(A)
        assert many.result == [None, "A"] == told[-1]

    async def test_S3_one_that_forgets_what_it_reads_is_not_remembered(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)

        def combine(results):
            rights = client.get_query_data(("rights",))
            client.forget(A)
            return rights

        many = QueriesObserver(client, options_of("a"), combine=combine)
        _ = many.result
        assert many.result is None

    async def test_S3_a_reader_takes_on_what_it_used(self, client):
        many = QueriesObserver(client, options_of("a"), combine=lambda results: use_identity(A))
        await client.query(("reader",), lambda: many.result)
        assert A in client.cache.find(("reader",)).identities


class TestIdentities:
    async def test_S3_a_forgotten_result_is_seen_by_nobody_even_while_it_is_told(self, client):
        for name in "ab":
            client.set_query_data(key(name), "ada's", identity=A)
        many = QueriesObserver(client, options_of("ab"))
        seen = []
        many.subscribe(lambda results: seen.append(data_of(results)))
        with client.cache.subscribe(lambda event: seen.append(data_of(many.result))):
            client.forget(A)
        assert seen
        assert all(data == [None, None] for data in seen)

    async def test_S3_a_reader_takes_on_the_identities_of_the_results(self, client):
        client.set_query_data(key("a"), "ada's", identity=A)
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(lambda results: None)
        await client.query(("reader",), lambda: data_of(many.result))
        assert A in client.cache.find(("reader",)).identities


class TestSetQueries:
    async def test_the_observers_of_keys_that_stay_are_kept_wherever_they_stand(self, client):
        with QueriesObserver(client, options_of("abc")) as many:
            await settled()
            a, b, c = many.observers
            many.set_queries(options_of("cda"))
            assert many.observers[0] is c
            assert many.observers[2] is a
            assert not client.cache.find(key("b")).is_active
            await settled()
            assert data_of(many.result) == ["C", "D", "A"]
            client.set_query_data(key("c"), 1)
            assert data_of(many.result) == [1, "D", "A"]
            del b

    async def test_nothing_is_fetched_again_for_those_that_stay(self, client):
        with QueriesObserver(client, options_of("ab", stale_time=0)) as many:
            await settled()
            many.set_queries(options_of("ba", stale_time=0))
            await settled()
            assert client.stats().fetches == 2

    async def test_their_subscribers_are_told_once(self, client):
        told = []
        many = QueriesObserver(client, options_of("ab"))
        many.subscribe(lambda results: told.append(data_of(results)))
        await settled()
        told.clear()
        many.set_queries(options_of("b"))
        assert told == [["B"]]

    async def test_the_same_queries_again_are_no_news(self, client):
        told = []
        queries = options_of("ab")
        many = QueriesObserver(client, queries)
        many.subscribe(told.append)
        await settled()
        told.clear()
        many.set_queries(queries)
        assert told == []

    async def test_one_of_two_of_the_same_key_may_go(self, client):
        with QueriesObserver(client, options_of("aa")) as many:
            await settled()
            first = many.observers[0]
            many.set_queries(options_of("a"))
            assert many.observers == (first,)
            assert client.cache.find(key("a")).is_active

    async def test_other_options_hold_for_the_same_key(self, client):
        with QueriesObserver(client, options_of("a", enabled=False)) as many:
            await settled()
            assert client.stats().fetches == 0
            many.set_queries(options_of("a"))
            await settled()
            assert data_of(many.result) == ["A"]

    async def test_before_anybody_subscribes(self, client):
        many = QueriesObserver(client, options_of("a"))
        many.set_queries(options_of("bc"))
        with many:
            await settled()
            assert data_of(many.result) == ["B", "C"]

    async def test_from_a_subscriber(self, client):
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(lambda results: len(results) == 1 and many.set_queries(options_of("ab")))
        await settled()
        assert data_of(many.result) == ["A", "B"]


class TestLife:
    async def test_the_queries_are_active_while_anybody_subscribes(self, client):
        many = QueriesObserver(client, options_of("ab"))
        first, second = many.subscribe(lambda results: None), many.subscribe(lambda results: None)
        assert [query.is_active for query in client.cache] == [True, True]
        first()
        first()
        assert client.cache.find(key("a")).is_active
        second()
        assert [query.is_active for query in client.cache] == [False, False]

    async def test_who_has_left_is_told_no_more_and_may_come_back(self, client):
        told = []
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(told.append)()
        told.clear()
        client.set_query_data(key("a"), 1)
        assert told == []
        many.subscribe(told.append)
        client.set_query_data(key("a"), 2)
        assert data_of(told[-1]) == [2]

    async def test_a_closed_one_says_so(self, client):
        many = QueriesObserver(client, options_of("a"))
        with many:
            pass
        many.close()
        await many.aclose()
        for use in (lambda: many.subscribe(print), lambda: many.set_queries([]), many.__enter__):
            with pytest.raises(ObserverClosed, match="QueriesObserver"):
                use()

    async def test_aclose_waits_for_async_subscribers(self, client):
        ended = []

        async def tell(results):
            await asyncio.sleep(3)
            ended.append(1)

        many = QueriesObserver(client, options_of("a"))
        many.subscribe(tell)
        await settled()
        await many.aclose()
        assert ended == [1]

    async def test_the_client_takes_it_along(self):
        async with QueryClient() as client:
            many = QueriesObserver(client, options_of("ab"))
            many.subscribe(lambda results: None)
        with pytest.raises(ClientClosed):
            many.subscribe(print)

    async def test_a_subscriber_that_raises_is_reported_and_disturbs_nobody(self, client, reported):
        told = []
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(lambda results: 1 / 0)
        many.subscribe(told.append)
        await settled()
        client.set_query_data(key("a"), 1)
        assert told
        assert {type(each["exception"]) for each in reported.take()} == {ZeroDivisionError}

    def test_bad_arguments_are_refused(self):
        client = QueryClient()
        with pytest.raises(TypeError, match="query_options"):
            QueriesObserver(client, [("pods",)])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="combine"):
            QueriesObserver(client, [], combine=1)  # type: ignore[call-overload]

    async def test_one_without_a_running_loop_is_refused_and_left_as_it_was(self):
        def elsewhere():
            client = QueryClient()
            many = QueriesObserver(client, options_of("a"))
            with pytest.raises(RuntimeError, match="event loop"):
                many.subscribe(print)
            return len(client.cache.find(key("a")).observers)

        assert await asyncio.to_thread(elsewhere) == 0

    def test_it_shows_how_many_it_follows(self):
        assert repr(QueriesObserver(QueryClient(), options_of("ab"))) == "<QueriesObserver of 2 queries, 0 subscribers>"


class TestObserveMany:
    async def test_it_yields_the_newest_results(self, client):
        async with client.observe_many(options_of("ab")) as results:
            assert data_of(await anext(results)) == [None, None]
            await settled()
            assert data_of(await anext(results)) == ["A", "B"]
            for n in range(9):
                client.set_query_data(key("a"), n)
            assert data_of(await anext(results)) == [8, "B"]
        assert not client.cache.find(key("a")).is_active

    async def test_it_yields_what_combine_makes(self, client):
        async with client.observe_many(options_of("ab"), combine=data_of) as results:
            async for data in results:
                if data == ["A", "B"]:
                    break

    async def test_dropping_it_lets_go(self, client):
        results = client.observe_many(options_of("ab"))
        await anext(results)
        del results
        gc.collect()
        assert not client.cache.find(key("a")).is_active

    async def test_it_ends_with_the_client(self):
        async with QueryClient() as client:
            results = client.observe_many(options_of("a"))
            await anext(results)
            rest = asyncio.ensure_future(drain(results))
            await settled()
        await rest


class TestWhatGoesWrong:
    """What raises leaves everything as it was."""

    def broken(self):
        def initial():
            raise LookupError("initial")

        return option("d", initial_data=initial)

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            (lambda self: option("a", notify_on=["nothing"]), ValueError),
            (lambda self: option("d", notify_on=["nothing"]), ValueError),
            (lambda self: query_options(key("d"), lambda one, two: one), TypeError),
            (lambda self: self.broken(), LookupError),
            (lambda self: ("pods",), TypeError),
        ],
        ids=["a bad option of one that stays", "of a new one", "a bad function", "raising initial data", "no options"],
    )
    async def test_a_bad_query_among_others_changes_nothing(self, client, bad, error):
        told = []
        many = QueriesObserver(client, options_of("ab"), combine=data_of)
        many.subscribe(told.append)
        await settled()
        told.clear()
        observers, queries = many.observers, [option("b", enabled=False), option("c"), bad(self)]
        with pytest.raises(error):
            many.set_queries(queries, combine=len)
        await settled()
        assert (many.observers, many.result, told) == (observers, ["A", "B"], [])
        assert [observer.enabled for observer in observers] == [True, True]
        assert {query.key: len(query.observers) for query in client.cache if query.observers} == {
            key("a"): 1,
            key("b"): 1,
        }
        client.set_query_data(key("b"), 1)
        assert told == [["A", 1]]

    async def test_combine_of_a_wrong_type_changes_nothing(self, client):
        many = QueriesObserver(client, options_of("ab"))
        with pytest.raises(TypeError, match="combine"):
            many.set_queries(options_of("c"), combine=1)
        assert len(many.observers) == 2

    @pytest.mark.parametrize("how", ["subscribe", "with"])
    async def test_one_of_whose_queries_cannot_be_followed_follows_none(self, client, how):
        many = QueriesObserver(client, options_of("ab"))
        list(many.observers)[1].set_options(self.broken())
        with pytest.raises(LookupError):
            many.subscribe(print) if how == "subscribe" else many.__enter__()
        assert not any(query.observers for query in client.cache)

    async def test_S8_a_combine_that_raises_cancelled_error_is_reported_and_others_are_told(self, client, reported):
        def combine(results):
            if results[0].data == "bad":
                raise asyncio.CancelledError

        told = []
        QueriesObserver(client, options_of("a"), combine=combine).subscribe(print)
        QueryObserver(client, key("a")).subscribe(lambda result: told.append(result.data))
        client.set_query_data(key("a"), "bad")
        assert told[-1] == "bad"
        assert exceptions(reported) == [asyncio.CancelledError]

    async def test_it_is_closed_in_its_own_thread(self, client):
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(print)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(many.close)
        assert client.cache.find(key("a")).is_active

    async def test_a_closed_one_has_no_result(self, client):
        for queries in (options_of("a"), []):
            many = QueriesObserver(client, queries)
            many.close()
            with pytest.raises(ObserverClosed):
                _ = many.result


class TestFromInside:
    """A subscriber or `combine` may do what it likes."""

    async def test_a_combine_that_sets_other_queries_is_asked_again(self, client):
        told = []

        def combine(results):
            if [result.data for result in results] == [1, "B"]:
                many.set_queries(options_of("c"))
            return data_of(results)

        many = QueriesObserver(client, options_of("ab"), combine=combine)
        many.subscribe(told.append)
        await settled()
        told.clear()
        client.set_query_data(key("c"), "C")
        client.set_query_data(key("a"), 1)
        assert (told, many.result) == ([["C"]], ["C"])

    async def test_a_combine_that_closes_its_observer_is_kept_by_nobody(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)

        def combine(results):
            if results[0].data == 1:
                many.close()
            return client.get_query_data(("rights",))

        told = []
        many = QueriesObserver(client, options_of("a"), combine=combine)
        many.subscribe(told.append)
        await settled()
        told.clear()
        client.set_query_data(key("a"), 1)
        assert told == []
        assert many._made.value is None
        assert not client.cache.find(key("a")).is_active

    @pytest.mark.parametrize("how", ["clear", "forget", "remove_queries"])
    async def test_a_subscriber_that_empties_the_cache_sees_that_next(self, client, how):
        told = []

        def tell(results):
            told.append(data_of(results))
            if told[-1] == ["A", "B"]:
                client.forget(A) if how == "forget" else getattr(client, how)()

        many = QueriesObserver(client, options_of("ab", identity=A))
        many.subscribe(tell)
        await settled()
        assert told[told.index(["A", "B"]) + 1] == [None, None] == data_of(many.result)

    async def test_a_subscriber_that_closes_it_is_the_last_to_be_told(self, client):
        told = []
        many = QueriesObserver(client, options_of("ab"))
        many.subscribe(lambda results: results[0].has_data and many.close())
        many.subscribe(told.append)
        await settled()
        assert not any(results[0].has_data for results in told)
        assert not any(query.observers for query in client.cache)

    async def test_one_that_leaves_before_it_is_told_is_told_nothing(self, client):
        told = []
        many = QueriesObserver(client, options_of("a"))
        undo = many.subscribe(told.append)
        await settled()
        told.clear()
        with client.batch():
            client.set_query_data(key("a"), 1)
            QueryObserver(client, key("a")).subscribe(print)
            client.core.cache.delivery.call(undo)
        assert told in ([], [many.result])

    async def test_a_rule_that_closes_it_while_queries_are_set_leaves_nobody_behind(self, client):
        many = QueriesObserver(client, options_of("a"))
        many.subscribe(print)
        await settled()
        with pytest.raises(ObserverClosed):
            many.set_queries([option("a"), option("b", enabled=lambda query: bool(many.close()))])
        assert not any(query.observers for query in client.cache)

    async def test_within_a_block_the_last_subscriber_may_leave(self, client):
        with QueriesObserver(client, options_of("a")) as many:
            many.subscribe(print)()
            assert client.cache.find(key("a")).is_active

    async def test_S3_what_was_made_for_nobody_is_forgotten_too(self, client):
        client.set_query_data(("rights",), "ada's", identity=A)
        many = QueriesObserver(client, options_of("a"), combine=lambda results: client.get_query_data(("rights",)))
        assert many.result == "ada's"
        client.forget(A)
        assert many.result is None

    async def test_S6_queries_that_were_left_leave_nothing_behind(self, client):
        client.set_query_data(key("a"), "ada's", identity=A)
        many = QueriesObserver(client, [])
        many.subscribe(print)
        for _ in range(50):
            many.set_queries([option("a").select(len)])
            many.set_queries([])
        gc.collect()
        assert len(client.cache.ledger._holders[A]) == 1


async def drain(results):
    async for _ in results:
        pass
