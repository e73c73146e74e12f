"""`streamed`: an async generator's chunks make data that grows."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from querykit import QueryCancelled, QueryClient, QueryObserver, QueryTimeout, streamed, use_identity
from tests.fetches import settled

pytestmark = pytest.mark.virtual_time

KEY = ("words",)
A = ("cluster", "prod")


class Chunks:
    """A generator function that yields a chunk a second; an exception among them is raised."""

    def __init__(self, *runs):
        self.runs = list(runs)
        self.opened = 0
        self.closed = 0

    async def __call__(self):
        run = self.runs[min(self.opened, len(self.runs) - 1)]
        self.opened += 1
        try:
            for chunk in run:
                await asyncio.sleep(1)
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.closed += 1


@pytest.fixture
async def client():
    async with QueryClient(jitter=lambda longest: longest) as client:
        yield client


def follow(client, fn, **options):
    told = []
    observer = QueryObserver(client, KEY, fn, **options)
    observer.subscribe(lambda result: told.append((result.data, result.status, result.fetch_status)))
    return observer, told


async def test_data_grows_chunk_by_chunk_and_is_a_success_from_the_first_on(client):
    _, told = follow(client, streamed(Chunks("ab")))
    await asyncio.sleep(3)
    assert told == [
        (None, "pending", "fetching"),
        (["a"], "success", "fetching"),
        (["a", "b"], "success", "fetching"),
        (["a", "b"], "success", "idle"),
    ]


async def test_a_caller_gets_all_of_it(client):
    assert await client.query(KEY, streamed(Chunks("ab"))) == ["a", "b"]


async def test_a_stream_of_nothing_is_an_empty_list(client):
    assert await client.query(KEY, streamed(Chunks(""))) == []


async def test_each_data_is_a_new_list(client):
    observer, _ = follow(client, streamed(Chunks("ab")))
    await asyncio.sleep(1.5)
    first = observer.result.data
    await asyncio.sleep(2)
    assert (first, observer.result.data) == (["a"], ["a", "b"])


async def test_reset_takes_the_old_data_away_first(client):
    observer, told = follow(client, streamed(Chunks("ab", "cd")))
    await asyncio.sleep(3)
    told.clear()
    await observer.refetch()
    assert (None, "pending", "fetching") in told[:2]  # before it, but for eager tasks, that it is fetching
    assert [data for data, _, _ in told[-3:]] == [["c"], ["c", "d"], ["c", "d"]]


async def test_append_goes_on_with_the_old_data(client):
    observer, told = follow(client, streamed(Chunks("ab", "cd"), refetch_mode="append"))
    await asyncio.sleep(3)
    told.clear()
    await observer.refetch()
    assert [data for data, _, _ in told] == [
        ["a", "b"],
        ["a", "b", "c"],
        ["a", "b", "c", "d"],
        ["a", "b", "c", "d"],
    ]


async def test_append_begins_with_nothing(client):
    assert await client.query(KEY, streamed(Chunks("ab"), refetch_mode="append")) == ["a", "b"]


async def test_replace_keeps_the_old_data_until_the_end(client):
    observer, told = follow(client, streamed(Chunks("ab", "cd"), refetch_mode="replace"))
    await asyncio.sleep(3)
    assert [data for data, _, _ in told] == [None, ["a"], ["a", "b"], ["a", "b"]]
    told.clear()
    await observer.refetch()
    assert told == [(["a", "b"], "success", "fetching"), (["c", "d"], "success", "idle")]


async def test_a_reducer_makes_what_it_likes_of_the_chunks(client):
    fn = streamed(Chunks([1, 2, 3]), reducer=lambda total, chunk: total + chunk, initial_value=10)
    assert await client.query(KEY, fn) == 16


async def test_the_initial_value_is_not_changed_by_a_fetch(client):
    start = {"n": 0}
    fn = streamed(Chunks([1, 2]), reducer=lambda data, chunk: {"n": data["n"] + chunk}, initial_value=start)
    assert await client.query(KEY, fn) == {"n": 3}
    assert await client.query(KEY, fn) == {"n": 3}
    assert start == {"n": 0}


async def test_the_generator_may_take_the_context(client):
    async def chunks(ctx):
        yield ctx.query_key

    assert await client.query(KEY, streamed(chunks)) == [KEY]


async def test_a_coroutine_that_returns_a_generator_will_do(client):
    async def chunks():
        return Chunks("ab")()

    assert await client.query(KEY, streamed(chunks)) == ["a", "b"]


async def test_an_async_iterable_that_is_no_generator_will_do(client):
    class Words:
        def __init__(self):
            self.words = iter("ab")

        def __aiter__(self):
            return self

        async def __anext__(self):
            for word in self.words:
                return word
            raise StopAsyncIteration

    assert await client.query(KEY, streamed(Words)) == ["a", "b"]


async def test_one_that_fails_midway_leaves_what_has_come_beside_the_error(client):
    observer, _ = follow(client, streamed(Chunks(["a", LookupError("broken")])))
    await asyncio.sleep(3)
    result = observer.result
    assert (result.data, result.status, type(result.error), result.is_stale) == (["a"], "error", LookupError, True)


async def test_a_retry_starts_over(client):
    chunks = Chunks(["a", ConnectionError()], ["b", "c"])
    assert await client.query(KEY, streamed(chunks)) == ["b", "c"]
    assert (chunks.opened, chunks.closed) == (2, 2)


async def test_append_retries_with_what_its_fetch_has_found_so_that_no_chunk_comes_twice(client):
    chunks = Chunks("ab", ["c", ConnectionError()], "cd")
    observer, told = follow(client, streamed(chunks, refetch_mode="append"))
    await asyncio.sleep(3)
    told.clear()
    await observer.refetch()
    assert observer.result.data == ["a", "b", "c", "d"]
    assert [data for data, _, status in told if status == "fetching"][-2:] == [["a", "b", "c"], ["a", "b", "c", "d"]]


async def test_append_adds_to_what_a_fetch_has_shown_that_failed_for_good_or_was_cancelled(client):
    chunks = Chunks(["a", LookupError()], "bc", "de")
    observer, _ = follow(client, streamed(chunks, refetch_mode="append"))
    await asyncio.sleep(3)
    refetching = asyncio.ensure_future(observer.refetch())
    await asyncio.sleep(1.5)
    client.cancel_queries(KEY)
    await refetching
    assert observer.result.data == ["a", "b"]
    await observer.refetch()
    assert observer.result.data == ["a", "b", "d", "e"]


async def test_replace_shows_the_chunks_of_a_first_load_that_is_retried(client):
    _, told = follow(client, streamed(Chunks(["a", ConnectionError()], "bc"), refetch_mode="replace"))
    await asyncio.sleep(9)
    shown = [data for data, _, _ in told]
    assert [data for n, data in enumerate(shown) if n == 0 or data != shown[n - 1]] == [None, ["a"], ["b"], ["b", "c"]]


async def test_a_retry_of_a_refetch_takes_nothing_of_what_replace_keeps(client):
    observer, told = follow(client, streamed(Chunks("ab", ["c", ConnectionError()], "d"), refetch_mode="replace"))
    await asyncio.sleep(3)
    told.clear()
    await observer.refetch()
    assert [data for data, _, _ in told][-1] == ["d"]
    assert all(data == ["a", "b"] for data, _, _ in told[:-1])


async def test_a_timeout_keeps_what_has_come_beside_the_error(client):
    chunks = Chunks("abc")
    observer, _ = follow(client, streamed(chunks), timeout=2.5)
    await asyncio.sleep(3)
    result = observer.result
    assert (result.data, type(result.error), chunks.closed) == (["a", "b"], QueryTimeout, 1)


async def test_a_change_of_a_mutation_is_seen_over_the_chunks(client):
    async def fails(variables):
        await asyncio.sleep(2)
        raise LookupError

    observer, told = follow(client, streamed(Chunks("abc")))
    await asyncio.sleep(1.5)
    mutating = client.mutate(fails, "me", optimistic=[(KEY, lambda data, me: [*data, me])])
    await asyncio.sleep(1)
    assert observer.result.data == ["a", "b", "me"]
    with pytest.raises(LookupError):
        await mutating
    assert observer.result.data == told[-1][0] == ["a", "b", "c"]


async def test_S2_an_invalidation_that_fetches_nothing_leaves_the_chunks_stale(client):
    observer, _ = follow(client, streamed(Chunks("ab")))
    await asyncio.sleep(1.5)
    client.invalidate_queries(KEY, refetch_type="none")
    await asyncio.sleep(3)
    assert (observer.result.data, observer.result.is_invalidated) == (["a", "b"], True)


async def test_S11_the_chunks_that_come_again_keep_their_identity_at_the_end(client):
    observer, _ = follow(client, streamed(Chunks([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 3}]), refetch_mode="replace"))
    await asyncio.sleep(3)
    before = observer.result.data
    await observer.refetch()
    assert observer.result.data[0] is before[0]
    assert observer.result.data[1] == {"n": 3}


async def test_what_an_object_iterates_over_is_closed_at_once(client):
    closed = []

    class Words:
        async def __aiter__(self):
            try:
                yield "a"
                yield "b"
            finally:
                closed.append(1)

    def refuse(data, chunk):
        raise LookupError(chunk)

    with pytest.raises(LookupError) as caught:
        await client.query(KEY, streamed(Words, reducer=refuse, initial_value=0))
    assert (str(caught.value), closed) == ("a", [1])


async def test_S10_a_generator_that_fails_while_it_is_closed_fails_its_fetch(client):
    async def stubborn():
        try:
            yield "a"
        finally:
            yield "last words"

    def refuse(data, chunk):
        raise LookupError

    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        await client.query(KEY, streamed(stubborn, reducer=refuse, initial_value=0), retry=0)


async def test_cancelling_closes_the_generator_and_keeps_what_has_come(client):
    chunks = Chunks("abc")
    observer, _ = follow(client, streamed(chunks))
    await asyncio.sleep(1.5)
    client.cancel_queries(KEY)
    await settled()
    result = observer.result
    assert (chunks.closed, result.data, result.fetch_status) == (1, ["a"], "idle")


async def test_the_last_observer_who_leaves_closes_it(client):
    chunks = Chunks("abc")
    observer, _ = follow(client, streamed(chunks))
    await asyncio.sleep(1.5)
    observer.close()
    await settled()
    assert (chunks.closed, client.is_fetching()) == (1, 0)


async def test_closing_the_client_closes_it():
    chunks = Chunks("abc")
    async with QueryClient() as client:
        follow(client, streamed(chunks))
        await asyncio.sleep(1.5)
    assert chunks.closed == 1


async def test_S2_an_invalidation_midway_begins_it_anew(client):
    chunks = Chunks("abc", "de")
    observer, _ = follow(client, streamed(chunks))
    await asyncio.sleep(1.5)
    await client.invalidate_queries(KEY)
    assert (observer.result.data, observer.result.is_invalidated, chunks.closed) == (["d", "e"], False, 2)


async def test_S2_setting_data_midway_ends_it(client):
    chunks = Chunks("abc")
    observer, _ = follow(client, streamed(chunks))
    await asyncio.sleep(1.5)
    client.set_query_data(KEY, ["mine"])
    await asyncio.sleep(5)
    assert (observer.result.data, chunks.closed) == (["mine"], 1)


async def test_S2_a_generator_that_will_not_be_cancelled_shows_nothing_more(client):
    async def stubborn():
        for word in "abc":
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
            yield word

    asking = asyncio.ensure_future(client.query(KEY, streamed(stubborn)))
    await asyncio.sleep(1.5)
    client.remove_queries(KEY)
    with pytest.raises(QueryCancelled):
        await asking
    await asyncio.sleep(9)
    assert client.get_query_data(KEY) is None


async def test_S3_forgetting_midway_takes_away_what_has_come(client):
    async def chunks():
        use_identity(A)
        yield "ada's"
        await asyncio.sleep(9)

    observer, told = follow(client, streamed(chunks))
    await asyncio.sleep(1)
    assert observer.result.data == ["ada's"]
    client.forget(A)
    assert observer.result.is_pending
    await asyncio.sleep(20)
    assert told[-1] == (None, "pending", "idle")


async def test_S3_what_is_appended_adds_identities_and_a_reset_replaces_them(client):
    async def first():
        use_identity(A)
        yield "ada's"

    async def second():
        yield "nobody's"

    await client.query(KEY, streamed(first))
    await client.query(KEY, streamed(second, refetch_mode="append"))
    assert client.get_query_data(KEY) == ["ada's", "nobody's"]
    assert A in client.cache.find(KEY).identities
    await client.query(KEY, streamed(second))
    assert not client.cache.find(KEY).identities


@pytest.mark.parametrize("made", [lambda: ["a"], lambda: 1], ids=["list", "number"])
async def test_what_gives_no_chunks_is_refused(client, made):
    with pytest.raises(TypeError, match="no async generator"):
        await client.query(KEY, streamed(made), retry=0)


async def test_bad_arguments_are_refused():
    chunks = Chunks("ab")
    generator = chunks()
    with pytest.raises(TypeError, match="async generator function"):
        streamed(generator)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="refetch_mode"):
        streamed(chunks, refetch_mode="both")
    with pytest.raises(TypeError, match="belong together"):
        streamed(chunks, reducer=max)
    with pytest.raises(TypeError, match="belong together"):
        streamed(chunks, initial_value=0)
