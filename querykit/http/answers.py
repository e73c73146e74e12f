"""What an answer says: the error in it, or the data."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar, cast

import aiohttp
import msgspec
import yarl

from querykit.errors import ApiError, InvalidBody
from querykit.http.urls import shown

__all__ = ["Codec", "error_from"]

T = TypeVar("T")

MAX_TEXT: Final = 1000


class Codec(Protocol):
    """What turns values into JSON and back; `msgspec.json` is one."""

    def encode(self, obj: Any, /) -> bytes:
        """Return `obj` as JSON."""
        ...

    def decode(self, buf: bytes, /, *, type: Any) -> Any:
        """Return the value of a JSON text, as `type`."""
        ...


def error_from(
    response: aiohttp.ClientResponse,
    body: bytes,
    *,
    with_phrase: bool = True,
    now: Callable[[], float] = time.time,
) -> ApiError:
    """Return the error that an answer stands for.

    Args:
        response: the answer, of whatever status.
        body: its body.
        with_phrase: whether the message begins with the status's phrase even where the body says something.
        now: reads the wall clock, in seconds since 1970, for a `Retry-After` that is a date.
    """
    status = _status_in(body)
    details: Any = status.get("details")
    details = cast("Mapping[str, Any]", details) if isinstance(details, dict) else None
    return ApiError(
        _message(response, _said(response, body, status), with_phrase=with_phrase),
        status=response.status,
        reason=reason if isinstance(reason := status.get("reason"), str) and reason else None,
        details=details,
        url=shown(response.url),
        method=response.method,
        retry_after=retry_after(response.headers, details, now),
    )


def phrase_of(response: aiohttp.ClientResponse) -> str:
    """Return the phrase on the wire, or the standard one, or the number."""
    if response.reason:
        return response.reason
    try:
        return HTTPStatus(response.status).phrase
    except ValueError:
        return str(response.status)


def _message(response: aiohttp.ClientResponse, said: str, *, with_phrase: bool) -> str:
    phrase = phrase_of(response)
    if not said:
        return phrase
    return f"{phrase} - {said}" if with_phrase else said


def _said(response: aiohttp.ClientResponse, body: bytes, status: Mapping[str, Any]) -> str:
    if isinstance(message := status.get("message"), str) and message.strip():
        return message.strip()
    if 300 <= response.status < 400 and (location := response.headers.get("Location")):
        return f"redirects are not followed; this one leads to {_place(response.url, location)}"
    if status or not response.content_type.startswith("text/") or response.content_type == "text/html":
        return ""
    try:
        text = body.decode(response.charset or "utf-8", "replace").strip()
    except LookupError:
        text = body.decode("utf-8", "replace").strip()
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def _place(url: yarl.URL, location: str) -> str:
    try:
        return shown(url.join(yarl.URL(location)))
    except ValueError:
        return "no URL"


def _status_in(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a body, whatever type it is said to be; else an empty one."""
    if not body.lstrip().startswith(b"{"):
        return {}
    try:
        return cast("dict[str, Any]", msgspec.json.decode(body))
    except (ValueError, RecursionError):
        return {}


def retry_after(
    headers: Mapping[str, str], details: Mapping[str, Any] | None, now: Callable[[], float]
) -> float | None:
    """Return the seconds that a server asks to wait: by its header, or else by its Status."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    at = timestamp(value)
    if at is not None:
        return max(0.0, at - now())
    asked = (details or {}).get("retryAfterSeconds")
    return float(asked) if isinstance(asked, (int, float)) and asked > 0 else None


def timestamp(date: str) -> float | None:
    """Return an HTTP date as seconds since 1970, or None if it is none."""
    try:
        at = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def decoded(response: aiohttp.ClientResponse, body: bytes, codec: Codec, type: type[T]) -> T | None:
    """Return the data of a good answer; None for an empty body.

    Raises:
        InvalidBody: the body is not JSON, or not of this type.
    """
    if not body:
        return None
    try:
        return cast("T", codec.decode(body, type=type))
    except (ValueError, RecursionError) as error:
        said = f"{error}"
    raise InvalidBody(
        f"{phrase_of(response)} - the body is not what was asked for: {said[:MAX_TEXT]}",
        status=response.status,
        url=shown(response.url),
        method=response.method,
    )
