"""Everything at once, at random: queries, observers, mutations, invalidations, time and logouts (S1-S8).

The server keeps, for each key, the numbers of the mutations that have reached it. Data is what a fetch found there:
`v` grows with the time at which it began, `who` was logged in, `plus` are the mutations it saw.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from querykit import QueryCancelled, QueryClient, QueryObserver, use_identity
from querykit.filters import make_filters
from querykit.keys import freeze, starts_with
from querykit.state import UNSET
from tests.conftest import new_virtual_loop

LOGIN = ("login",)
KEYS = st.sampled_from([("a",), ("b", 1), ("b", True)])
PREFIXES = st.sampled_from([(), ("a",), ("b",), ("b", True)])
DELAYS = st.sampled_from([0, 1, 2, 2])
MOST = 2


class Planned(Exception):
    """What the model lets a function or a subscriber raise."""


class Follower:
    """An observer, and what it was told."""

    def __init__(self, model, key, fn, **options):
        self.model = model
        self.key = key
        self.stale_time = options["stale_time"]
        self.enabled = options["enabled"]
        self.observer = QueryObserver(model.client, key, fn, **options)
        self.before = self.observer.result
        self.told = []
        self.undo = self.observer.subscribe(self.tell)

    def tell(self, result):
        self.told.append(result)
        self.model.look(result.data if result.has_data else None, f"told of {self.key}")
        if len(self.told) % 5 == 0:
            raise Planned

    def leave(self):
        self.undo()


class ReactiveModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = new_virtual_loop()
        self.wrong = []
        self.loop.set_exception_handler(self.reported)
        self.client = QueryClient(max_entries=MOST, jitter=lambda longest: longest)
        self.clock = 0
        self.user = 0
        self.server = {}  # by the key's repr: (1,) equals (True,)
        self.invalidated = {}
        self.running = {}
        self.failed = set()
        self.pending = {}
        self.callers = []
        self.followers = []
        self.run(self.client.__aenter__())

    def reported(self, _, context):
        if not isinstance(context.get("exception"), Planned):
            self.wrong.append(context)

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def act(self, method, *args, **kwargs):
        return method(*args, **kwargs)

    def tick(self):
        self.clock += 1
        return self.clock

    def look(self, data, where):
        """S3: nothing of a former login is seen, wherever it is looked."""
        if data is not None and data["who"] != self.user:
            self.wrong.append((where, data, self.user))

    def fetcher(self, key, delay, fails):
        async def fetch():
            use_identity(LOGIN)
            began, who, plus = self.tick(), self.user, tuple(self.server.get(repr(key), ()))
            mine = object()
            self.running.setdefault(repr(key), {})[mine] = None
            try:
                await asyncio.sleep(delay)
            finally:
                del self.running[repr(key)][mine]
            if fails:
                raise Planned
            return {"v": began, "who": who, "plus": plus, "of": repr(key)}

        return fetch

    # What happens

    @rule(key=KEYS, delay=DELAYS, fails=st.sampled_from([False, False, True]), stale_time=st.sampled_from([0, 3, 1000]))
    def query(self, key, delay, fails, stale_time):
        async def ask():
            who, invalidated = self.user, self.invalidated.get(repr(key), 0)
            cancels = self.cancels
            try:
                data = await self.client.query(key, self.fetcher(key, delay, fails), stale_time=stale_time)
            except (Planned, QueryCancelled):
                return
            if who == self.user:
                self.look(data, f"answer of {key}")
            if data["v"] <= invalidated and cancels == self.cancels:  # S2: begun before the last invalidation
                self.wrong.append(("too old", key, data, invalidated))

        self.callers.append(self.loop.create_task(ask()))
        self.run(asyncio.sleep(0))

    cancels = 0  # who waits gets the data there is when a fetch is cancelled by hand

    @rule(at=st.integers(0, 9))
    def cancel_a_caller(self, at):
        if self.callers:
            self.callers.pop(at % len(self.callers)).cancel()
            self.run(asyncio.sleep(0))

    @rule(
        key=KEYS,
        delay=DELAYS,
        fails=st.booleans(),
        stale_time=st.sampled_from([0, 2, 1000]),
        enabled=st.booleans(),
        interval=st.sampled_from([None, 2]),
    )
    def observe(self, key, delay, fails, stale_time, enabled, interval):
        async def follow():
            options = {"stale_time": stale_time, "enabled": enabled, "refetch_interval": interval, "retry": 0}
            self.followers.append(Follower(self, key, self.fetcher(key, delay, fails), **options))

        self.run(follow())

    @rule(at=st.integers(0, 9), key=KEYS, delay=DELAYS, enabled=st.booleans())
    def switch(self, at, key, delay, enabled):
        if self.followers:
            follower = self.followers[at % len(self.followers)]
            follower.key, follower.enabled, follower.stale_time = key, enabled, 2
            options = {"stale_time": 2, "enabled": enabled, "retry": 0}
            self.run(self.act(follower.observer.set_options, key, self.fetcher(key, delay, False), **options))

    @rule(at=st.integers(0, 9))
    def refetch(self, at):
        if self.followers:
            self.run(self.act(self.followers[at % len(self.followers)].observer.refetch))

    @rule(at=st.integers(0, 9))
    def leave(self, at):
        if self.followers:
            self.run(self.act(self.followers.pop(at % len(self.followers)).leave))

    @rule(key=KEYS, delay=DELAYS, fails=st.booleans(), invalidates=st.booleans())
    def mutate(self, key, delay, fails, invalidates):
        number = self.tick()

        async def change(variables):
            use_identity(LOGIN)
            who = self.user
            await asyncio.sleep(delay)
            if fails:
                raise Planned
            if who == self.user:
                self.server.setdefault(repr(key), []).append(variables)
            return variables

        def ended(data, error, variables, ctx):
            self.pending.pop(variables, None)
            if error is not None:
                self.failed.add(variables)

        def add(data, variables):
            has = variables in data["plus"]
            return data if has else {**data, "plus": (*data["plus"], variables)}

        self.pending[number] = key
        self.run(
            self.act(
                self.client.mutate,
                change,
                number,
                on_settled=ended,
                optimistic=[(key, add)],
                invalidates=[key] if invalidates else [],
            )
        )

    @rule(key=KEYS)
    def set(self, key):
        data = {"v": self.tick(), "who": self.user, "plus": tuple(self.server.get(repr(key), ())), "of": repr(key)}
        self.run(self.act(self.client.set_query_data, key, data, identity=LOGIN))
        assert self.client.get_query_data(key)["v"] == data["v"]
        assert not self.client.get_query_state(key).is_invalidated

    @rule(prefix=PREFIXES, cancel=st.booleans(), kind=st.sampled_from(["active", "all", "none"]))
    def invalidate(self, prefix, cancel, kind):
        clock = self.tick()
        for query in self.concerned(prefix):
            self.invalidated[repr(query.key)] = clock
        self.run(self.act(self.client.invalidate_queries, prefix, cancel_refetch=cancel, refetch_type=kind))

    @rule(prefix=PREFIXES, method=st.sampled_from(["remove_queries", "reset_queries"]))
    def empty(self, prefix, method):
        self.run(self.act(getattr(self.client, method), prefix))

    @rule(prefix=PREFIXES, method=st.sampled_from(["cancel_queries", "refetch_queries"]))
    def cancel_or_refetch(self, prefix, method):
        self.cancels += 1
        self.run(self.act(getattr(self.client, method), prefix))
        if method == "cancel_queries":
            assert self.client.is_fetching(prefix) == 0

    @rule(restart=st.booleans())
    def log_out(self, restart):
        self.user = self.tick()
        self.server.clear()
        self.pending.clear()
        self.run(self.act(self.client.forget, LOGIN))
        self.nothing_old()
        if restart:
            self.run(self.act(self.client.forget, LOGIN, restart=True))

    @rule(which=st.sampled_from(["focus", "online"]), value=st.booleans())
    def be_there(self, which, value):
        self.run(self.act(getattr(self.client, which).set, value))

    @rule(prefix=PREFIXES)
    def batch(self, prefix):
        async def several():
            told = [len(follower.told) for follower in self.followers]
            with self.client.batch():
                self.client.invalidate_queries(prefix, refetch_type="none")
                for query in self.concerned(prefix):
                    self.invalidated[repr(query.key)] = self.tick()
                    if query.has_data:
                        self.client.set_query_data(query.key, lambda data: {**data, "v": self.tick()})
            for before, follower in zip(told, self.followers, strict=True):
                assert len(follower.told) <= before + 1

        self.run(several())

    @rule(seconds=st.sampled_from([0, 1, 1, 2, 400]))
    def wait(self, seconds):
        self.run(asyncio.sleep(seconds))

    # What must hold

    def concerned(self, prefix):
        return [query for query in self.client.cache if starts_with(query.frozen, freeze(prefix))]

    @invariant()
    def nothing_was_wrong(self):
        assert not self.wrong

    @invariant()
    def S1_one_flight_a_key(self):
        self.run(asyncio.sleep(0))
        assert all(len(running) <= 1 for running in self.running.values()), self.running

    @invariant()
    def S2_nothing_fresh_is_older_than_its_last_invalidation(self):
        for query in self.client.cache:
            if query.has_data and not query.is_invalidated:
                assert query.data["v"] > self.invalidated.get(repr(query.key), 0)

    @invariant()
    def nothing_old(self):
        """S3."""
        for query in self.client.cache:
            self.look(query.data if query.has_data else None, f"data of {query.key}")
        for follower in self.followers:
            result = follower.observer.result
            self.look(result.data if result.has_data else None, f"result of {follower.key}")
        assert not self.wrong

    @invariant()
    def S4_the_age_decides_what_is_stale(self):
        now = self.loop.time()
        for follower in self.followers:
            result = follower.observer.result
            fresh = result.has_data and not result.is_invalidated
            fresh = fresh and now - result.data_updated_at < follower.stale_time
            assert result.is_stale is (follower.enabled and not fresh)

    @invariant()
    def S5_true_and_1_are_keys_of_their_own(self):
        for query in self.client.cache:
            assert self.client.cache.find(query.key) is query
            if query.has_data:
                assert query.data["of"] == repr(query.key)
                assert self.client.get_query_data(query.key) is query.data

    @invariant()
    def S6_the_index_finds_what_a_scan_finds(self):
        for prefix in [(), ("b",), ("b", True)]:
            found = self.client.cache.match(make_filters(prefix, {}, unset=UNSET))
            assert set(found) == set(self.concerned(prefix))

    @invariant()
    def S7_what_nobody_uses_is_bounded(self):
        assert sum(not query.is_busy for query in self.client.cache) <= MOST

    @invariant()
    def S8_every_observer_was_told_the_result_there_is(self):
        for follower in self.followers:
            told = follower.told[-1] if follower.told else follower.before
            assert told is follower.observer.result
            assert all(one is not other for one, other in pairwise(follower.told))

    @invariant()
    def a_mutation_shows_until_it_has_failed_and_shows_once(self):
        for query in self.client.cache:
            if query.has_data:
                plus = query.data["plus"]
                assert len(set(plus)) == len(plus)
                assert not self.failed.intersection(plus)
                assert all(number in plus for number, key in self.pending.items() if repr(key) == repr(query.key))
                assert set(self.server.get(repr(query.key), ())) <= set(plus)  # it never vanishes to come back

    @invariant()
    def only_the_observed_is_watched(self):
        assert set(self.client.cache.observed) == {query for query in self.client.cache if query.observers}

    def teardown(self):
        for caller in self.callers:
            caller.cancel()
        self.run(self.client.aclose())
        self.run(asyncio.sleep(0))
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]
        self.loop.close()
        assert not left
        assert not timers
        assert not self.wrong


ReactiveModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestReactiveModel = ReactiveModel.TestCase
