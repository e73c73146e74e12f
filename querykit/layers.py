"""Optimistic changes: what is seen is the base with the updaters of pending mutations applied, in their order."""

from collections.abc import Callable
from typing import Any

from querykit.identity import Identities, Record, merged, recording
from querykit.state import NO_DATA, skip

__all__: list[str] = []

Report = Callable[[str, BaseException], None]


class Layer:
    """One mutation's change of one entry.

    Attributes:
        updater: a pure function from the data to the data as it will be.
        record: the mutation's, under which the updater runs.
        confirmed: the epoch at which the mutation succeeded, or None: what was begun later shows its effect.
    """

    __slots__ = ("confirmed", "record", "updater")

    def __init__(self, updater: Callable[[Any], Any], record: Record) -> None:
        self.updater = updater
        self.record = record
        self.confirmed: int | None = None


class Layers:
    """The pending changes of one entry over its base, the data that was fetched or set.

    A layer whose updater raises is reported with `what`, and leaves.
    """

    __slots__ = ("_layers", "_report", "_what", "base")

    def __init__(self, base: object, report: Report, what: str) -> None:
        self.base = base
        self._layers: list[Layer] = []
        self._report = report
        self._what = what

    def __bool__(self) -> bool:
        return bool(self._layers)

    def __contains__(self, layer: Layer) -> bool:
        return layer in self._layers

    def add(self, layer: Layer) -> None:
        """Put a layer on top."""
        self._layers.append(layer)

    def discard(self, layer: Layer) -> None:
        """Take a layer out; those above it stay."""
        if layer in self._layers:
            self._layers.remove(layer)

    def rebase(self, base: object, epoch: int) -> None:
        """Take a new base that was begun at `epoch`: the layers that were confirmed before are part of it."""
        self.base = base
        self._layers = [one for one in self._layers if one.confirmed is None or one.confirmed >= epoch]

    def fold(self) -> None:
        """Make the lowest layers part of the base, as far as they are confirmed."""
        while self._layers and self._layers[0].confirmed is not None:
            layer = self._layers[0]
            self.base = self._applied(layer, self.base)
            self.discard(layer)

    def seen(self) -> object:
        """Return the base with all updaters applied."""
        data = self.base
        for layer in tuple(self._layers):
            data = self._applied(layer, data)
        return data

    def names(self) -> Identities:
        """Return the identities under which the updaters run."""
        return merged(*(layer.record.names for layer in self._layers))

    def _applied(self, layer: Layer, data: object) -> object:
        if data is NO_DATA:
            return data
        try:
            with recording(layer.record):
                changed = layer.updater(data)
        except Exception as error:
            self.discard(layer)
            self._report(f"{self._what} raised {type(error).__name__}", error)
            return data
        return data if changed is skip else changed
