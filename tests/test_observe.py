"""`client.observe`: a result at each change, the newest only, until it is left, closed, dropped or its client ends."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from querykit import ClientClosed, MissingQueryFunction, QueryClient, query_options, skip
from tests.fetches import Gate, Upstream, settled

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")


async def test_the_first_result_comes_at_once_and_one_after_each_change():
    async with QueryClient() as client:
        gate = Gate()
        seen = []
        async with client.observe(KEY, gate, stale_time=9) as results:
            async for result in results:
                seen.append((result.status, result.fetch_status, result.data, result.is_stale))
                if len(seen) == 1:
                    await settled()
                    gate.waiting[-1].set_result("one")
                elif result.data == "one" and not result.is_fetching:
                    client.invalidate_queries(KEY)
                    await settled()
                    gate.waiting[-1].set_result("two")
                elif result.data == "two":
                    break
        assert seen[0] == ("pending", "fetching", None, True)
        assert ("success", "idle", "one", False) in seen
        assert seen[-1] == ("success", "idle", "two", False)


async def test_a_slow_reader_gets_the_newest_result_only():
    async with QueryClient() as client, client.observe(KEY) as results:
        assert (await anext(results)).is_pending
        for n in range(100):
            client.set_query_data(KEY, n)
        assert (await anext(results)).data == 99
        waiting = asyncio.ensure_future(anext(results))
        await settled()
        assert not waiting.done()
        client.set_query_data(KEY, "next")
        assert (await waiting).data == "next"


async def test_a_reader_who_invalidates_at_each_result_does_not_hold_the_loop():
    async with QueryClient() as client, client.observe(KEY, Upstream()) as results:
        async for result in results:
            if result.data_update_count == 3:
                break
            client.invalidate_queries(KEY)


async def test_a_result_says_what_it_is():
    async with QueryClient() as client:
        gate = Gate()
        async with client.observe(KEY, gate, retry=0) as results:
            result = results.result
            assert (result.is_loading, result.is_refetching, result.is_pending) == (True, False, True)
            await settled()
            await gate.answer("data")
            result = results.result
            assert (result.is_success, result.is_error, result.is_fetching) == (True, False, False)
            refetched = results.refetch()
            result = results.result
            assert (result.is_loading, result.is_refetching) == (False, True)
            await settled()
            await gate.answer(LookupError("no"))
            await refetched
            result = results.result
            assert (result.is_error, result.data, type(result.error)) == (True, "data", LookupError)


async def test_fresh_data_is_not_fetched_and_stale_data_is_kept_meanwhile():
    async with QueryClient() as client:
        client.set_query_data(KEY, "set", age=10)
        upstream = Upstream()
        async with client.observe(KEY, upstream, stale_time=11) as results:
            await settled()
            assert (results.result.data, results.result.is_stale, upstream.calls) == ("set", False, 0)
            async with client.observe(KEY, upstream, stale_time=10) as others:
                assert (others.result.data, others.result.is_stale) == ("set", True)
                await settled()
                assert results.result.data == others.result.data == "new 1"


@pytest.mark.parametrize("how", ["left", "closed", "dropped", "cancelled"])
async def test_it_lets_go_synchronously(how):
    async with QueryClient() as client:
        gate = Gate()
        if how == "left":
            async with client.observe(KEY, gate):
                await settled()
        elif how == "closed":
            observation = client.observe(KEY, gate)
            aiter(observation)
            await settled()
            observation.close()
            observation.close()
            assert [result async for result in observation] == []
            with pytest.raises(RuntimeError, match="not open"):
                _ = observation.result
        elif how == "dropped":
            observation = aiter(client.observe(KEY, gate))
            await settled()
            del observation
        else:

            async def read():
                async for _ in client.observe(KEY, gate):
                    pass

            reader = asyncio.create_task(read())
            await settled()
            reader.cancel()
            await settled()
            del reader
            gc.collect()
        assert not client.cache.find(KEY).is_active
        await settled()
        assert gate.cancelled == 1


async def test_one_that_is_dropped_in_another_thread_is_let_go_in_its_own():
    async with QueryClient() as client:
        held = [aiter(client.observe(KEY, Upstream()))]
        thread = threading.Thread(target=held.clear)
        await asyncio.to_thread(thread.start)
        await asyncio.to_thread(thread.join)
        await settled()
        assert not client.cache.find(KEY).is_active


async def test_it_ends_when_its_client_closes():
    client = QueryClient()
    seen = []

    async def read():
        seen.extend([result.data async for result in client.observe(KEY, Upstream())])

    reader = asyncio.create_task(read())
    await settled()
    await client.aclose()
    await reader
    assert seen[-1] == "new 1"
    with pytest.raises(ClientClosed):
        await anext(client.observe(KEY, Upstream()))


async def test_one_that_could_not_attach_can_be_tried_again():
    async with QueryClient() as client:

        def breaks():
            if not works:
                raise LookupError
            return "initial"

        works = []
        observation = client.observe(KEY, Upstream(), initial_data=breaks, stale_time=9)
        with pytest.raises(LookupError):
            await anext(observation)
        assert len(client.cache) == 0
        works.append(True)
        assert (await anext(observation)).data == "initial"
        observation.close()


async def test_without_a_function_it_follows_what_others_do():
    async with QueryClient() as client:
        for observation in (client.observe(KEY), client.observe(KEY, skip)):
            async with observation as results:
                assert results.result.fetch_status == "idle"
                client.set_query_data(KEY, 1)
                assert results.result.data == 1
                client.invalidate_queries(KEY)
                assert results.result.is_invalidated
                client.remove_queries(KEY)
                with pytest.raises(MissingQueryFunction):
                    results.refetch()


async def test_a_refetch_within_the_functions_own_fetch_does_nothing():
    async with QueryClient() as client:

        async def fn():
            await asyncio.sleep(0)  # till it is observed
            await results.refetch()
            return 1

        async with client.observe(KEY, fn) as results:
            await settled()
            assert (results.result.data, client.stats().fetches) == (1, 1)


async def test_a_refetch_after_it_was_closed_leaves_nothing_behind():
    async with QueryClient() as client:
        observation = client.observe(KEY, lambda: 1)
        await observation.refetch()
        assert client.get_query_data(KEY) == 1


async def test_an_exception_in_the_block_lets_go():
    async with QueryClient() as client:
        gate = Gate()
        with pytest.raises(LookupError):
            async with client.observe(KEY, gate) as results:
                async for _ in results:
                    await settled()
                    raise LookupError
        assert not client.cache.find(KEY).is_active
        await settled()
        assert gate.cancelled == 1


async def test_leaving_the_loop_keeps_it_open_until_it_is_left_itself():
    async with QueryClient() as client:
        observation = client.observe(KEY)
        async for _ in observation:
            break
        assert client.cache.find(KEY).is_active
        client.set_query_data(KEY, 1)
        async for result in observation:
            assert result.data == 1
            break
        del observation
        assert not client.cache.find(KEY).is_active


async def test_a_cancelled_reader_lets_go_when_its_block_ends():
    async with QueryClient() as client:

        async def read():
            async with client.observe(KEY) as results:
                async for _ in results:
                    pass

        reader = asyncio.create_task(read())
        await settled()
        assert client.cache.find(KEY).is_active
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert not client.cache.find(KEY).is_active


async def test_one_that_was_never_opened_fetches_nothing_and_can_be_closed():
    async with QueryClient() as client:
        upstream = Upstream()
        observation = client.observe(KEY, upstream)
        with pytest.raises(RuntimeError, match="not open"):
            _ = observation.result
        observation.close()
        await settled()
        assert (upstream.calls, len(client.cache)) == (0, 0)


async def test_a_reader_who_is_waiting_when_it_is_closed_ends():
    async with QueryClient() as client:
        observation = client.observe(KEY)
        await anext(observation)
        waiting = asyncio.ensure_future(anext(observation, "ended"))
        await settled()
        observation.close()
        assert await waiting == "ended"


async def test_a_sleeping_reader_of_a_busy_key_never_gets_an_old_result():
    async with QueryClient() as client:
        seen = []

        async def write():
            for n in range(100):
                client.set_query_data(KEY, n)
                await asyncio.sleep(1)

        writer = asyncio.create_task(write())
        async with client.observe(KEY) as results:
            async for result in results:
                seen.append(result.data)
                assert result.data == client.get_query_data(KEY)
                if result.data == 99:
                    break
                await asyncio.sleep(10)
        await writer
        assert len(seen) <= 12


async def test_it_follows_options_such_as_enabled_and_placeholder_data():
    async with QueryClient() as client:
        upstream = Upstream()
        async with client.observe(KEY, upstream, enabled=False, placeholder_data="...") as results:
            result = await anext(results)
            assert (result.data, result.is_placeholder_data, result.is_enabled) == ("...", True, False)
            assert (await results.refetch()).data == "new 1"
        assert upstream.calls == 1


async def test_S3_a_reader_gets_nothing_that_was_forgotten_before_it_read():
    async with QueryClient() as client, client.observe(KEY) as results:
        await anext(results)
        client.set_query_data(KEY, "secret", identity="me")
        client.forget("me")
        assert (await anext(results)).data is None


class TestSelect:
    async def test_trap_17_it_is_computed_once_for_each_data(self):
        async with QueryClient() as client:
            calls = []

            def names(data):
                calls.append(data)
                return sorted(data)

            options = query_options(KEY, lambda: ["b", "a"], stale_time=9).select(names)
            async with client.observe(options) as results:
                await settled()
                assert results.result.data == ["a", "b"]
                assert results.result.data is results.result.data
                assert len(calls) == 1
                client.set_query_data(KEY, ["c"])
                assert results.result.data == ["c"]
                client.remove_queries(KEY)
                assert results.result.data is None

    async def test_trap_17_one_that_raises_is_reported_and_an_error_of_this_observer_alone(self, reported):
        async with QueryClient() as client:
            options = query_options(KEY, lambda: 0, stale_time=9).select(lambda data: 1 / data)
            async with client.observe(options) as results:
                await settled()
                result = results.result
                assert (result.is_error, result.has_data, type(result.error)) == (True, False, ZeroDivisionError)
                assert client.get_query_state(KEY).status == "success"
        assert [type(each["exception"]) for each in reported.take()] == [ZeroDivisionError]


async def test_S8_an_observer_that_raises_is_reported_and_disturbs_nobody(reported):
    class Broken:
        stale_time = 0
        enabled = True

        def changed(self):
            raise LookupError

        def closed(self):
            pass

    async with QueryClient() as client, client.observe(KEY) as results:
        broken = Broken()
        query = client.cache.find(KEY)
        query.attach(broken)
        client.set_query_data(KEY, 1)
        assert results.result.data == 1
        query.detach(broken)
        query.detach(broken)
        assert {type(each["exception"]) for each in reported.take()} == {LookupError}
