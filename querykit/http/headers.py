"""Request headers: checked, merged, never changed in place, and shown by name only."""

import re
from collections.abc import Mapping
from typing import Any, Final

from multidict import CIMultiDict

__all__: list[str] = []

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
_FORBIDDEN: Final = re.compile(r"[\r\n\x00]")


def merged(*mappings: Mapping[str, str] | None) -> CIMultiDict[str]:
    """Return new headers of all mappings; a later one replaces a name, in whatever case, of an earlier.

    Raises:
        TypeError: a name or a value is not text.
        ValueError: a name is none, or a value has a line break.
    """
    headers: CIMultiDict[str] = CIMultiDict()
    for mapping in mappings:
        for name, value in (mapping or {}).items():
            _check(name, value)
            headers[name] = value
    return headers


def _check(name: Any, value: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a header's name is text, not {name!r}")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a header")
    if not isinstance(value, str):
        raise TypeError(f"the value of the header {name} is text, not a {type(value).__name__}")
    if _FORBIDDEN.search(value):
        raise ValueError(f"the value of the header {name} has a line break or a NUL in it")
