"""LIST: its options, its pages and the continue tokens between them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from querykit.testing.backend.manifests import Manifest
from querykit.testing.backend.resources import Resource
from querykit.testing.backend.selectors import Predicate, field_selector, label_selector
from querykit.testing.backend.status import FieldError, bad_request, invalid

__all__ = ["Continue", "ListOptions", "page"]

CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter, or use the continue token in this response "
    "to retrieve the remainder of the results. Continuing with the provided token results in an "
    "inconsistent list - objects that were created, modified, or deleted between the time the "
    "first chunk was returned and now may show up in the list."
)


class Continue(msgspec.Struct, frozen=True):
    """What a continue token says: the snapshot it belongs to and the key to go on from."""

    rv: int
    """The list's resourceVersion; -1 means the newest state, whatever it is by then."""
    start: str
    at: float
    """When the first page was made, seconds since the epoch."""
    v: str = "meta.k8s.io/v1"

    def encode(self) -> str:
        """The opaque text that goes on the wire."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a token back.

        Raises:
            StatusError: 400 for text that this server did not make.
        """
        try:
            padded = text + "=" * (-len(text) % 4)
            return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=cls)
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"invalid continue token: continue key is not valid: {error}") from error


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The query of a LIST, read and checked."""

    limit: int = 0
    continue_from: Continue | None = None
    resource_version: str = ""
    match: str = ""
    selectors: tuple[Predicate, ...] = field(default=())

    @classmethod
    def from_query(cls, query: Mapping[str, str], resource: Resource) -> Self:
        """Read the parameters as the API server does.

        Raises:
            StatusError: 400 or 422 for parameters that it refuses.
        """
        _check_resource_version(query)
        selectors: list[Predicate] = []
        if text := query.get("labelSelector", ""):
            selectors.append(label_selector(text))
        if text := query.get("fieldSelector", ""):
            selectors.append(field_selector(text, resource))
        token = query.get("continue", "")
        return cls(
            _whole_number("limit", query.get("limit") or "0"),
            Continue.decode(token) if token else None,
            query.get("resourceVersion", ""),
            query.get("resourceVersionMatch", ""),
            tuple(selectors),
        )

    @property
    def exact(self) -> bool:
        """Whether `resource_version` names one snapshot rather than a minimum."""
        return self.match == "Exact" or (not self.match and self.limit > 0)


def page(
    items: Iterable[tuple[str, Manifest]], options: ListOptions, *, rv: int, now: float
) -> tuple[list[Manifest], dict[str, Any]]:
    """Cut one page out of a snapshot, given as (key, object) in the order of the keys.

    Returns the objects and the list's `metadata`.
    """
    first = options.continue_from
    start = first.start if first else ""
    wanted = [
        (key, item) for key, item in items if key >= start and all(accepts(item) for accepts in options.selectors)
    ]
    # The watch cache, which answers resourceVersion "0", does not look at the limit.
    limit = len(wanted) if not options.limit or options.resource_version == "0" else options.limit
    shown, rest = wanted[:limit], wanted[limit:]
    metadata: dict[str, Any] = {"resourceVersion": str(rv)}
    if rest:
        following = Continue(rv, shown[-1][0] + "\0", first.at if first else now)
        metadata["continue"] = following.encode()
        if not options.selectors:
            metadata["remainingItemCount"] = len(rest)
    return [item for _, item in shown], metadata


def _check_resource_version(query: Mapping[str, str]) -> None:
    version = query.get("resourceVersion", "")
    match = query.get("resourceVersionMatch", "")
    rest = query.get("continue", "")
    if match:
        _check_match(match, version, rest)
    if rest and version:
        raise bad_request("specifying resource version is not allowed when using continue")
    _whole_number("resourceVersion", version or "0")


def _check_match(match: str, version: str, rest: str) -> None:
    name = "resourceVersionMatch"
    errors: list[FieldError] = []
    if not version:
        errors.append(FieldError.forbidden(name, f"{name} is forbidden unless resourceVersion is provided"))
    if rest:
        errors.append(FieldError.forbidden(name, f"{name} is forbidden when continue is provided"))
    if match not in ("Exact", "NotOlderThan"):
        errors.append(FieldError.unsupported(name, match, ("Exact", "NotOlderThan", "")))
    if match == "Exact" and version == "0":
        errors.append(FieldError.forbidden(name, f'{name} "exact" is forbidden for resourceVersion "0"'))
    if errors:
        raise invalid("ListOptions", "", errors, group="meta.k8s.io")


def _whole_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise bad_request(f'invalid {name}: strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)
