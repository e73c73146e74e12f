"""Signals, and the rules that bind them to the cache (design section 5). The sender of each is the client.

Blinker's own `send` stops at the first receiver that raises, and at a coroutine function; `emit` does neither.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

from blinker import ANY, Signal

from querykit.callables import called
from querykit.events import Subscription
from querykit.identity import outside
from querykit.keys import QueryKey, check_key

__all__ = [
    "Rule",
    "auth_failed",
    "bind_auth",
    "emit",
    "logged_out",
    "query_added",
    "query_removed",
    "query_updated",
    "reload_requested",
    "token_cleared",
    "token_set",
]

token_set: Final = Signal("A cluster's token was set. Sent with cluster=.")
token_cleared: Final = Signal("A cluster's token was cleared. Sent with cluster=.")
logged_out: Final = Signal("A cluster was logged out of. Sent with cluster=.")
reload_requested: Final = Signal("The backend asks its front end to load itself anew. Sent with cluster=, url=.")
auth_failed: Final = Signal("A request was answered with 401. Sent with cluster=, error=.")
query_added: Final = Signal("A query came into the cache. Sent with event=.")
query_updated: Final = Signal("A query changed. Sent with event=.")
query_removed: Final = Signal("A query left the cache. Sent with event=.")

OWN_SIGNALS: Final = (
    token_set, token_cleared, logged_out, reload_requested, auth_failed, query_added, query_updated, query_removed,
)  # fmt: skip
"""The signals whose sender is the client they concern."""

Rule: TypeAlias = QueryKey | Callable[..., QueryKey | None]
"""A key, or a callable of the keyword arguments that were sent; one that returns None does nothing."""


class Sender(Protocol):
    """What `emit` needs of a client."""

    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that has no caller."""
        ...

    def own(self, coro: Coroutine[Any, Any, Any], name: str) -> object:
        """Run a coroutine in a task that the client owns."""
        ...


class RuleClient(Sender, Protocol):
    """What rules need of a client."""

    def on(self, signal: Signal, *, invalidate: Rule = ..., remove: Rule = ..., exact: bool = False) -> Subscription:
        """See `QueryClient.on`."""
        ...

    def invalidate_queries(self, key: QueryKey, *, exact: bool = False) -> Awaitable[None]:
        """See `QueryClient.invalidate_queries`."""
        ...

    def remove_queries(self, key: QueryKey, *, exact: bool = False) -> Awaitable[None]:
        """See `QueryClient.remove_queries`."""
        ...


def emit(signal: Signal, client: Sender, **arguments: Any) -> None:
    """Send a signal from `client`: every receiver hears it, before this returns.

    One that raises is reported and stops no other; an async one runs in a task that the client owns.
    All run outside of every query function that may be running.

    Args:
        signal: one of this module's signals, or any other.
        client: the sender.
        arguments: what the receivers get as keyword arguments.

    Example:
        >>> from querykit.client import QueryClient
        >>> client = QueryClient()
        >>> hear = lambda sender, cluster: print("token set for", cluster)
        >>> with token_set.connected_to(hear, sender=client):
        ...     emit(token_set, client, cluster="prod")
        token set for prod
    """
    if signal.receivers and not signal.is_muted:
        for receiver in list(signal.receivers_for(client)):
            outside(_call, receiver, client, arguments)


def _call(receiver: Callable[..., object], client: Sender, arguments: Mapping[str, Any]) -> None:
    name = called(receiver)
    try:
        result = receiver(client, **arguments)
        if inspect.iscoroutine(result):
            client.own(cast("Coroutine[Any, Any, Any]", result), f"querykit signal receiver {name}")
    except (Exception, asyncio.CancelledError) as error:
        client.report(f"the signal receiver {name} raised {type(error).__name__}", error)


def bind(
    client: RuleClient,
    signal: Signal,
    invalidate: Rule | None,
    remove: Rule | None,
    *,
    exact: bool,
    sender: object,
) -> Subscription:
    """Connect a rule; see `QueryClient.on`."""
    if (invalidate is None) == (remove is None):
        raise TypeError("a rule needs either invalidate= or remove=")
    rule = remove if invalidate is None else invalidate
    act: Callable[..., object] = client.remove_queries if invalidate is None else client.invalidate_queries
    if not callable(rule):
        check_key(rule, "rule's key")

    def apply(arguments: Mapping[str, Any]) -> None:
        try:
            key = rule(**arguments) if callable(rule) else rule
            if key is not None:
                act(key, exact=exact)
        except (Exception, asyncio.CancelledError) as error:
            client.report(f"the rule {called(rule)} raised {type(error).__name__}", error)

    def receive(sender: object, **arguments: Any) -> None:
        del sender
        outside(apply, arguments)

    # What is returned holds `receive`, and the signal does not: a client that is dropped takes its rules with it.
    signal.connect(receive, sender=sender)
    # Not for this sender alone: blinker would go on to count it among its receivers.
    return Subscription(lambda: signal.disconnect(receive))


def bind_auth(client: RuleClient) -> Subscription:
    """Bind the rules that a login brings to the cache of `client`; returns what undoes them all.

    A set token invalidates exactly `("clusterMe", cluster)`, a cleared one removes it, a logout removes it and
    all of `("auth",)`. S3 does not depend on them: whoever changes a credential calls `client.forget` itself.
    """

    def cluster_me(cluster: str, **_: object) -> QueryKey:
        return ("clusterMe", cluster)

    undo = [
        client.on(token_set, invalidate=cluster_me, exact=True),
        client.on(token_cleared, remove=cluster_me, exact=True),
        client.on(logged_out, remove=("auth",)),
        client.on(logged_out, remove=cluster_me, exact=True),
    ]

    def unbind() -> None:
        for one in undo:
            one()

    return Subscription(unbind)


class SignalRelay:
    """Passes cache events on as signals; it costs nothing while nobody listens."""

    def __init__(self, client: Sender) -> None:
        self._client = client

    def wanted(self) -> bool:
        """Whether anybody listens to any of them."""
        return bool(query_updated.receivers or query_added.receivers or query_removed.receivers)

    def relay(self, event: Any) -> None:
        """Send the signal of an event's kind."""
        signals = {"added": query_added, "updated": query_updated, "removed": query_removed}
        emit(signals[event.kind], self._client, event=event)


def default_sender(signal: Signal, client: object) -> object:
    """Return whom a rule hears: its own client for querykit's signals, everybody for others."""
    return client if signal in OWN_SIGNALS else ANY
