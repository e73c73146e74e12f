"""What can be told of a callable, in a message that may end in a log."""

from __future__ import annotations

import functools

import pytest

from querykit.callables import called, required_parameters


def fetch(token, cluster="prod", *, limit=5):
    return token, cluster, limit


class Bound:
    def __repr__(self):
        return "secret"

    def method(self):
        return self

    def __call__(self, one):
        return one


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (fetch, "fetch"),
        (functools.partial(fetch, "secret"), "fetch"),
        (Bound().method, "Bound.method"),
        (Bound(), "Bound"),
        (functools.partial(Bound(), "secret"), "Bound"),
        (len, "len"),
        (("a", "secret"), "tuple"),
    ],
    ids=["function", "partial", "method", "object", "partial of an object", "builtin", "no callable"],
)
def test_what_it_is_bound_to_is_not_told(fn, name):
    assert called(fn) == name


@pytest.mark.parametrize(
    ("fn", "required"),
    [
        (fetch, (1, 0)),
        (functools.partial(fetch, "secret"), (0, 0)),
        (Bound(), (1, 0)),
        (lambda *, name: name, (0, 1)),
        (dict, (0, 0)),
    ],
    ids=["function", "partial", "object", "by name", "without a signature"],
)
def test_what_has_no_default_is_required(fn, required):
    assert required_parameters(fn) == required
