"""What a query function may know of its fetch."""

from __future__ import annotations

from typing import Any, cast

import pytest

from querykit.context import ContextClient, QueryContext
from querykit.state import NO_DATA


class Entry:
    def __init__(self, data: object, validators: object = None) -> None:
        self.data = data
        self.validators = validators

    direction = None

    def paused(self, paused: bool) -> None: ...

    def show(self, data: object) -> None: ...

    def read_old(self) -> tuple[object, object]:
        return self.data, self.validators


def context(entry: Entry) -> QueryContext[Any]:
    return QueryContext(cast("ContextClient", None), ("pods", "prod"), {"why": "test"}, entry)


def test_it_tells_the_key_and_the_meta_option():
    ctx = context(Entry(NO_DATA))
    assert ctx.query_key == ("pods", "prod")
    assert ctx.meta == {"why": "test"}
    assert repr(ctx) == "<QueryContext of ('pods', 'prod')>"


def test_the_transport_s_fields_begin_empty():
    ctx = context(Entry(1))
    assert ctx.stale_time is None
    assert ctx.new_validators is None


def test_S2_previous_data_is_read_from_the_entry_when_it_is_needed():
    entry = Entry(NO_DATA, "none")
    ctx = context(entry)
    assert ctx.previous_data is None
    assert ctx.validators is None
    entry.data, entry.validators = ["web"], '"etag"'
    assert ctx.previous_data == ["web"]
    assert ctx.validators == '"etag"'


def test_S4_None_is_valid_previous_data_with_validators_of_its_own():
    ctx = context(Entry(None, '"etag"'))
    assert ctx.previous_data is None
    assert ctx.validators == '"etag"'


def test_it_has_no_room_for_what_nobody_reads():
    with pytest.raises(AttributeError):
        context(Entry(1)).staletime = 3
