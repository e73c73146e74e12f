"""A model of the cache, driven at random: what must hold after every step (S1, S2, S4, S7)."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from querykit import QueryCancelled, QueryClient
from tests.conftest import new_virtual_loop

KEYS = st.sampled_from([("a",), ("b", 1), ("b", True), ("b", 2), ("b", 2, "deep")])
PREFIXES = st.sampled_from([(), ("a",), ("b",), ("b", 2), ("c",)])
MOST = 2


class CacheModel(RuleBasedStateMachine):
    """Data is a number that grows with the time at which its fetch began, or at which it was set."""

    def __init__(self):
        super().__init__()
        self.loop = new_virtual_loop()
        self.errors = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.client = QueryClient(max_entries=MOST, jitter=lambda longest: longest)
        self.clock = 0
        self.invalidated = {}  # the clock of the last invalidation, by the key's repr: (1,) equals (True,)
        self.newest = {}  # the newest data that was ever seen, by key, since the key was last emptied
        self.callers = []
        self.observations = []
        self.run(self.client.__aenter__())

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def act(self, method, *args, **kwargs):
        getattr(self.client, method)(*args, **kwargs)

    def tick(self):
        self.clock += 1
        return self.clock

    def concerned(self, prefix):
        return [
            query.key
            for query in self.client.cache
            if query.key[: len(prefix)] == prefix
            and not (any(type(mine) is not type(theirs) for mine, theirs in zip(query.key, prefix, strict=False)))
        ]

    def fetcher(self, key, delay, fails):
        async def fetch():
            began = self.tick()
            try:
                await asyncio.sleep(delay)
            except asyncio.CancelledError:
                raise
            if fails:
                raise LookupError(began)
            return began

        return fetch

    @rule(key=KEYS, delay=st.integers(0, 5), fails=st.booleans(), stale_time=st.sampled_from([0, 3, 1000]))
    def query(self, key, delay, fails, stale_time):
        async def ask():
            asked = self.clock
            invalidated = self.invalidated.get(repr(key), 0)
            try:
                answer = await self.client.query(key, self.fetcher(key, delay, fails), stale_time=stale_time)
            except (LookupError, QueryCancelled):
                return
            if answer <= invalidated:  # S2: begun before the last invalidation before the call
                self.errors.append(("too old", key, answer, invalidated, asked))

        self.callers.append(self.loop.create_task(ask()))
        self.run(asyncio.sleep(0))

    @rule(at=st.integers(0, 9))
    def cancel_a_caller(self, at):
        if self.callers:
            self.callers.pop(at % len(self.callers)).cancel()
            self.run(asyncio.sleep(0))

    @rule(key=KEYS)
    def set(self, key):
        value = self.tick()
        self.run(self.act("set_query_data", key, value))
        assert self.client.get_query_data(key) == value
        assert not self.client.get_query_state(key).is_invalidated

    @rule(prefix=PREFIXES, cancel=st.booleans(), kind=st.sampled_from(["active", "all", "none"]))
    def invalidate(self, prefix, cancel, kind):
        clock = self.tick()
        keys = self.concerned(prefix)
        self.run(self.act("invalidate_queries", prefix, cancel_refetch=cancel, refetch_type=kind))
        for key in keys:
            self.invalidated[repr(key)] = clock

    @rule(prefix=PREFIXES, method=st.sampled_from(["remove_queries", "reset_queries", "clear"]))
    def empty(self, prefix, method):
        prefix = () if method == "clear" else prefix
        for key in self.concerned(prefix):
            self.newest.pop(repr(key), None)
        self.run(self.act(method, *([] if method == "clear" else [prefix])))

    @rule(prefix=PREFIXES, method=st.sampled_from(["cancel_queries", "refetch_queries"]))
    def cancel_or_refetch(self, prefix, method):
        self.run(self.act(method, prefix))
        if method == "cancel_queries":
            assert self.client.is_fetching(prefix) == 0

    @rule(key=KEYS, delay=st.integers(0, 5))
    def observe(self, key, delay):
        async def watch():
            observation = self.client.observe(key, self.fetcher(key, delay, False), stale_time=3)
            await observation.__aenter__()
            self.observations.append(observation)

        self.run(watch())

    @rule(at=st.integers(0, 9))
    def stop_observing(self, at):
        if self.observations:
            self.run(self.close(self.observations.pop(at % len(self.observations))))

    async def close(self, observation):
        observation.close()

    @rule(seconds=st.sampled_from([0, 1, 2, 10, 400]))
    def time_passes(self, seconds):
        self.run(asyncio.sleep(seconds))

    @invariant()
    def s1_one_flight_for_each_key_that_fetches(self):
        flights = [task for task in asyncio.all_tasks(self.loop) if "querykit fetch" in task.get_name()]
        counted = [task for task in flights if not task.cancelling()]
        assert len(counted) == self.client.is_fetching()

    @invariant()
    def s2_data_only_grows_and_is_fresh_only_if_newer_than_its_invalidation(self):
        for query in self.client.cache:
            if query.has_data:
                assert query.data >= self.newest.get(repr(query.key), 0)
                self.newest[repr(query.key)] = query.data
                if not query.is_invalidated:
                    assert query.data > self.invalidated.get(repr(query.key), 0)

    @invariant()
    def s4_freshness_is_the_age_of_valid_data(self):
        now = self.loop.time()
        for query in self.client.cache:
            for limit in (0, 3, 1000):
                fresh = query.has_data and not query.is_invalidated and now - query.updated_at < limit
                assert query.is_fresh(limit, now) is fresh

    @invariant()
    def s7_what_nobody_uses_is_bounded_and_will_go(self):
        idle = [query for query in self.client.cache if not query.is_busy]
        assert all(query.rests for query in idle)
        assert len(idle) <= MOST
        assert all(not query.rests for query in self.client.cache if query.is_busy)

    @invariant()
    def what_is_gone_may_come_again_older(self):
        keys = {repr(query.key) for query in self.client.cache}
        self.newest = {key: data for key, data in self.newest.items() if key in keys}

    @invariant()
    def nothing_was_reported(self):
        assert not self.errors

    def teardown(self):
        self.run(self.client.aclose())
        for caller in self.callers:
            caller.cancel()
        self.run(asyncio.sleep(1))
        assert not asyncio.all_tasks(self.loop)
        assert not self.errors
        assert len(self.client.cache) == 0
        self.loop.close()


TestCacheModel = CacheModel.TestCase
TestCacheModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
