"""Conditional requests: what is kept beside data to ask whether it still holds, and what a 304 means."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from multidict import CIMultiDict

from querykit.context import QueryContext
from querykit.http.freshness import age, lifetime

__all__: list[str] = []

_CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range")


@dataclass(frozen=True, slots=True)
class Question:
    """What an answer answers: validators are of no use for another."""

    url: str
    accept: str
    type: Any


@dataclass(frozen=True, slots=True, eq=False)
class Validators:
    """Kept beside the very data they came with; told apart by identity."""

    question: Question = field(repr=False)
    etag: str | None
    last_modified: str | None
    lifetime: float | None


def validators_for(question: Question, context: QueryContext[Any]) -> Validators | None:
    """Return the validators of the data that the query has, if they are for this question."""
    found = context.validators
    return found if isinstance(found, Validators) and found.question == question else None


def is_plain(headers: CIMultiDict[str]) -> bool:
    """Whether the caller has put no condition of his own."""
    return not any(name in headers for name in _CONDITIONS)


def conditions(validators: Validators) -> dict[str, str]:
    """Return the headers that ask for data only if it has changed."""
    asked = {"If-None-Match": validators.etag, "If-Modified-Since": validators.last_modified}
    return {name: value for name, value in asked.items() if value is not None}


def learn(
    context: QueryContext[Any],
    question: Question,
    response: aiohttp.ClientResponse,
    now: Callable[[], float],
    data: object,
) -> None:
    """Note an answer's freshness and validators for the data that it brings."""
    context.validated = data
    fresh = lifetime(response, now)
    etag, modified = _sendable(response, "ETag"), _sendable(response, "Last-Modified")
    validators = Validators(question, etag, modified, fresh)
    _note(context, fresh, age(response), validators if etag or modified else None)


def confirm(
    context: QueryContext[Any], sent: Validators, response: aiohttp.ClientResponse, now: Callable[[], float]
) -> None:
    """Note what a 304 says of the data that is kept; what it leaves out still holds."""
    context.validated = context.previous_data
    fresh = lifetime(response, now)
    renewed = replace(
        sent,
        etag=_sendable(response, "ETag") or sent.etag,
        last_modified=_sendable(response, "Last-Modified") or sent.last_modified,
        lifetime=sent.lifetime if fresh is None else fresh,
    )
    _note(context, renewed.lifetime, age(response), renewed)


def _note(context: QueryContext[Any], fresh: float | None, old: float, validators: Validators | None) -> None:
    context.stale_time = None if fresh is None else max(0.0, fresh - old)
    context.new_validators = validators


def _sendable(response: aiohttp.ClientResponse, name: str) -> str | None:
    """Return a header that can be sent back as it came."""
    value = response.headers.get(name, "")
    return value if value and value.isascii() and value.isprintable() else None
