"""The credentials besides a cluster's token: backend and Backstage tokens, and kubeconfigs."""

import secrets
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from querykit.client import QueryClient
from querykit.cluster.kubeconfigs import KubeconfigStore
from querykit.cluster.names import checked_header
from querykit.identity import use_identity

__all__ = ["Sources"]

BACKEND_HEADER: Final = "X-HEADLAMP_BACKEND-TOKEN"
BACKSTAGE_HEADER: Final = "X-BACKSTAGE-TOKEN"
KUBECONFIG_HEADER: Final = "KUBECONFIG"
USER_HEADER: Final = "X-HEADLAMP-USER-ID"


class Sources:
    """What one `ClusterClient` adds to its requests; to change a credential forgets what came of it (S3).

    Raises:
        TypeError: a value is of a wrong type.
        ValueError: a value may not stand in a header, or is no kubeconfig.
    """

    def __init__(
        self,
        client: QueryClient,
        *,
        backend_token: str | None,
        backstage_token: str | None,
        user_id: str | None,
        kubeconfigs: Iterable[str] | KubeconfigStore,
    ) -> None:
        self._client = client
        self._backend_token = _checked(backend_token, "backend_token")
        self._backstage_token = _checked(backstage_token, "backstage_token")
        self._user_id = _checked(user_id, "user_id")
        self._kubeconfigs = _store(kubeconfigs)
        self._unsubscribe = self._kubeconfigs.subscribe(self._kubeconfigs_changed)

    def __repr__(self) -> str:
        return f"<Sources with {self._kubeconfigs!r}>"

    @property
    def backend_token(self) -> str | None:
        """What the backend itself asks for."""
        return self._backend_token

    @backend_token.setter
    def backend_token(self, token: str | None) -> None:
        token = _checked(token, "backend_token")
        if token != self._backend_token:
            self._change(("backend",), lambda: setattr(self, "_backend_token", token), there_is_one=bool(token))

    @property
    def backstage_token(self) -> str | None:
        """What a Backstage in front of the backend asks for."""
        return self._backstage_token

    @backstage_token.setter
    def backstage_token(self, token: str | None) -> None:
        token = _checked(token, "backstage_token")
        if token != self._backstage_token:
            self._change(("backstage",), lambda: setattr(self, "_backstage_token", token), there_is_one=bool(token))

    @property
    def user_id(self) -> str:
        """By what the backend tells one user's kubeconfigs from another's; made when first needed."""
        if self._user_id is None:
            self._user_id = secrets.token_hex(8)
        return self._user_id

    @property
    def kubeconfigs(self) -> KubeconfigStore:
        """The kubeconfigs of stateless clusters."""
        return self._kubeconfigs

    @kubeconfigs.setter
    def kubeconfigs(self, kubeconfigs: Iterable[str] | KubeconfigStore) -> None:
        store = _store(kubeconfigs)
        changed = self._kubeconfigs.differing(store)
        self._unsubscribe()
        self._kubeconfigs = store
        self._unsubscribe = store.subscribe(self._kubeconfigs_changed)
        self._kubeconfigs_changed(changed)

    def headers(self, cluster: str | None) -> dict[str, str]:
        """Return the headers of a request, and name each source, also one that has nothing to give."""
        headers: dict[str, str] = {}
        use_identity(("backend",))
        if self._backend_token is not None:
            headers[BACKEND_HEADER] = self._backend_token
        use_identity(("backstage",))
        if self._backstage_token is not None:
            headers[BACKSTAGE_HEADER] = self._backstage_token
        if cluster is not None:
            use_identity(("kubeconfig", cluster))
            kubeconfig = self._kubeconfigs.find(cluster)
            if kubeconfig is not None:
                headers[KUBECONFIG_HEADER] = kubeconfig
                headers[USER_HEADER] = self.user_id
        return headers

    def close(self) -> None:
        """No longer hear of the store's changes."""
        self._unsubscribe()

    def _kubeconfigs_changed(self, clusters: frozenset[str]) -> None:
        for cluster in clusters:
            there_is_one = self._kubeconfigs.find(cluster) is not None
            _ = self._client.forget(("kubeconfig", cluster), restart=there_is_one)

    def _change(self, identity: Hashable, change: Callable[[], None], *, there_is_one: bool) -> None:
        _ = self._client.forget(identity)  # raises in a wrong thread, while nothing has changed
        change()
        _ = self._client.forget(identity, restart=there_is_one)


def _checked(value: str | None, what: str) -> str | None:
    return checked_header(value, what) if value else None


def _store(kubeconfigs: Iterable[str] | KubeconfigStore) -> KubeconfigStore:
    return kubeconfigs if isinstance(kubeconfigs, KubeconfigStore) else KubeconfigStore(kubeconfigs)
