"""URLs: what a caller gives as text is encoded, never read as another part of the URL."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, cast
from urllib.parse import quote, unquote

import yarl

__all__ = ["EncodedPath", "encode_path", "join_path"]

# What is left as it is in a segment: RFC 3986's pchar, but for what some servers take for more than text.
_SEGMENT: Final = "!$&'()*,=:@"
_ENCODED: Final = re.compile(rf"(?:[A-Za-z0-9\-._~/+;{re.escape(_SEGMENT)}]|%[0-9A-Fa-f]{{2}})*")
_SEPARATORS: Final = re.compile(r"[/\\]")


class EncodedPath(str):
    """A path that is percent-encoded already, as `join_path` and `encode_path` return it.

    Adding plain text would lose that, so it is refused: `join_path(path, "more")` does it.

    Raises:
        ValueError: it is not percent-encoded, or has a segment `.` or `..`.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if _ENCODED.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not percent-encoded: join_path and encode_path do that")
        _refuse_dots(text)
        return super().__new__(cls, text)

    def __add__(self, other: str) -> "EncodedPath":
        if not isinstance(other, EncodedPath):
            raise TypeError("an encoded path and plain text do not add up: write join_path(path, text)")
        return EncodedPath(str(self) + str(other))


def join_path(*parts: str) -> EncodedPath:
    """Return a path of these parts, each encoded as one segment; an `EncodedPath` is taken as it is.

    Raises:
        TypeError: a part is not text.
        ValueError: a part is empty, or could be read as `.` or `..`.

    Example:
        >>> join_path("clusters", "eu/west 1", encode_path("/api/v1/pods"))
        '/clusters/eu%2Fwest%201/api/v1/pods'
    """
    return EncodedPath("".join(f"/{_part(part)}" for part in parts))


def encode_path(path: str) -> EncodedPath:
    """Return a path with each segment between its slashes encoded; an `EncodedPath` is returned as it is.

    Raises:
        TypeError: `path` is not text.
        ValueError: a segment could be read as `.` or `..`.

    Example:
        >>> encode_path("/api/v1/namespaces/what?/pods")
        '/api/v1/namespaces/what%3F/pods'
    """
    if isinstance(path, EncodedPath):
        return path
    return EncodedPath("/".join(_segment(each) for each in _text(path).split("/")))


def _part(part: str) -> str:
    if isinstance(part, EncodedPath):
        return part.removeprefix("/")
    if not _text(part):
        raise ValueError("a part of a path is empty: it would name another resource than is meant")
    return _segment(part)


def _segment(segment: str) -> str:
    _refuse_dots(segment)
    return quote(segment, safe=_SEGMENT)


def _text(path: object) -> str:
    if not isinstance(path, str):
        raise TypeError(f"a path is text, not {path!r}")
    return path


def _refuse_dots(text: str) -> None:
    """Refuse what some server on the way may read as another directory, however often it decodes."""
    decoded, before = text, ""
    while decoded != before:
        if not {".", ".."}.isdisjoint(_SEPARATORS.split(decoded)):
            raise ValueError(f"a path must not have a segment '.' or '..', and {text!r} has")
        decoded, before = unquote(decoded), decoded


def encode_query(params: Mapping[str, object] | None) -> str:
    """Return a query string: None is left out, a sequence repeats its name, true and false are so written.

    Raises:
        TypeError: a name is not text, or a value neither text nor number nor a sequence of them.
    """
    return "&".join(
        f"{quote(_name(name), safe='')}={quote(_value(name, each), safe='')}"
        for name, value in (params or {}).items()
        for each in _several(value)
        if each is not None
    )


def _several(value: object) -> Sequence[object]:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return cast("Sequence[object]", value)
    return (value,)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a query parameter is text, not {name!r}")
    return name


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str.__str__(value)  # of an enum too
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"the query parameter {name!r} is text, a number or a list of them, not a {type(value).__name__}")


def base_of(url: str | yarl.URL) -> str:
    """Return a base URL without a slash at its end.

    Raises:
        TypeError: `url` is neither text nor a `yarl.URL`.
        ValueError: it is not one that requests can be sent to.
    """
    base = absolute(url, "base_url", "https://example.com/api")
    if base.raw_query_string or base.raw_fragment or _has_empty_end(url):
        raise ValueError("base_url must have no query and no fragment: give params= with each request")
    if base.raw_user is not None or base.raw_password is not None:
        raise ValueError('base_url must have no user or password: give headers={"Authorization": ...}')
    _refuse_dots(base.raw_path)
    return str(base).rstrip("/")


def _has_empty_end(url: str | yarl.URL) -> bool:
    return isinstance(url, str) and ("?" in url or "#" in url)


def absolute(url: Any, name: str, example: str) -> yarl.URL:
    """Return an http or https URL with a host. What was given is not shown: it may hold a password."""
    if not isinstance(url, (str, yarl.URL)):
        raise TypeError(f"{name} is a URL such as {example!r}, not {url!r}")
    try:
        parsed = yarl.URL(url)
    except ValueError:
        raise ValueError(f"{name} is not a URL: write one such as {example!r}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{name} must begin with http:// or https:// and a host: write {example!r}")
    return parsed


def url_of(base: str, path: str, params: Mapping[str, object] | None) -> yarl.URL:
    """Return the URL of a path under the base."""
    encoded, query = encode_path(path), encode_query(params)
    slash = "" if not encoded or encoded.startswith("/") else "/"
    return yarl.URL(f"{base}{slash}{encoded}" + (f"?{query}" if query else ""), encoded=True)


def shown(url: yarl.URL) -> str:
    """Return a URL as errors show it: without user, password, query and fragment."""
    return str(url.with_user(None).with_query(None).with_fragment(None))
