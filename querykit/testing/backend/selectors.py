"""labelSelector and fieldSelector: parsed once, then a predicate over manifests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from querykit.testing.backend.documents import is_object
from querykit.testing.backend.resources import Resource
from querykit.testing.backend.status import bad_request

__all__ = ["Predicate", "field_selector", "field_value", "label_selector"]

Predicate = Callable[[Mapping[str, Any]], bool]

_KEY = r"(?P<key>[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?)"
_SET_BASED = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"{_KEY}\s*(?P<operator>==|=|!=)\s*(?P<values>[A-Za-z0-9_.-]*)")
_EXISTENCE = re.compile(rf"(?P<operator>!?)\s*{_KEY}(?P<values>)")
_OUTER_COMMA = re.compile(r",(?![^(]*\))")
_FIELD_TERM = re.compile(r"(?P<field>[^=!]*)(?P<operator>!=|==|=)(?P<value>.*)", re.DOTALL)
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")


def label_selector(text: str) -> Predicate:
    """Parse a labelSelector, e.g. `app=web,tier in (a, b),!canary`.

    Raises:
        StatusError: 400 for text that is no selector.
    """
    terms = _OUTER_COMMA.split(text) if text.strip() else []
    requirements = [_Requirement.parse(term.strip()) for term in terms]

    def matches(manifest: Mapping[str, Any]) -> bool:
        labels: Mapping[str, str] = manifest["metadata"].get("labels") or {}
        return all(requirement.accepts(labels) for requirement in requirements)

    return matches


def field_selector(text: str, resource: Resource) -> Predicate:
    r"""Parse a fieldSelector, e.g. `status.phase!=Running,spec.nodeName=n1`.

    A comma, `=` or backslash in a value is written with a backslash before it.

    Raises:
        StatusError: 400 for text that is no selector, or a field this type cannot be selected by.
    """
    terms = [_field_term(term, text, resource) for term in _UNESCAPED_COMMA.split(text) if term]

    def matches(manifest: Mapping[str, Any]) -> bool:
        return all((_field_text(manifest, f) == value) is equal for f, value, equal in terms)

    return matches


def field_value(manifest: Mapping[str, Any], path: str) -> object:
    """What stands at a dotted path, or None: `field_value(pod, "spec.nodeName")`."""
    value: object = dict(manifest)
    for part in path.split("."):
        value = value.get(part) if is_object(value) else None
    return value


@dataclass(frozen=True, slots=True)
class _Requirement:
    key: str
    operator: str
    values: frozenset[str]

    @classmethod
    def parse(cls, term: str) -> _Requirement:
        for form in (_SET_BASED, _EQUALITY, _EXISTENCE):
            if found := form.fullmatch(term):
                values = frozenset(value.strip() for value in found["values"].split(","))
                return cls(found["key"], found["operator"] or "exists", values)
        raise bad_request(f"unable to parse requirement: found '{term}', expected: in, notin, =, ==, !=, gt, lt")

    def accepts(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case "exists":
                return self.key in labels
            case "!":
                return self.key not in labels
            case "in" | "=" | "==":
                return labels.get(self.key) in self.values
            case _:
                return labels.get(self.key) not in self.values


def _field_term(term: str, text: str, resource: Resource) -> tuple[str, str, bool]:
    found = _FIELD_TERM.fullmatch(term)
    if found is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
    if found["field"] not in resource.selectable:
        raise bad_request(
            f'Unable to find "{resource.group}/{resource.version}, Resource={resource.plural}" '
            f'that match label selector "", field selector "{text}": '
            f"field label not supported: {found['field']}"
        )
    value = re.sub(r"\\([\\,=])", r"\1", found["value"])
    return found["field"], value, found["operator"] != "!="


def _field_text(manifest: Mapping[str, Any], path: str) -> str:
    value = field_value(manifest, path)
    if path == "spec.unschedulable":
        # A bool in the API: false is left out of the object, yet can be selected.
        return str(bool(value)).lower()
    return "" if value is None else str(value)
