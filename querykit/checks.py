"""What an option may be: each check returns the value as later code reads it, or says what is wrong with it."""

import math
from collections.abc import Callable, Collection, Hashable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, cast

from querykit.retry import DelayRule, RetryRule
from querykit.state import NetworkMode, StaleTime

__all__ = ["Seconds"]

Seconds: TypeAlias = float | timedelta
RefetchOn: TypeAlias = bool | Literal["always"]


def seconds(value: object, name: str) -> float:
    """Return a duration in seconds.

    Raises:
        TypeError: `value` is neither a number nor a `timedelta`.
        ValueError: it is negative, or not a number.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds or a timedelta, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is 0 or more seconds, not {value!r}")
    return float(value)


def stale_time(value: object, name: str) -> StaleTime:
    """Return a stale time: seconds, or one of the words that stand for one."""
    if isinstance(value, str):
        if value in {"static", "http"}:
            return cast("StaleTime", value)
        raise ValueError(f'{name} is a number of seconds, a timedelta, "static" or "http", not {value!r}')
    return seconds(value, name)


def optional_seconds(value: object, name: str) -> float | None:
    """Return seconds, or None."""
    return None if value is None else seconds(value, name)


def retry(value: object, name: str) -> float | RetryRule:
    """Return a number of retries, or the rule that decides."""
    if value is True:
        return math.inf
    if callable(value):
        return cast("RetryRule", value)
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, a bool or a callable (failures, error) -> bool, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is 0 or more, not {value!r}")
    return float(value)


def retry_delay(value: object, name: str) -> float | DelayRule | None:
    """Return the seconds before a retry, the rule that gives them, or None for the default."""
    return cast("DelayRule", value) if callable(value) else optional_seconds(value, name)


def error_types(value: object, name: str) -> tuple[type[BaseException], ...]:
    """Return a tuple of exception classes."""
    types = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        raise TypeError(f"{name} is a tuple of exception classes, not {value!r}")
    return cast("tuple[type[BaseException], ...]", types)


def hashable(value: object, name: str) -> Hashable:
    """Return what can be hashed."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"{name} is a hashable value, not a {type(value).__name__}") from None
    return value


def tag_set(value: object, name: str = "tags") -> frozenset[Hashable]:
    """Return the tags as a set.

    Raises:
        TypeError: `value` is a string, or no collection of hashable values.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise TypeError(f"{name} is a list or set of hashable tags, not {value!r}")
    return frozenset(hashable(tag, "a tag") for tag in cast("Collection[object]", value))


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping, not {value!r}")
    return cast("Mapping[str, Any]", value)


def flag(value: object, name: str) -> bool:
    """Return True or False, and nothing that only counts as one."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")
    return value


def anything(value: object, name: str) -> object:
    """Return the value: any will do."""
    del name
    return value


def tags(value: object, name: str) -> frozenset[Hashable] | Callable[[Any], Collection[Hashable]]:
    """Return the tags as a set, or the callable of the data that gives them."""
    return cast("Callable[[Any], Collection[Hashable]]", value) if callable(value) else tag_set(value, name)


def interval(value: object, name: str) -> float | None:
    """Return the seconds between two fetches, or None for none.

    Raises:
        TypeError: `value` is no duration.
        ValueError: it is not more than 0.
    """
    if value is None or value is False:
        return None
    length = seconds(value, name)
    if length == 0:
        raise ValueError(f"{name} is more than 0 seconds, or None for none, not {value!r}")
    return None if length == math.inf else length


def refetch_on(value: object, name: str) -> RefetchOn:
    """Return whether an occasion is one to fetch again: if stale, or always."""
    if isinstance(value, str):
        if value != "always":
            raise ValueError(f'{name} is True, False, "always" or a callable of the query, not {value!r}')
        return "always"
    return flag(value, name)


def network_mode(value: object, name: str) -> NetworkMode:
    """Return a network mode."""
    if value not in ("online", "always"):
        raise ValueError(f'{name} is "online" or "always", not {value!r}')
    return value


def news(value: object, name: str) -> frozenset[str] | Callable[[Any, Any], bool] | None:
    """Return the names of the fields whose change is told, or the callable that decides; None for every field.

    Raises:
        TypeError: `value` is none of these.
    """
    if value is None or callable(value):
        return cast("Callable[[Any, Any], bool] | None", value)
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        raise TypeError(f"{name} is a list of field names or a callable (before, after) -> bool, not {value!r}")
    names = cast("Collection[object]", value)
    if not all(isinstance(one, str) for one in names):
        raise TypeError(f"{name} is a list of names of fields of the result, not {value!r}")
    return frozenset(cast("Collection[str]", names))


def or_rule(check: Callable[[object, str], object]) -> Callable[[object, str], object]:
    """Return a check that lets callables through: what one returns is checked when it is called."""
    return lambda value, name: value if callable(value) else check(value, name)


def hint(name: str, known: Collection[str]) -> str:
    """Return what to write instead of an option that there is not."""
    if name == "select":
        return "write query_options(key, fn).select(f)"
    if name in {"initial_page_param", "get_next_page_param", "get_previous_page_param", "max_pages", "pages"}:
        return "write infinite_query_options(...), or client.infinite_query(...)"
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
