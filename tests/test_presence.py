"""`client.focus` and `client.online`: one of each for every client; what comes back is fetched once."""

from __future__ import annotations

import asyncio
import math

import pytest

from querykit import QueryClient, QueryObserver, WrongThread
from tests.fetches import Gate, Upstream, settled
from tests.observing import Results, exceptions

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")
SWITCHES = ["focus", "online"]


def switch(client, name):
    return getattr(client, name)


def came_back(client, name):
    switch(client, name).set(False)
    switch(client, name).set(True)


class TestSwitches:
    @pytest.mark.parametrize("name", SWITCHES)
    def test_it_starts_as_so_and_says_what_was_set(self, name):
        client = QueryClient()
        attribute = {"focus": "is_focused", "online": "is_online"}[name]
        assert getattr(switch(client, name), attribute)
        switch(client, name).set(False)
        assert not getattr(switch(client, name), attribute)

    @pytest.mark.parametrize("name", SWITCHES)
    @pytest.mark.parametrize("value", [None, 1, 0, "yes"], ids=str)
    def test_it_takes_nothing_but_true_and_false(self, name, value):
        client = QueryClient()
        with pytest.raises(TypeError, match=f"client.{name} is set to True or False, not {value!r}"):
            switch(client, name).set(value)

    @pytest.mark.parametrize("name", SWITCHES)
    def test_listeners_hear_of_changes_and_not_of_the_same_value_twice(self, name):
        client = QueryClient()
        heard = []
        undo = switch(client, name).subscribe(heard.append)
        for value in (True, False, False, True, True):
            switch(client, name).set(value)
        undo()
        switch(client, name).set(False)
        assert heard == [False, True]

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_a_listener_that_raises_is_reported_and_disturbs_nobody(self, name, reported):
        async with QueryClient() as client:
            heard, upstream = [], Upstream()
            switch(client, name).subscribe(lambda value: 1 / 0)
            switch(client, name).subscribe(heard.append)
            with QueryObserver(client, KEY, upstream):
                await settled()
                came_back(client, name)
                await settled()
            assert (heard, upstream.calls) == ([False, True], 2)
        assert exceptions(reported) == [ZeroDivisionError] * 2

    @pytest.mark.parametrize("name", SWITCHES)
    def test_a_listener_is_a_callable(self, name):
        with pytest.raises(TypeError, match="a listener is a callable"):
            switch(QueryClient(), name).subscribe(None)

    def test_two_clients_do_not_share_them(self):
        one, other = QueryClient(), QueryClient()
        one.focus.set(False)
        one.online.set(False)
        assert other.focus.is_focused
        assert other.online.is_online

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_a_closed_client_lets_them_be_set_and_tells_nobody(self, name):
        client = QueryClient()
        heard = []
        switch(client, name).subscribe(heard.append)
        await client.aclose()
        came_back(client, name)
        assert heard == []

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_another_thread_is_refused(self, name):
        async with QueryClient() as client:
            with pytest.raises(WrongThread):
                await asyncio.to_thread(switch(client, name).set, False)

    async def test_a_listener_hears_when_the_fetches_have_begun(self):
        async with QueryClient() as client:
            heard = []
            client.focus.subscribe(lambda value: heard.append((value, client.is_fetching())))
            with QueryObserver(client, KEY, Upstream()):
                await settled()
                came_back(client, "focus")
            assert heard == [(False, 0), (True, 1)]


class TestComingBack:
    @pytest.mark.parametrize("name", SWITCHES)
    @pytest.mark.parametrize(
        ("option", "age", "fetches"),
        [(True, 10, 1), (True, 5, 0), (False, 10, 0), ("always", 5, 1), (lambda query: query.data == "set", 10, 1)],
        ids=["stale", "fresh", "off", "always", "callable"],
    )
    async def test_what_is_stale_is_fetched_or_always_or_never(self, name, option, age, fetches):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set", age=age)
            upstream = Upstream()
            options = {f"refetch_on_{'focus' if name == 'focus' else 'reconnect'}": option, "refetch_on_mount": False}
            with QueryObserver(client, KEY, upstream, stale_time=10, **options):
                came_back(client, name)
                await settled()
            assert upstream.calls == fetches

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_each_query_is_fetched_once_however_many_observe_it(self, name):
        async with QueryClient() as client:
            upstreams = [Upstream() for _ in range(3)]
            for _ in range(5):
                for n, upstream in enumerate(upstreams):
                    QueryObserver(client, (n,), upstream).subscribe(Results())
            await settled()
            came_back(client, name)
            await settled()
            assert [upstream.calls for upstream in upstreams] == [2, 2, 2]

    async def test_it_is_told_as_one_change(self):
        async with QueryClient() as client:
            results = Results()
            events = []
            for n in range(3):
                QueryObserver(client, (n,), Gate(), initial_data=n).subscribe(results)
            await settled()
            for query in client.cache:
                client.set_query_data(query.key, "old")
            results.clear()
            client.cache.subscribe(lambda event: events.append((event.query.key, str(event.cause))))
            came_back(client, "focus")
            assert events == [((n,), "fetch") for n in range(3)]
            assert results.of("fetch_status") == ["fetching"] * 3

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_a_running_fetch_is_joined(self, name):
        async with QueryClient() as client:
            gate = Gate()
            with QueryObserver(client, KEY, gate, network_mode="always", refetch_on_reconnect="always"):
                await settled()
                came_back(client, name)
                await settled()
                assert (gate.calls, gate.cancelled) == (1, 0)

    @pytest.mark.parametrize("name", SWITCHES)
    @pytest.mark.parametrize(
        "options",
        [{"enabled": False}, {"stale_time": "static"}, {"stale_time": math.inf}],
        ids=["off", "static", "inf"],
    )
    async def test_what_is_disabled_or_never_stale_is_left_alone(self, name, options):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, **options):
                came_back(client, name)
                await settled()
            assert upstream.calls == 0

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_unobserved_queries_are_left_alone(self, name):
        async with QueryClient() as client:
            upstream = Upstream()
            await client.query(KEY, upstream)
            came_back(client, name)
            await settled()
            assert upstream.calls == 1

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_a_rule_that_raises_is_reported_and_others_are_asked(self, name, reported):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            upstream = Upstream()
            option = {f"refetch_on_{'focus' if name == 'focus' else 'reconnect'}": lambda query: 1 / 0}
            with (
                QueryObserver(client, KEY, upstream, refetch_on_mount=False, **option),
                QueryObserver(client, KEY, upstream, refetch_on_mount=False),
            ):
                came_back(client, name)
                await settled()
            assert upstream.calls == 1
        assert exceptions(reported) == [ZeroDivisionError]

    async def test_a_rule_that_closes_another_observer_disturbs_nobody(self):
        async with QueryClient() as client:
            client.set_query_data(KEY, "set")
            upstream = Upstream()
            other = QueryObserver(client, KEY, upstream, refetch_on_mount=False, refetch_on_focus="always")
            with QueryObserver(client, KEY, upstream, stale_time=9, refetch_on_focus=lambda query: bool(other.close())):
                other.subscribe(Results())
                came_back(client, "focus")
                await settled()
            assert upstream.calls == 0

    async def test_by_default_a_query_that_does_not_need_the_network_is_not_fetched_on_reconnect(self):
        async with QueryClient() as client:
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream, network_mode="always") as observer:
                await settled()
                came_back(client, "online")
                await settled()
                assert upstream.calls == 1
                observer.set_options(KEY, upstream, network_mode="always", refetch_on_reconnect=True)
                came_back(client, "online")
                await settled()
            assert upstream.calls == 2

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_a_remembered_error_is_answer_enough(self, name):
        async with QueryClient() as client:
            upstream = Upstream(failures=9)
            with QueryObserver(client, KEY, upstream, retry=0, error_time=60):
                await settled()
                came_back(client, name)
                await settled()
                assert upstream.calls == 1
                await asyncio.sleep(60)
                came_back(client, name)
                await settled()
            assert upstream.calls == 2


class TestTheOrderOfComingBack:
    """`returned`: paused mutations first, then what observers want, each query once."""

    def mutate(self, client, order, seconds):
        async def change(variables):
            order.append("mutation")
            await asyncio.sleep(seconds)
            order.append("mutated")

        return client.mutate(change, None)

    def follow(self, client, order, **options):
        async def fetch():
            order.append("fetch")
            await asyncio.sleep(0)

        observer = QueryObserver(client, KEY, fetch, **options)
        observer.subscribe(Results())
        return observer

    async def test_paused_mutations_end_before_what_is_stale_is_fetched_once(self):
        async with QueryClient() as client:
            order = []
            self.follow(client, order)
            await settled()
            order.clear()
            client.online.set(False)
            first, second = self.mutate(client, order, 1), self.mutate(client, order, 2)
            await settled()
            client.online.set(True)
            came_back(client, "focus")
            await first
            await second
            await settled()
            assert order == ["mutation", "mutation", "mutated", "mutated", "fetch"]

    async def test_nothing_is_fetched_for_who_has_left_again_while_they_ended(self):
        async with QueryClient() as client:
            order = []
            self.follow(client, order, refetch_on_reconnect=False)
            await settled()
            order.clear()
            client.online.set(False)
            mutation = self.mutate(client, order, 5)
            await settled()
            client.online.set(True)
            came_back(client, "focus")
            client.focus.set(False)
            await mutation
            await settled()
            assert order == ["mutation", "mutated"]
            client.focus.set(True)
            await settled()
            assert order == ["mutation", "mutated", "fetch"]

    async def test_a_listener_that_switches_it_off_again_has_the_last_word(self):
        async with QueryClient() as client:
            heard = []

            def listen(online):
                heard.append(online)
                if online:
                    client.online.set(False)

            client.online.subscribe(listen)
            upstream = Upstream()
            with QueryObserver(client, KEY, upstream) as observer:
                await settled()
                came_back(client, "online")
                await settled()
                assert (heard, client.online.is_online) == ([False, True, False], False)
                assert not observer.result.is_fetching

    @pytest.mark.parametrize("name", SWITCHES)
    async def test_all_that_wait_go_on_at_once(self, name):
        async with QueryClient() as client:
            upstreams = [Upstream(failures=1) for _ in range(200)]
            for n, upstream in enumerate(upstreams):
                client.prefetch((n,), upstream, retry_delay=1)
            await settled()
            switch(client, name).set(False)
            await asyncio.sleep(2)
            assert len(client.core.presence._waiting) == 200
            switch(client, name).set(True)
            await settled()
            assert {upstream.calls for upstream in upstreams} == {2}
            assert client.core.presence._waiting == {}

    async def test_a_listener_that_closes_the_client_ends_it_all(self):
        client = QueryClient()
        closing = []
        client.online.subscribe(lambda online: closing.append(asyncio.ensure_future(client.aclose())))
        upstream = Upstream()
        QueryObserver(client, KEY, upstream).subscribe(Results())
        await settled()
        client.online.set(False)
        await closing[0]
        client.online.set(True)
        await settled()
        assert upstream.calls == 1


async def test_initial_data_that_a_caller_gives_is_told_to_who_observes_already():
    async with QueryClient() as client:
        results = Results()
        with QueryObserver(client, KEY).subscribe(results):
            assert await client.query(KEY, Upstream(), initial_data="first", stale_time=9) == "first"
        assert results.of("data") == ["first"]
