"""Optimistic changes: what is seen is the base with the updaters of pending mutations applied, in their order."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from querykit.fetching import refuse_unusable
from querykit.identity import Identities, Record, merged, recording
from querykit.keys import QueryKey
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

    __slots__ = ("__weakref__", "confirmed", "record", "updater")

    def __init__(self, updater: Callable[[Any], Any], record: Record) -> None:
        self.updater = updater
        self.record = record
        self.confirmed: int | None = None

    def is_older(self, epoch: int) -> bool:
        """Whether it was confirmed before `epoch`: what was begun then has the change in it."""
        return self.confirmed is not None and self.confirmed < epoch


class Layers:
    """The pending changes of one entry over its base, the data that was fetched or set.

    A layer whose updater raises, or returns what is no data, is reported and leaves; one whose mutation is doomed
    leaves too.

    Attributes:
        base: the data without the changes.
    """

    __slots__ = ("_key", "_layers", "_report", "base")

    def __init__(self, base: object, report: Report, key: QueryKey) -> None:
        self.base = base
        self._layers: list[Layer] = []
        self._report = report
        self._key = key

    def __bool__(self) -> bool:
        return bool(self._layers)

    def __contains__(self, layer: Layer) -> bool:
        return layer in self._layers

    def add(self, layer: Layer) -> None:
        """Put a layer on top."""
        self._layers.append(layer)

    def discard(self, layer: Layer) -> None:
        """Take a layer out; those above it stay."""
        self._layers = [one for one in self._layers if one is not layer]

    def rebase(self, base: object, epoch: int) -> None:
        """Take a new base that was begun at `epoch`: the layers that were confirmed before are part of it."""
        self.base = base
        self._layers = [one for one in self._layers if not one.is_older(epoch)]

    def known(self, epoch: int) -> object:
        """Return what is known to be true at `epoch`: the base with the changes that were confirmed before."""
        return self._all_applied(self.base, [one for one in self._layers if one.is_older(epoch)])

    def fold(self, seen: object) -> list[Layer]:
        """Make the lowest layers part of the base, as far as they are confirmed, and return them.

        Args:
            seen: the base with all updaters applied, which is the new base if all are confirmed.
        """
        pending = next((at for at, one in enumerate(self._layers) if one.confirmed is None), None)
        folded = self._layers[:pending]
        self.base = seen if pending is None else self._all_applied(self.base, folded)
        self._layers = [one for one in self._layers if one not in folded]
        return folded

    def seen(self) -> object:
        """Return the base with all updaters applied."""
        base = self.base
        seen = self._all_applied(base, tuple(self._layers))
        return seen if self.base is base else self.seen()  # an updater has changed it, or taken it away

    def names(self) -> Identities:
        """Return the identities under which the updaters run."""
        return merged(*(layer.record.names for layer in self._layers))

    def confirmed_names(self) -> Identities:
        """Return the identities of the changes that stay whatever becomes of their mutations."""
        return merged(*(layer.record.names for layer in self._layers if layer.confirmed is not None))

    def _all_applied(self, data: object, layers: Iterable[Layer]) -> object:
        for layer in layers:
            data = self._applied(layer, data)
        return data

    def _applied(self, layer: Layer, data: object) -> object:
        if data is NO_DATA:
            return data
        if layer.record.is_doomed:
            self.discard(layer)
            return data
        try:
            with recording(layer.record):
                changed = layer.updater(data)
            refuse_unusable(changed, self._key)
        except (Exception, asyncio.CancelledError) as error:
            self.discard(layer)
            self._report(f"an optimistic updater of {self._key!r} raised {type(error).__name__}", error)
            return data
        return data if changed is skip else changed
