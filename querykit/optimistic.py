"""One mutation's optimistic changes of queries: shown at its call, then confirmed or taken back."""

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from querykit.cache import QueryCache
from querykit.callables import required_parameters
from querykit.identity import Record
from querykit.keys import QueryKey
from querykit.layers import Layer
from querykit.query import Query

__all__: list[str] = []


class Changes:
    """The layers that one mutation has put on entries.

    Args:
        cache: where the entries are.
        entry: returns the query of a key, made if need be.
    """

    def __init__(self, cache: QueryCache, entry: Callable[[QueryKey], Query]) -> None:
        self._cache = cache
        self._entry = entry
        # A layer leaves with its entry's hold on it.
        self._shown: WeakKeyDictionary[Layer, Query] = WeakKeyDictionary()

    def show(self, changes: Iterable[tuple[QueryKey, Callable[..., Any]]], variables: object, record: Record) -> None:
        """Let changes be seen at once."""
        for key, updater in changes:
            query, layer = self._entry(key), Layer(_of_data(updater, variables), record)
            self._shown[layer] = query
            query.overlay(layer)

    def confirm(self) -> None:
        """The mutation has succeeded: each change stays until data has come that was begun after that."""
        epoch = self._cache.ledger.tick()
        with self._cache.delivery:
            for layer, query in tuple(self._shown.items()):
                query.confirm(layer, epoch)
                query.settle_down()

    def withdraw(self) -> None:
        """Take back the changes that were not confirmed."""
        with self._cache.delivery:
            for layer, query in tuple(self._shown.items()):
                if layer.confirmed is None:
                    query.withdraw(layer)
                    query.settle_down()


def _of_data(updater: Callable[..., Any], variables: object) -> Callable[[Any], Any]:
    return (lambda data: updater(data, variables)) if required_parameters(updater)[0] == 2 else updater
