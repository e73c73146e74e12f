"""`streamed`: an async generator's chunks make data that grows."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from querykit import QueryCancelled, QueryClient, QueryObserver, streamed, use_identity
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
