"""What callers name: clusters, paths, and values for headers, each checked before anything happens."""

import re
from typing import Final
from urllib.parse import unquote

from querykit.http import EncodedPath, encode_path, join_path

__all__: list[str] = []

_CLUSTER: Final = re.compile(r"/?clusters/[^/]+")
_NAMESPACE: Final = re.compile(r"(?:^|/)namespaces/([^/]+)")


def checked_cluster(cluster: object) -> str:
    """Return the name of a cluster.

    Raises:
        TypeError: it is not text.
        ValueError: it is empty, or `.` or `..`.
    """
    if not isinstance(cluster, str):
        raise TypeError(f"the name of a cluster is text, not {cluster!r}")
    if not cluster:
        raise ValueError("this needs the name of a cluster")
    join_path(cluster)
    return cluster


def path_of(path: str, cluster: str | None) -> EncodedPath:
    """Return a path, below the cluster's prefix if there is a cluster.

    Raises:
        TypeError: `path` is not text.
        ValueError: it has a query or a fragment, or a segment `.` or `..`.
    """
    encoded = encode_path(path)
    if encoded is not path and ("?" in path or "#" in path):
        raise ValueError(
            f"{path!r} has a '?' or '#': pass parameters as query_params=, and write a name that contains "
            "one with querykit.http.join_path"
        )
    return join_path("clusters", cluster, encoded) if cluster else encoded


def namespace_of(path: EncodedPath) -> str | None:
    """Return the namespace that a path is in, or None; the cluster's name in its prefix is none."""
    prefix = _CLUSTER.match(path)
    found = _NAMESPACE.search(path, prefix.end() if prefix else 0)
    return unquote(found[1]) if found else None


def checked_header(value: object, what: str) -> str:
    """Return a value that may stand in a header; it is never shown.

    Raises:
        TypeError: it is not text.
        ValueError: it has characters that a header must not have.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is text, not a {type(value).__name__}")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{what} has characters that a header must not have")
    return value
