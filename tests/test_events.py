"""Telling others: subscriptions, and delivery in order (S8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from querykit.events import Delivery, Listeners, Subscription
from querykit.identity import Ledger, Record, recording


class Bench:
    """A delivery with one kind of listeners, and what was heard and reported."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, BaseException]] = []
        self.heard: list[Any] = []
        self.listeners: Listeners[str] = Listeners()
        self.delivery = Delivery(lambda message, error: self.reports.append((message, error)))

    def post(self, event: str) -> None:
        self.delivery.post(self.listeners, event, f"told of {event}")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_listener_hears_every_event_in_the_order_of_subscription(bench):
    bench.listeners.subscribe(lambda event: bench.heard.append(("one", event)))
    bench.listeners.subscribe(lambda event: bench.heard.append(("two", event)))
    bench.post("a")
    bench.post("b")
    assert bench.heard == [("one", "a"), ("two", "a"), ("one", "b"), ("two", "b")]


def test_the_same_callback_may_subscribe_twice_and_leaves_once_at_a_time(bench):
    first = bench.listeners.subscribe(bench.heard.append)
    bench.listeners.subscribe(bench.heard.append)
    first()
    first()
    bench.post("a")
    assert bench.heard == ["a"]
    assert len(bench.listeners) == 1


def test_a_subscription_is_undone_by_calling_it_or_leaving_its_block(bench):
    with bench.listeners.subscribe(bench.heard.append) as undo:
        bench.post("a")
        undo()
        bench.post("b")
    assert bench.heard == ["a"]
    with pytest.raises(KeyError), bench.listeners.subscribe(bench.heard.append):
        raise KeyError
    bench.post("c")
    assert bench.heard == ["a"]


def test_undoing_twice_runs_the_undo_once():
    undone: list[int] = []
    undo = Subscription(lambda: undone.append(1))
    undo()
    undo()
    assert undone == [1]


def test_what_is_no_callable_cannot_listen(bench):
    with pytest.raises(TypeError, match="a listener is a callable that takes the event, not 'me'"):
        bench.listeners.subscribe("me")


@pytest.mark.parametrize(
    "error", [ValueError("no"), asyncio.CancelledError()], ids=["an Exception", "a CancelledError"]
)
def test_S8_a_listener_that_raises_is_reported_and_stops_no_other(bench, error):
    def fail(event):
        raise error

    bench.listeners.subscribe(fail)
    bench.listeners.subscribe(bench.heard.append)
    bench.post("a")
    assert bench.heard == ["a"]
    ((message, reported),) = bench.reports
    assert reported is error
    assert message.startswith("told of a: ")
    assert "fail raised" in message
    assert message.endswith(f" raised {type(error).__name__}")


def test_S8_an_isolated_call_returns_what_the_callback_does_or_None(bench):
    assert bench.delivery.isolated(lambda event: event * 2, "a", what="x") == "aa"
    assert bench.delivery.isolated(lambda event: event.no, "a", what="x") is None


def test_S8_a_change_made_during_delivery_is_told_after_the_present_event(bench):
    """... in order, and before the outermost call returns."""
    done: list[str] = []

    def changes(event):
        if event == "a":
            bench.post("b")
            bench.post("c")
            done.append("b and c were posted")

    bench.listeners.subscribe(changes)
    bench.listeners.subscribe(lambda event: bench.heard.append((event, list(done))))
    bench.post("a")
    assert [event for event, _ in bench.heard] == ["a", "b", "c"]
    assert bench.heard[0][1] == ["b and c were posted"]


def test_trap_27_a_listener_that_leaves_while_it_is_told_makes_no_other_be_skipped(bench):
    def once(event):
        bench.heard.append(("once", event))
        undo()

    undo = bench.listeners.subscribe(once)
    bench.listeners.subscribe(lambda event: bench.heard.append(("always", event)))
    bench.post("a")
    bench.post("b")
    assert bench.heard == [("once", "a"), ("always", "a"), ("always", "b")]


def test_trap_27_a_listener_that_another_takes_out_is_not_told_any_more(bench):
    bench.listeners.subscribe(lambda event: undo())
    undo = bench.listeners.subscribe(bench.heard.append)
    bench.post("a")
    assert bench.heard == []


def test_a_listener_hears_only_what_happens_after_it_subscribed(bench):
    def subscribes(event):
        if event == "a":
            bench.post("b")
            bench.listeners.subscribe(bench.heard.append)
            bench.post("c")

    bench.listeners.subscribe(subscribes)
    bench.post("a")
    assert bench.heard == ["c"]


def test_an_event_that_nobody_hears_is_not_even_queued(bench):
    bench.post("a")
    assert not bench.delivery._queue


def test_S8_delivery_goes_on_after_an_interrupt(bench):
    """What still stood in the queue is told first."""

    def interrupted(event):
        if event == "a":
            bench.post("b")
            raise KeyboardInterrupt

    bench.listeners.subscribe(interrupted)
    bench.listeners.subscribe(bench.heard.append)
    with pytest.raises(KeyboardInterrupt):
        bench.post("a")
    assert bench.heard == []
    bench.post("c")
    assert bench.heard == ["b", "c"]


def test_S8_within_its_block_nothing_is_told_before_the_outermost_ends(bench):
    """A change of several steps is whole before anybody sees it."""
    bench.listeners.subscribe(bench.heard.append)
    with bench.delivery:
        bench.post("a")
        with bench.delivery:
            bench.post("b")
        assert bench.heard == []
    assert bench.heard == ["a", "b"]


def test_S8_a_block_that_fails_tells_what_was_done_until_then(bench):
    bench.listeners.subscribe(bench.heard.append)
    with pytest.raises(LookupError), bench.delivery:
        bench.post("a")
        raise LookupError
    assert bench.heard == ["a"]


def test_S8_listeners_run_outside_of_every_record(bench):
    ledger = Ledger()
    bench.listeners.subscribe(lambda event: bench.heard.append(ledger.current()))
    with recording(Record(ledger)):
        assert ledger.current() is not None
        bench.post("a")
        assert ledger.current() is not None
    assert bench.heard == [None]
