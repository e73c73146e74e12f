"""The cluster client: the Kubernetes API by way of a Headlamp-style backend, and the logins there."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Literal, Self, overload

import yarl

from querykit.client import QueryClient
from querykit.cluster.auth import Auth
from querykit.cluster.kubeconfigs import KubeconfigStore
from querykit.cluster.logout import Logout
from querykit.cluster.me import UserInfo, user_info
from querykit.cluster.names import checked_cluster
from querykit.cluster.requests import Requests
from querykit.cluster.sources import Sources
from querykit.cluster.verbs import RequestMethods
from querykit.errors import ApiError
from querykit.http import HttpTransport
from querykit.options import Options, query_options
from querykit.signals import bind_auth

__all__ = ["ClusterClient"]

SHORT_TIMEOUT: Final = 5.0
RULES_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"


class ClusterClient(RequestMethods):
    """Asks clusters, through a backend or directly, and keeps the cache in step with the logins there.

    One `QueryClient` and one `ClusterClient` are for one principal, such as a browser session, unless each
    key contains the principal (S3).

    Args:
        client: the cache. What its query functions ask here belongs to the login they asked with.
        base_url: where the backend is, such as `http://localhost:4466`; or a transport, which the caller closes.
        current_cluster: the cluster that is meant where none is given.
        backend_token: what the backend itself asks for.
        backstage_token: what a Backstage in front of it asks for.
        user_id: by what the backend tells users' kubeconfigs apart; made when needed, if not given.
        kubeconfigs: a list of kubeconfigs, each as YAML or as its base64, or a store, for clusters that the
            backend does not know.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: the URL, a token or a kubeconfig cannot be used.

    Example:
        >>> client = QueryClient()
        >>> cluster = ClusterClient(client, "http://localhost:4466", current_cluster="prod")
        >>> cluster
        <ClusterClient of http://localhost:4466, current cluster 'prod'>
    """

    def __init__(
        self,
        client: QueryClient,
        base_url: str | yarl.URL | HttpTransport,
        *,
        current_cluster: str | None = None,
        backend_token: str | None = None,
        backstage_token: str | None = None,
        user_id: str | None = None,
        kubeconfigs: Iterable[str] | KubeconfigStore = (),
    ) -> None:
        self._client = client
        self._transport = base_url if isinstance(base_url, HttpTransport) else HttpTransport(base_url)
        self._owns_transport = self._transport is not base_url
        self.current_cluster = current_cluster
        self._sources = Sources(
            client,
            backend_token=backend_token,
            backstage_token=backstage_token,
            user_id=user_id,
            kubeconfigs=kubeconfigs,
        )
        self._requests = Requests(client, self._transport, self._sources)
        self._rules = bind_auth(client)

    def __repr__(self) -> str:
        return f"<ClusterClient of {self._transport.base_url}, current cluster {self._current!r}>"

    # What it is set up with

    @property
    def client(self) -> QueryClient:
        """The cache."""
        return self._client

    @property
    def base_url(self) -> str:
        """Where the backend is."""
        return self._transport.base_url

    @property
    def auth(self) -> Auth:
        """The logins; `auth.override` lets someone else keep the tokens."""
        return self._requests.auth

    @property
    def current_cluster(self) -> str | None:
        """The cluster that is meant where none is given."""
        return self._current

    @current_cluster.setter
    def current_cluster(self, cluster: str | None) -> None:
        self._current = checked_cluster(cluster) if cluster else None

    @property
    def backend_token(self) -> str | None:
        """What the backend itself asks for; another one forgets what was asked with the former."""
        return self._sources.backend_token

    @backend_token.setter
    def backend_token(self, token: str | None) -> None:
        self._sources.backend_token = token

    @property
    def backstage_token(self) -> str | None:
        """What a Backstage asks for; another one forgets what was asked with the former."""
        return self._sources.backstage_token

    @backstage_token.setter
    def backstage_token(self, token: str | None) -> None:
        self._sources.backstage_token = token

    @property
    def user_id(self) -> str:
        """By what the backend tells users' kubeconfigs apart."""
        return self._sources.user_id

    @property
    def kubeconfigs(self) -> KubeconfigStore:
        """The kubeconfigs; a change forgets what was asked with the former ones."""
        return self._sources.kubeconfigs

    @kubeconfigs.setter
    def kubeconfigs(self, kubeconfigs: Iterable[str] | KubeconfigStore) -> None:
        self._sources.kubeconfigs = kubeconfigs

    # Logins

    async def set_token(self, cluster: str, token: str | None, *, renewal: bool = False) -> Any:
        """Log in to a cluster, or out of it by a token that is None or empty.

        Once the backend has accepted it, all that was asked under the former token is forgotten, and queries
        that are observed are fetched again. Of overlapping calls, `logout` included, the last one counts.

        Args:
            cluster: the cluster's name.
            token: the token.
            renewal: whether it is the same user's: the cache is kept.

        Returns:
            True, or what an override returned.

        Raises:
            ApiError: the backend did not accept it; token and cache are as they were.
            TypeError: an argument is of a wrong type.
            ValueError: the cluster's name cannot be used.
        """
        return await self.auth.set_token(cluster, token, renewal=renewal)

    async def get_token(self, cluster: str) -> str | None:
        """Return the token that an override gives; without one None, since cookies are the backend's affair."""
        return (await self.auth.credential(cluster)).bearer

    def logout(self, cluster: str) -> Logout:
        """Log out of a cluster: on return everything is forgotten here, and the backend is being told.

        Returns:
            What ends when the backend was told, and raises if it could not be. Parallel calls share it.

        Raises:
            TypeError: the name of the cluster is not text.
            ValueError: the name cannot be used.
            ClientClosed: the query client was closed; here everything is forgotten all the same.
        """
        return self.auth.logout(cluster)

    def logout_all(self) -> Logout:
        """Log out of every cluster that was used here, and of the current one; see `logout`.

        Of several failures the first is raised, and the others are reported.
        """
        current = [] if self._current is None else [self._current]
        return self.auth.logout_all(dict.fromkeys([*self.auth.clusters, *current]))

    async def test_auth(self, namespace: str = "default", cluster: str | None = None) -> Any:
        """Return what the user may do in a namespace of the given cluster, or else the current one.

        Raises:
            ApiError: the user may not even ask; a 401 does not log out.
        """
        return await self.post(
            RULES_REVIEWS,
            {"spec": {"namespace": namespace}},
            cluster=cluster,
            timeout=SHORT_TIMEOUT,
            auto_logout_on_auth_error=False,
        )

    def auth_options(self, cluster: str) -> Options[Any, Any]:
        """Return the query that guards what only a logged-in user may see: `test_auth`, never retried.

        Example:
            >>> ClusterClient(QueryClient(), "http://localhost:4466").auth_options("prod").key
            ('auth', 'prod')
        """
        cluster = checked_cluster(cluster)
        return query_options(("auth", cluster), lambda: self.test_auth(cluster=cluster), retry=0)

    # Who and how

    async def cluster_me(self, cluster: str | None = None) -> Any:
        """Return who the backend says the user of a cluster is, from the cache for five minutes.

        A 401 does not log out: the backend says it too of tokens that the cluster takes, but it cannot read.
        """
        return await self._client.query(self.me_options(cluster))

    def me_options(self, cluster: str | None = None) -> Options[Any, Any]:
        """Return the query behind `cluster_me`.

        Example:
            >>> ClusterClient(QueryClient(), "http://localhost:4466").me_options("prod").key
            ('clusterMe', 'prod')
        """
        meant = checked_cluster(cluster or self._current or "")

        async def fetch() -> Any:
            return await self.cluster_request("/me", cluster=meant, auto_logout_on_auth_error=False)

        return query_options(("clusterMe", meant), fetch, stale_time=300, retry=1)

    async def user_info(self, cluster: str | None = None) -> UserInfo:
        """Return who the user is: from the backend, or where it cannot say, from the cluster.

        Where the cluster does not tell either, its own name stands for the user's; without any cluster,
        "unknown" does. That holds for an answer: a cluster that gives none is an error.

        Raises:
            ApiError: nobody is logged in, or there was no answer.
        """
        meant = cluster or self._current
        return UserInfo(username="unknown") if meant is None else await user_info(self.cluster_request, meant)

    @overload
    async def test_cluster_health(self, clusters: str | None = None) -> Literal[True]: ...
    @overload
    async def test_cluster_health(
        self, clusters: list[str] | tuple[str, ...]
    ) -> dict[str, Literal[True] | ApiError]: ...
    async def test_cluster_health(self, clusters: str | Iterable[str] | None = None) -> Any:
        """Ask one cluster, the current one if none is given, or each of a list, whether it is healthy.

        Returns:
            True; for a list, by cluster, True or the error.

        Raises:
            ApiError: the one cluster that was asked is not healthy, or did not answer.
        """
        if clusters is None or isinstance(clusters, str):
            await self.request("/healthz", cluster=clusters, is_json=False)
            return True
        names = [checked_cluster(cluster) for cluster in clusters]
        return dict(zip(names, await asyncio.gather(*map(self._health, names)), strict=True))

    async def _health(self, cluster: str) -> Literal[True] | ApiError:
        try:
            return await self.test_cluster_health(cluster)
        except ApiError as error:
            return error

    # Life

    async def aclose(self) -> None:
        """End what was begun here: logouts that are being told, rules, and the transport if it was made here."""
        self._rules()
        self._sources.close()
        await self.auth.aclose()
        if self._owns_transport:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
