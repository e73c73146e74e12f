"""One key's data as the cache keeps it: under its tags and identities, with optimistic changes on it."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection, Hashable
from typing import Any

from querykit.callables import called
from querykit.checks import tag_set
from querykit.entry import Cause, Entry
from querykit.errors import QueryCancelled
from querykit.identity import Identities, Record, merged, recording
from querykit.keys import FrozenKey, QueryKey
from querykit.layers import Layer, Layers
from querykit.options import ResolvedOptions
from querykit.owner import Observer, Owner
from querykit.sharing import share
from querykit.state import NO_DATA

__all__: list[str] = []

TagRule = Callable[[Any], Collection[Hashable]]


class StoredEntry(Entry):
    """One key of the cache, with what is kept beside its state.

    Attributes:
        defaults: the options of this key for calls that give none.
        gc_time: the longest time, ever given, to keep it unused.
        is_news: whether its observers are about to be told of a change.
        layers: the changes of pending mutations, if there are any.
        observers: those who follow it.
        parked: the identities whose forgetting emptied it while observed; nothing fetches it then.
        rests: whether it waits, unused, to be collected.
        tags: the marks by which it is found.
        touched: whether it was used since it came to rest.
    """

    __slots__ = (
        "_given_tags",
        "_owner",
        "_tag_rule",
        "defaults",
        "gc_time",
        "is_news",
        "layers",
        "observers",
        "parked",
        "rests",
        "tags",
        "touched",
    )

    def __init__(self, owner: Owner[Any], key: QueryKey, frozen: FrozenKey, defaults: ResolvedOptions) -> None:
        super().__init__(key, frozen)
        self._owner = owner
        self._given_tags: frozenset[Hashable] = frozenset()
        self._tag_rule: TagRule | None = None
        self.defaults = defaults
        self.gc_time = defaults.gc_time
        self.is_news = False
        self.layers: Layers | None = None
        self.observers: dict[Observer, None] = {}
        self.parked: frozenset[Hashable] = frozenset()
        self.rests = False
        self.tags: frozenset[Hashable] = frozenset()
        self.touched = False

    @abstractmethod
    def forget(self, identity: Hashable) -> None:
        """Let go of everything of `identity`."""

    # Reading

    @property
    def base(self) -> Any:
        """The data without the changes of pending mutations: what fetches and updaters start from."""
        return self.data if self.layers is None else self.layers.base

    def read_old(self) -> tuple[object, object]:
        """Return the data and its validators to the function that fetches their successor."""
        self.spread()
        return self.base, self.validators

    def read(self) -> Any:
        """Return the data to a caller.

        Raises:
            QueryCancelled: there is none any more.
        """
        self.spread()
        if self.data is NO_DATA:
            raise QueryCancelled(self.key, "removed")
        return self.data

    def spread(self) -> None:
        """Let the running function take on the identities of what it reads here."""
        if self.identities:
            self._owner.ledger.spread(self.identities)
        if self.layers is not None:
            self._owner.ledger.spread(self.layers.names())

    # Writing

    def known(self, epoch: int) -> Any:
        """Return the data for an updater whose result counts from `epoch`: without what is only hoped for."""
        return self.data if self.layers is None else self.layers.known(epoch)

    def _store(
        self, data: object, epoch: int, identities: Identities, *, age: float = 0.0, sharing: bool = True
    ) -> None:
        old, names = self.base, self.names
        if sharing and old is not NO_DATA:
            data = share(old, data)
        if self.layers is not None:
            self.layers.rebase(data, epoch)
            data = self._seen(self.layers, sharing=sharing)
        self.accept(data, updated_at=self._owner.now() - age, epoch=epoch, identities=dict(identities))
        self._reindex(names)
        self._retag()
        if self.tags:
            self._owner.catch_up(self)

    @property
    def names(self) -> Identities:
        """The identities of what is here, without changes that are only hoped for."""
        return self.identities if self.layers is None else merged(self.identities, self.layers.confirmed_names())

    def uses(self, identity: Hashable) -> bool:
        """Whether the data, a change that was confirmed, or the error was computed under `identity`."""
        return super().uses(identity) or (self.layers is not None and identity in self.layers.confirmed_names())

    def _reindex(self, before: Identities) -> None:
        ledger = self._owner.ledger
        for identity in self.identities:
            ledger.index(identity, self)
        if before:
            ledger.unindex(before, self)

    def _blank(self, epoch: int | None = None) -> None:
        """Hold nothing any more, by what began at `epoch`, or by what happens now: pending changes stay."""
        names = self.names
        self.blank()
        if self.layers is not None:
            self.layers.rebase(NO_DATA, self._owner.ledger.tick() if epoch is None else epoch)
            self.layers = self.layers or None
        self._owner.ledger.unindex(names, self)
        self._retag()
        for observer in tuple(self.observers):
            observer.emptied()

    # Tags

    def mark(self, tags: frozenset[Hashable] | TagRule) -> None:
        """Add tags, or let a rule make them of the data from now on."""
        if callable(tags):
            if tags is not self._tag_rule:
                self._tag_rule = tags
                self._retag()
        elif not tags <= self._given_tags:
            self._given_tags |= tags
            self._owner.tag(self, self.tags | tags)

    def _retag(self) -> None:
        if self._tag_rule is not None:
            data = self.base
            tags = self._given_tags | self._tags_of(data, self._tag_rule)
            if tags != self.tags and self.base is data:  # the rule itself may have changed it
                self._owner.tag(self, tags)

    def _tags_of(self, data: object, rule: TagRule) -> frozenset[Hashable]:
        if data is NO_DATA:
            return frozenset()
        record = Record(self._owner.ledger)
        record.take_on(self.identities)
        try:
            with recording(record):
                tags = tag_set(rule(data))
        except (Exception, asyncio.CancelledError) as error:
            self._owner.report(f"the tags of {self.key!r}: {called(rule)} raised {type(error).__name__}", error)
            return frozenset()
        if record.is_doomed or self.base is not data:
            return frozenset()
        self.add_identities(record.names)
        self._reindex({})
        return tags

    # Optimistic changes

    def overlay(self, layer: Layer) -> None:
        """Show the data with a mutation's change, until the layer is withdrawn or what it stands for has come."""
        if self.layers is None:
            self.layers = Layers(self.data, self._owner.report, self.key)
        self.layers.add(layer)
        self._owner.wakes(self)
        self._show(self.layers)

    def withdraw(self, layer: Layer) -> None:
        """Take a change back: what else came meanwhile stays."""
        if self.layers is not None and layer in self.layers:
            self.layers.discard(layer)
            self._show(self.layers)
            self._fold()

    def confirm(self, layer: Layer, epoch: int) -> None:
        """The mutation has succeeded: its change stays until data comes that was begun after that."""
        if self.layers is not None and layer in self.layers:
            layer.confirmed = epoch
            for identity in layer.record.names:
                self._owner.ledger.index(identity, self)
            self._fold()

    @property
    @abstractmethod
    def _is_quiet(self) -> bool:
        """Whether no data is on its way that may be older than what was confirmed."""

    def _fold(self) -> None:
        """Make the confirmed changes part of the data, if nothing is on its way that may be older than they are.

        They then count as set when they were confirmed: what was begun before does not overwrite them.
        """
        if self.layers is None or not self._is_quiet:
            return
        base, names = self.layers.base, self.names
        for layer in self.layers.fold(self.data):
            self.add_identities(layer.record.names)
            self.epoch = max(self.epoch, layer.confirmed or 0)
        if self.layers.base is not base:
            self.validators = None
        self.layers = self.layers or None
        self._reindex(names)
        self._retag()

    def _strip(self) -> None:
        """Let go of all changes, since what they were made on goes too."""
        names = self.names
        if self.layers is not None:
            self.layers.base, self.layers = NO_DATA, None
        self._owner.ledger.unindex(names, self)

    def _show(self, layers: Layers) -> None:
        before = self.data
        self.data = self._seen(layers)
        if self.data is not before:
            self._owner.changed(self, Cause.OPTIMISTIC)

    def _seen(self, layers: Layers, *, sharing: bool = True) -> object:
        seen = layers.seen()
        return share(self.data, seen) if sharing else seen
