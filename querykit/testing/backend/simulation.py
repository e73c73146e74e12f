"""Everything a backend holds while it runs, without its HTTP: clusters, tokens, faults, the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec

from querykit.testing.backend.apiserver import ApiServer
from querykit.testing.backend.auth import TokenAuthority
from querykit.testing.backend.churn import Churn
from querykit.testing.backend.faults import FaultPlan
from querykit.testing.backend.fixtures import fill
from querykit.testing.backend.kubeconfigs import ContextCache
from querykit.testing.backend.requestlog import RequestLog
from querykit.testing.backend.store import Store

__all__ = ["BackendSettings", "Cluster", "Plugins", "Simulation", "server_url"]


class BackendSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a backend is set up.

    Example:
        >>> BackendSettings(clusters=("east", "west"), seed=1).clusters
        ('east', 'west')

    Raises:
        ValueError: for no cluster, or a name that is empty, doubled or contains a `/`.
    """

    clusters: tuple[str, ...] = ("main",)
    seed: int = 0
    """The same seed gives the same objects and the same changes of them."""
    backend_token: str = ""
    """What `X-HEADLAMP_BACKEND-TOKEN` must be; empty asks for none."""
    base_url: str = ""
    """A path before all routes, e.g. `/headlamp`."""
    session_ttl: int = 86_400
    """Max-Age of the token cookies, in seconds."""
    history_seconds: float = 300.0
    """How long a continue token, or an old resourceVersion, can be listed from."""
    dynamic_clusters: bool = True
    """Whether the KUBECONFIG header counts."""
    churn_interval: float | None = None
    """Seconds between two steps of churn; None leaves them to `step_churn`."""

    def __post_init__(self) -> None:
        names = self.clusters
        if not names or len(set(names)) < len(names) or not all(map(_is_name, names)):
            raise ValueError(f"clusters must be distinct, non-empty names without '/': {names}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """One simulated cluster."""

    name: str
    server: str
    api: ApiServer
    churn: Churn


@dataclass(slots=True)
class Plugins:
    """When to tell a client to reload: once per change, and only after it listed the plugins."""

    listed: bool = False
    changed: bool = False

    def change(self) -> None:
        """A plugin changed on the disk."""
        self.changed = self.listed

    def take(self) -> bool:
        """Whether this answer is the one that carries `X-Reload`."""
        taken, self.changed = self.changed, False
        return taken


class Simulation:
    """The state of one running backend.

    `clock` gives seconds since the epoch; `advance` moves the simulation's time ahead of it.
    """

    def __init__(self, settings: BackendSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.base = f"/{settings.base_url.strip('/')}".rstrip("/")
        self.tokens = TokenAuthority(self.now)
        self.contexts = ContextCache(self.now)
        self.faults = FaultPlan()
        self.log = RequestLog()
        self.plugins = Plugins()
        self._clock = clock
        self._ahead = 0.0
        self.clusters = {name: self._cluster(name) for name in settings.clusters}

    def now(self) -> float:
        """The simulation's time, in seconds since the epoch."""
        return self._clock() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass at once: tokens expire, history is compacted, grace periods end."""
        self._ahead += seconds

    def step_churn(self, steps: int = 1, cluster: str | None = None) -> list[str]:
        """Let one cluster, or all, change; returns a sentence for each change.

        Raises:
            KeyError: for an unknown cluster.
        """
        chosen = self.clusters.values() if cluster is None else [self.clusters[cluster]]
        return [f"{one.name}: {line}" for one in chosen for _ in range(steps) for line in one.churn.step()]

    def cluster_at(self, server: str) -> Cluster | None:
        """The cluster whose API server has this URL."""
        found = (cluster for cluster in self.clusters.values() if cluster.server == server)
        return next(found, None)

    def _cluster(self, name: str) -> Cluster:
        rng = Random(f"{self.settings.seed}/{name}")
        store = Store(clock=self.now, rng=rng, history_seconds=self.settings.history_seconds)
        fill(store, now=self.now(), rng=rng)
        api = ApiServer(name, store, self.tokens, clock=self.now)
        return Cluster(name, server_url(name), api, Churn(store, clock=self.now, rng=rng))


def server_url(cluster: str) -> str:
    """The URL of a simulated API server, as a kubeconfig names it; nothing listens there."""
    return f"https://{cluster}.cluster.test:6443"


def _is_name(cluster: str) -> bool:
    return bool(cluster) and "/" not in cluster
