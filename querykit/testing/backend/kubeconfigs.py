"""Stateless clusters: the context that a request brings along in its KUBECONFIG header."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from querykit.testing.backend.documents import is_object

__all__ = ["Context", "ContextCache", "KubeconfigError", "encode_kubeconfig", "read_contexts"]

FIRST_TTL = 300.0
USED_TTL = 20.0


class KubeconfigError(ValueError):
    """Raised for a KUBECONFIG header that holds no usable kubeconfig."""


@dataclass(frozen=True, slots=True)
class Context:
    """A context of a kubeconfig: its effective name, its API server and its user's token."""

    name: str
    server: str
    token: str


def encode_kubeconfig(name: str, server: str, token: str) -> str:
    """A kubeconfig with one context, in base64, as the KUBECONFIG header carries it."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return base64.b64encode(yaml.safe_dump(document).encode()).decode()


def read_contexts(header: str) -> list[Context]:
    """The contexts of a kubeconfig in base64; `headlamp_info.customName` renames one.

    Raises:
        KubeconfigError: for text that is no base64, no YAML, or has no context.
    """
    try:
        document: object = yaml.safe_load(base64.b64decode(header, validate=True))
    except (binascii.Error, UnicodeDecodeError, yaml.YAMLError) as error:
        raise KubeconfigError("failed to load kubeconfig") from error
    contexts = list(_contexts(document)) if is_object(document) else []
    if not contexts:
        raise KubeconfigError("no contexts found in kubeconfig")
    return contexts


class ContextCache:
    """Keeps stateless contexts by (cluster, user id), as the backend does.

    A context stays as it was first sent while it is used: a changed kubeconfig under the same user
    id counts only once the old one was not used for 20 s (5 min after its first request).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[Context, float]] = {}

    def resolve(self, header: str, cluster: str, user_id: str) -> Context | None:
        """The context for this cluster, or None when the kubeconfig does not name it.

        Raises:
            KubeconfigError: as `read_contexts`.
        """
        sent = [context for context in read_contexts(header) if context.name == cluster]
        if not sent or not user_id:
            return sent[-1] if sent else None
        now = self._clock()
        kept, ends = self._kept.get((cluster, user_id), (sent[-1], now))
        context, ttl = (kept, USED_TTL) if now < ends else (sent[-1], FIRST_TTL)
        self._kept[cluster, user_id] = (context, now + ttl)
        return context


def _contexts(document: Mapping[str, Any]) -> Iterator[Context]:
    servers = _named(document, "clusters", "cluster")
    users = _named(document, "users", "user")
    for name, context in _named(document, "contexts", "context").items():
        yield Context(
            _custom_name(context) or name,
            str(servers.get(context.get("cluster"), {}).get("server", "")),
            str(users.get(context.get("user"), {}).get("token", "")),
        )


def _named(document: Mapping[str, Any], section: str, part: str) -> dict[Any, Mapping[str, Any]]:
    entries: list[dict[str, Any]] = document.get(section) or []
    return {entry["name"]: entry.get(part) or {} for entry in entries if "name" in entry}


def _custom_name(context: Mapping[str, Any]) -> str:
    extensions = _named(context, "extensions", "extension")
    return str(extensions.get("headlamp_info", {}).get("customName") or "")
