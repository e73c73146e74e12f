"""What the tests of S3 share: two identities, query functions that use them, and a look at who used what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

from querykit import QueryClient, use_identity

A, B = ("cluster", "a"), ("cluster", "b")


def names_of(client: QueryClient, key: tuple[object, ...]) -> dict[Hashable, int]:
    """The identities of an entry, each with the epoch of its first use."""
    query = client.cache.find(key)
    return {} if query is None else dict(query.identities)


def returns(value: Any, *identities: Hashable) -> Callable[[], Any]:
    """A query function that uses credentials and returns a value."""

    async def fn() -> Any:
        for identity in identities:
            use_identity(identity)
        await asyncio.sleep(0)
        return value

    return fn


async def raises(*identities: Hashable) -> Any:
    for identity in identities:
        use_identity(identity)
    raise ValueError(f"refused to {identities}")


async def until_settled(results: Any) -> AsyncIterator[Any]:
    """The results up to the first that is not pending."""
    async for result in results:
        yield result
        if not result.is_pending:
            return


class Held:
    """A query function that uses identities, and then waits to be let go on."""

    def __init__(self, *identities: Hashable, value: Any = "value"):
        self.identities = identities
        self.value = value
        self.used = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> Any:
        for identity in self.identities:
            use_identity(identity)
        self.used.set()
        await self.go_on.wait()
        return self.value
