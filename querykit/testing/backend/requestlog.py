"""The requests that came in over the wire, so that a test can count them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

__all__ = ["SECRET_HEADERS", "RequestFilter", "RequestLog", "RequestRecord"]

SECRET_HEADERS = frozenset(
    {
        "authorization",
        "cookie",
        "kubeconfig",
        "proxy-authorization",
        # Carries bearer and backend tokens of WebSocket clients.
        "sec-websocket-protocol",
        "x-backstage-token",
        "x-headlamp_backend-token",
    }
)


class RequestRecord(msgspec.Struct):
    """One request: what was asked, and how it was answered."""

    method: str
    path: str
    query: str
    """The query as it was sent, without the `?`."""
    cluster: str | None
    header_names: list[str]
    """The names of all headers, in lower case and in the order they came."""
    headers: dict[str, str]
    """The values of those that hold no secret, by their names in lower case."""
    status: int | None = None
    """None while it is being answered, and when it never was."""


class RequestFilter(msgspec.Struct, frozen=True):
    """Which requests are meant: each field that is not None must be equal."""

    method: str | None = None
    path: str | None = None
    cluster: str | None = None

    def matches(self, record: RequestRecord) -> bool:
        """Whether the request is one of those."""
        return (
            self.method in (None, record.method)
            and self.path in (None, record.path)
            and self.cluster in (None, record.cluster)
        )


class RequestLog:
    """All requests since the start or the last reset."""

    def __init__(self) -> None:
        self._records: list[RequestRecord] = []
        self._came = asyncio.Event()

    def receive(
        self, method: str, path: str, query: str, cluster: str | None, headers: Mapping[str, str]
    ) -> RequestRecord:
        """Write a request down as it comes; its `status` is filled in later."""
        names = [name.lower() for name in headers]
        values = {name: headers[name] for name in names if name not in SECRET_HEADERS}
        record = RequestRecord(method, path, query, cluster, names, values)
        self._records.append(record)
        self._came.set()
        return record

    def find(self, wanted: RequestFilter) -> list[RequestRecord]:
        """The requests that match, in the order they came."""
        return [record for record in self._records if wanted.matches(record)]

    async def wait(self, count: int, wanted: RequestFilter) -> list[RequestRecord]:
        """As `find`, but not before `count` of them have come."""
        while len(found := self.find(wanted)) < count:
            self._came.clear()
            await self._came.wait()
        return found

    def reset(self) -> None:
        """Forget all requests."""
        self._records.clear()
