"""Live sources at random: wanted and not, pushing, ending, failing, forgotten, in every order (S1-S8)."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from querykit import QueryCancelled, QueryClient, QueryObserver, QueryTimeout, live, skip, use_identity
from tests.conftest import new_virtual_loop
from tests.fetches import settled

LOGIN = ("login",)
KEYS = st.sampled_from([("a",), ("b",)])
PREFIXES = st.sampled_from([(), ("a",)])
KINDS = st.sampled_from(["live", "live", "live", "later", "nobody's", "stubborn", "skip", "plain"])
FAILURES = {"end": None, "fail": LookupError, "lose": ConnectionError, "cancel": asyncio.CancelledError}


class LiveModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.loop = new_virtual_loop()
        self.wrong = []
        self.loop.set_exception_handler(lambda _, context: self.wrong.append(context))
        self.client = QueryClient(max_entries=1, jitter=lambda longest: longest, close_timeout=1)
        self.clock = self.user = 0
        self.open = {}  # by key: the queues of the sources that run
        self.followers = {}
        self.callers = []
        self.run(self.client.__aenter__())

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def act(self, method, *args, **kwargs):
        async def acting():
            method(*args, **kwargs)
            await settled()

        self.run(acting())

    def tick(self):
        self.clock += 1
        return self.clock

    def look(self, data, where):
        if data is not None and data["who"] not in (None, self.user):
            self.wrong.append((where, data, self.user))

    def value(self, kind):
        return {"n": self.tick(), "who": None if kind == "nobody's" else self.user, "plus": ()}

    def source(self, key, kind):
        async def values():
            queue = asyncio.Queue()
            running = self.open.setdefault(key, {})
            running[queue] = None
            if kind != "nobody's":
                use_identity(LOGIN)
            try:
                if kind != "later":
                    yield self.value(kind)
                while True:
                    try:
                        command = await queue.get()
                    except asyncio.CancelledError:
                        if kind == "stubborn":
                            yield {"n": 0, "who": "nobody", "plus": ()}
                        raise
                    if command == "end":
                        return
                    if command in FAILURES:
                        raise FAILURES[command](None if kind == "nobody's" else self.user)
                    if command == "update":
                        yield lambda data: {**data, "n": self.tick()}
                    else:
                        yield self.value(kind)
            finally:
                del running[queue]

        return {"skip": skip, "plain": lambda: self.plain()}.get(kind) or live(values, grace=5)

    def plain(self):
        use_identity(LOGIN)
        return self.value("plain")

    # What happens

    @rule(
        key=KEYS, kind=KINDS, enabled=st.sampled_from([True, True, False]), interval=st.sampled_from([None, None, 20])
    )
    def observe(self, key, kind, enabled, interval):
        async def follow():
            observer = QueryObserver(
                self.client, key, self.source(key, kind), enabled=enabled, retry=1, refetch_interval=interval
            )
            told = [observer.result]

            def tell(result):
                told.append(result)
                self.look(result.data, f"told of {key}")

            self.followers[observer] = told
            observer.subscribe(tell)
            await settled()

        self.run(follow())

    @rule(at=st.integers(0, 9), key=KEYS, kind=KINDS, enabled=st.booleans())
    def switch(self, at, key, kind, enabled):
        if self.followers:
            observer = list(self.followers)[at % len(self.followers)]
            self.act(observer.set_options, key, self.source(key, kind), enabled=enabled)

    @rule(at=st.integers(0, 9))
    def leave(self, at):
        if self.followers:
            observer = list(self.followers)[at % len(self.followers)]
            del self.followers[observer]
            self.act(observer.close)

    @rule(key=KEYS, command=st.sampled_from(["push", "push", "push", "update", *FAILURES]))
    def tell_source(self, key, command):
        for queue in tuple(self.open.get(key, ())):
            queue.put_nowait(command)
        self.run(settled())

    @rule(key=KEYS, kind=KINDS, timeout=st.sampled_from([None, 1]))
    def query(self, key, kind, timeout):
        async def ask():
            user = self.user
            try:
                data = await self.client.query(key, self.source(key, kind), timeout=timeout, retry=0)
            except (QueryCancelled, QueryTimeout, LookupError, ConnectionError):
                return
            if user == self.user:
                self.look(data, f"answer of {key}")

        if kind != "skip":
            self.callers.append(self.loop.create_task(ask()))
            self.run(settled())

    @rule(at=st.integers(0, 9))
    def cancel_a_caller(self, at):
        if self.callers:
            self.act(self.callers.pop(at % len(self.callers)).cancel)

    @rule(key=KEYS, seconds=st.sampled_from([0, 2]), fails=st.booleans())
    def mutate(self, key, seconds, fails):
        async def change(variables):
            await asyncio.sleep(seconds)
            if fails:
                raise LookupError

        def add(data, variables):
            return {**data, "plus": (*data["plus"], variables)}

        self.act(self.client.mutate, change, self.tick(), optimistic=[(key, add)])

    @rule(prefix=PREFIXES, cancel=st.booleans(), kind=st.sampled_from(["active", "all", "none"]))
    def invalidate(self, prefix, cancel, kind):
        self.act(self.client.invalidate_queries, prefix, cancel_refetch=cancel, refetch_type=kind)

    @rule(
        prefix=PREFIXES,
        method=st.sampled_from(["remove_queries", "reset_queries", "cancel_queries", "refetch_queries"]),
    )
    def do(self, prefix, method):
        self.act(getattr(self.client, method), prefix)

    @rule(key=KEYS)
    def set(self, key):
        self.act(self.client.set_query_data, key, self.value("set"), identity=LOGIN)

    @rule(restart=st.booleans())
    def log_out(self, restart):
        self.user = self.tick()
        self.act(self.client.forget, LOGIN)
        if restart:
            self.act(self.client.forget, LOGIN, restart=True)

    @rule(which=st.sampled_from(["focus", "online"]), value=st.booleans())
    def be_there(self, which, value):
        self.act(getattr(self.client, which).set, value)

    @rule(seconds=st.sampled_from([1, 6, 40, 400]))
    def wait(self, seconds):
        self.run(asyncio.sleep(seconds))
        self.run(settled())

    # What must hold

    @invariant()
    def nothing_was_wrong(self):
        assert not self.wrong

    @invariant()
    def S1_one_source_a_key_and_only_where_it_is_wanted(self):
        for key in (("a",), ("b",)):
            query = self.client.cache.find(key)
            assert len(self.open.get(key, ())) == (query is not None and query.run is not None)

    @invariant()
    def nothing_old(self):
        """S3."""
        for query in self.client.cache:
            self.look(query.data if query.has_data else None, f"data of {query.key}")
            state = query.live_state
            if state is not None and isinstance(state.error, LookupError):
                assert state.error.args[0] in (None, self.user)
        for observer in self.followers:
            self.look(observer.result.data, "result")
        assert not self.wrong

    @invariant()
    def its_phase_is_true(self):
        for query in self.client.cache:
            state, run = query.live_state, query.run
            if run is not None:
                assert run.is_connected == query.is_live
                assert not run.is_connected or state.phase in ("live", "stale")
            elif state is not None and query.flight is None:
                assert state.phase in ("stopped", "retrying")
                assert (state.phase == "retrying") is (query._reminder is not None)
            if query.parked:
                assert run is None
                assert query.flight is None

    @invariant()
    def what_is_live_is_fresh(self):
        for observer in self.followers:
            result = observer.result
            if result.live is not None and result.live.phase == "live":
                assert not result.is_stale

    @invariant()
    def S7_what_nobody_uses_is_bounded(self):
        assert sum(not query.is_busy for query in self.client.cache) <= 1
        for query in self.client.cache:
            assert query.layers is None or query.is_live or query.flight or self.client.is_mutating()

    @invariant()
    def S8_every_observer_was_told_the_result_there_is(self):
        for observer, told in self.followers.items():
            assert told[-1] is observer.result

    def teardown(self):
        for caller in self.callers:
            caller.cancel()
        self.run(self.client.aclose())
        self.run(settled())
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]
        self.loop.close()
        assert not left
        assert not timers
        assert not any(self.open.values())
        assert not self.client.cache.ledger._holders
        assert not self.wrong


LiveModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLiveModel = LiveModel.TestCase
