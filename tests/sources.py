"""What tests of live queries share: a source driven by hand, and who follows it."""

from __future__ import annotations

import asyncio

from querykit import QueryObserver, live, use_identity
from tests.fetches import settled

KEY = ("pods", "prod")
A = ("cluster", "prod")


class Watch:
    """A source driven by hand: each run yields what is put, ends at None and raises what is an exception."""

    def __init__(self, *first, identity=None):
        self.first = first
        self.identity = identity
        self.opened = 0
        self.closed = 0
        self.values = asyncio.Queue()

    async def __call__(self):
        self.opened += 1
        self.values = asyncio.Queue()
        values = self.values
        if self.identity is not None:
            use_identity(self.identity)
        try:
            for value in self.first:
                yield value
            while True:
                value = await values.get()
                if value is None:
                    return
                if isinstance(value, Exception):
                    raise value
                yield value
        finally:
            self.closed += 1

    async def push(self, value):
        self.values.put_nowait(value)
        await settled()


def observed(client, watch, *, told=None, grace=5, **options):
    observer = QueryObserver(client, KEY, live(watch, grace=grace), **options)
    observer.subscribe(lambda result: None if told is None else told.append(result))
    return observer


def phase(client):
    return client.cache.find(KEY).live_state.phase
