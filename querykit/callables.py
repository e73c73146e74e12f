"""What can be told of a callable: how many arguments it needs, and what it is called."""

import functools
import inspect
from collections.abc import Callable
from types import CodeType, FunctionType

__all__: list[str] = []


def required_parameters(fn: Callable[..., object]) -> tuple[int, int]:
    """Return how many parameters without a default `fn` takes by position, and how many by name only."""
    if isinstance(fn, FunctionType) and not hasattr(fn, "__wrapped__"):
        code: CodeType = fn.__code__
        positional = code.co_argcount - len(fn.__defaults__ or ())
        return positional, code.co_kwonlyargcount - len(fn.__kwdefaults__ or ())
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return 0, 0
    required = [one for one in parameters if one.default is one.empty]
    positional = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in required)
    return positional, sum(one.kind is one.KEYWORD_ONLY for one in required)


def called(fn: object) -> str:
    """Return a callable's name for a message: what it was bound to may be secret."""
    fn = fn.func if isinstance(fn, functools.partial) else fn
    name: object = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__
