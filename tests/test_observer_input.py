"""Bad input to an observer: each wrong option is refused where it is given, with its value and what to do instead."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta

import pytest

from querykit import MutationObserver, QueryClient, QueryObserver, query_options
from tests.fetches import Upstream, settled
from tests.observing import Results

pytestmark = pytest.mark.virtual_time

KEY = ("pods", "prod")

WRONG = [
    ("enabled", 1, TypeError, "enabled is True or False, not 1"),
    ("enabled", None, TypeError, "enabled is True or False, not None"),
    ("stale_time", "soon", ValueError, "stale_time is a number of seconds, a timedelta,"),
    ("stale_time", -1, ValueError, "stale_time is 0 or more seconds, not -1"),
    ("stale_time", math.nan, ValueError, "stale_time is 0 or more seconds, not nan"),
    ("stale_time", None, TypeError, "stale_time is a number of seconds or a timedelta, not None"),
    ("stale_time", True, TypeError, "stale_time is a number of seconds or a timedelta, not True"),
    ("refetch_interval", -1, ValueError, "refetch_interval is 0 or more seconds, not -1"),
    ("refetch_interval", 0, ValueError, "refetch_interval is more than 0 seconds, or None for none, not 0"),
    ("refetch_interval", timedelta(0), ValueError, "refetch_interval is more than 0 seconds"),
    ("refetch_interval", timedelta(seconds=-1), ValueError, "refetch_interval is 0 or more seconds"),
    ("refetch_interval", math.nan, ValueError, "refetch_interval is 0 or more seconds, not nan"),
    ("refetch_interval", True, TypeError, "refetch_interval is a number of seconds or a timedelta, not True"),
    ("refetch_interval", "1s", TypeError, "refetch_interval is a number of seconds or a timedelta, not '1s'"),
    ("refetch_interval_in_background", "yes", TypeError, "refetch_interval_in_background is True or False"),
    ("refetch_on_mount", "never", ValueError, 'refetch_on_mount is True, False, "always" or a callable'),
    ("refetch_on_mount", 1, TypeError, "refetch_on_mount is True or False, not 1"),
    ("refetch_on_focus", "Always", ValueError, 'refetch_on_focus is True, False, "always" or a callable'),
    ("refetch_on_focus", None, TypeError, "refetch_on_focus is True or False, not None"),
    ("refetch_on_reconnect", "sometimes", ValueError, 'refetch_on_reconnect is True, False, "always" or a callable'),
    ("refetch_on_reconnect", 0, TypeError, "refetch_on_reconnect is True or False, not 0"),
    ("retry_on_mount", "always", TypeError, "retry_on_mount is True or False, not 'always'"),
    ("network_mode", "offlineFirst", ValueError, 'network_mode is "online" or "always", not \'offlineFirst\''),
    ("network_mode", [], ValueError, 'network_mode is "online" or "always"'),
    ("notify_on", "data", TypeError, "notify_on is a list of field names or a callable"),
    ("notify_on", 1, TypeError, "notify_on is a list of field names or a callable"),
    ("notify_on", [1], TypeError, "notify_on is a list of names of fields of the result, not"),
    ("structural_sharing", 1, TypeError, "structural_sharing is True or False, not 1"),
    ("initial_data_age", -1, ValueError, "initial_data_age is 0 or more seconds, not -1"),
    ("meta", [], TypeError, "meta is a mapping"),
    ("staletime", 1, TypeError, "unknown query option 'staletime'; did you mean 'stale_time'?"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), WRONG, ids=[f"{n}={v!r}" for n, v, *_ in WRONG])
async def test_a_wrong_option_is_refused_where_it_is_given(name, value, error, message):
    async with QueryClient() as client:
        for make in (QueryObserver, QueryClient.observe):
            with pytest.raises(error) as caught:
                make(client, KEY, **{name: value})
            assert str(caught.value).startswith(message)
        with pytest.raises(error):
            query_options(KEY, lambda: 1, **{name: value})
        with pytest.raises(error):
            QueryClient(default_options={"queries": {name: value}})
        assert len(client.cache) == 0


@pytest.mark.parametrize("name", ["dat", "is_loaded", "__class__", "_x", ""])
async def test_a_name_in_notify_on_that_is_no_field_of_the_result_is_refused_when_the_observer_is_made(name):
    async with QueryClient() as client:
        with pytest.raises(ValueError, match=r"^notify_on: a QueryResult has no field"):
            QueryObserver(client, KEY, notify_on=["data", name])
        with pytest.raises(ValueError, match="has no field"):
            client.observe(KEY, notify_on=[name])
        client.set_query_defaults(KEY, notify_on=[name])
        with pytest.raises(ValueError, match="has no field"):
            QueryObserver(client, KEY)


@pytest.mark.parametrize("key", ["pods", ["pods"], None, 1, (object.__new__(type("Opaque", (), {"__hash__": None})),)])
async def test_a_wrong_key_is_refused(key):
    async with QueryClient() as client:
        for make in (QueryObserver, QueryClient.observe):
            with pytest.raises(TypeError):
                make(client, key)


async def test_the_result_of_a_function_in_place_of_the_function_is_refused():
    async with QueryClient() as client:
        with pytest.raises(TypeError, match="pass the function itself, not its result"):
            QueryObserver(client, KEY, 1)


async def test_a_function_of_two_arguments_is_refused_at_the_first_subscription():
    async with QueryClient() as client:
        observer = QueryObserver(client, KEY, lambda a, b: 1)
        with pytest.raises(TypeError, match="takes no argument or one QueryContext"):
            observer.subscribe(Results())
        assert len(client.cache) == 0


async def test_a_second_function_beside_an_options_value_is_refused():
    async with QueryClient() as client:
        with pytest.raises(TypeError, match=r"pass options\.key to use another"):
            QueryObserver(client, query_options(KEY, lambda: 1), lambda: 2)


@pytest.mark.parametrize("timeout", [-1, "1", True, math.nan], ids=str)
async def test_a_wrong_timeout_of_wait_for_is_refused_and_leaves_nothing(timeout):
    async with QueryClient() as client:
        with pytest.raises((TypeError, ValueError), match=r"^timeout is "):
            await client.wait_for(KEY, lambda result: True, timeout=timeout)
        assert not client.cache.find(KEY).observers


async def test_select_takes_a_callable():
    with pytest.raises(TypeError, match="select takes a callable of the data, not 1"):
        query_options(KEY, lambda: 1).select(1)


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
async def test_every_rule_at_once_may_raise_and_the_cache_is_intact(error, reported):
    async with QueryClient() as client:

        def broken(*arguments):
            raise error("broken")

        upstream = Upstream()
        names = ["enabled", "stale_time", "refetch_interval", "refetch_on_mount", "refetch_on_focus", "notify_on"]
        options = dict.fromkeys([*names, "refetch_on_reconnect", "placeholder_data"], broken)
        observer = QueryObserver(client, query_options(KEY, upstream, **options).select(broken))
        with observer.subscribe(broken), observer.subscribe(Results()):
            client.set_query_data(KEY, 1)
            client.focus.set(False)
            client.focus.set(True)
            client.online.set(False)
            client.online.set(True)
            await client.invalidate_queries(KEY)
            await settled()
            assert (observer.result.status, observer.result.is_enabled) == ("error", False)
            assert client.get_query_state(KEY).status == "success"
            assert upstream.calls == 0
        assert {type(each["exception"]) for each in reported.take()} == {error}


@pytest.mark.parametrize("make", [QueryObserver, MutationObserver], ids=["query", "mutation"])
def test_what_is_no_client_is_refused(make):
    with pytest.raises(TypeError, match="first argument is a QueryClient, not"):
        make(("pods",), lambda: 1)


def test_who_looks_is_set_and_not_replaced():
    client = QueryClient()
    for name in ("focus", "online"):
        with pytest.raises(AttributeError):
            setattr(client, name, False)


def test_options_in_place_of_a_key_are_told_to_write_their_key():
    options = query_options(("pods",), lambda: 1)
    with pytest.raises(TypeError, match=r"write its \.key"):
        QueryClient().invalidate_queries(options)


async def test_an_async_generator_function_is_told_of_streamed_and_live():
    async def words():
        yield "to"

    async with QueryClient() as client:
        with pytest.raises(TypeError, match="`streamed` or `live`"):
            await client.query(("words",), words, retry=0)
