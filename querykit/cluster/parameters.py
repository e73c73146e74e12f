"""The query parameters of the Kubernetes API, by the names that go over the wire."""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypedDict

__all__ = ["Parameters", "QueryParameters"]

# In this form because `continue` cannot be the name of a field.
QueryParameters = TypedDict(
    "QueryParameters",
    {
        "continue": str | None,
        "dryRun": str | None,
        "fieldSelector": str | None,
        "labelSelector": str | None,
        "limit": str | int | None,
        "resourceVersion": str | None,
        "resourceVersionMatch": str | None,
        "allowWatchBookmarks": bool | str | None,
        "sendInitialEvents": bool | str | None,
        "pretty": bool | str | None,
        "watch": bool | str | None,
    },
    total=False,
)
"""What the API server knows; a parameter that is None is left out."""

Parameters: TypeAlias = QueryParameters | Mapping[str, Any]
"""Query parameters; names besides those of `QueryParameters` pass as they are."""
