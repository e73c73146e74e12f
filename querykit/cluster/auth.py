"""Logging in and out of clusters: tokens, who keeps them, and what a change does to the cache (S3)."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from querykit.client import QueryClient
from querykit.cluster.logins import Credential, Login
from querykit.cluster.logout import Logout, Telling
from querykit.cluster.names import checked_cluster, checked_header
from querykit.events import Subscription
from querykit.identity import use_identity
from querykit.signals import emit, logged_out, token_cleared, token_set

__all__ = ["Auth", "GetToken", "SetToken"]

F = TypeVar("F")

SetToken: TypeAlias = Callable[[str, str | None], Any]
"""Keeps a cluster's token, or drops it (None); async or not. What it returns, `set_token` returns."""

GetToken: TypeAlias = Callable[[str], str | Awaitable[str | None] | None]
"""Returns a cluster's token, or None; async or not."""

LOGIN_TIMEOUT: Final = 120.0
LOGOUT_TIMEOUT: Final = 10.0


class Tell(Protocol):
    """How the backend is told of a token, or that there is none: it answers with `Set-Cookie` headers."""

    async def __call__(self, cluster: str, token: str | None, *, cookie: str, timeout: float) -> Sequence[str]:
        """Send it; raise what the backend says against it."""
        ...


class Auth:
    """The logins of one `ClusterClient`.

    Without overrides the backend keeps each token in cookies; they are held here, and sent with each request
    for their cluster. With overrides someone else keeps the tokens.
    """

    def __init__(self, client: QueryClient, tell: Tell) -> None:
        self._client = client
        self._tell = tell
        self._logins: dict[str, Login] = {}
        self._tellings: dict[Telling, None] = {}
        self._setters: list[SetToken] = []
        self._getters: list[GetToken] = []

    def __repr__(self) -> str:
        return f"<Auth of {len(self._logins)} clusters>"

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that something was asked of, or that were logged in to, so far."""
        return tuple(self._logins)

    def override(self, *, set_token: SetToken | None = None, get_token: GetToken | None = None) -> Subscription:
        """Let someone else keep the tokens; what a change of token does to the cache stays the same.

        Overlapping calls reach `set_token` as they come: who needs an order brings it. A token that changes
        without a call of `ClusterClient.set_token` is a change that the cache cannot know of.

        Args:
            set_token: called with a cluster and its new token, or None; async or not.
            get_token: called with a cluster before each request; what it returns is sent as a bearer token.

        Returns:
            What ends the override.

        Raises:
            TypeError: neither is given, or one is not callable.

        Example:
            >>> from querykit.client import QueryClient
            >>> from querykit.cluster import ClusterClient
            >>> tokens = {"prod": "s3cret"}
            >>> cluster = ClusterClient(QueryClient(), "http://localhost:4466")
            >>> undo = cluster.auth.override(set_token=tokens.__setitem__, get_token=tokens.get)
        """
        given = [hook for hook in (set_token, get_token) if hook is not None]
        if not given or not all(callable(hook) for hook in given):
            raise TypeError("override takes set_token=, get_token= or both, each a callable")
        undo = [
            *([] if set_token is None else [_put(self._setters, set_token)]),
            *([] if get_token is None else [_put(self._getters, get_token)]),
        ]
        self._begin_anew()

        def end() -> None:
            for one in undo:
                one()
            self._begin_anew()

        return Subscription(end)

    def _begin_anew(self) -> None:
        """Tokens come from elsewhere now: nothing that was computed under the former ones counts."""
        for login in tuple(self._logins.values()):
            _ = self._change(login, login.take_turn(), has_token=False)
            self._restart(login)

    # Tokens

    async def set_token(self, cluster: str, token: str | None, *, renewal: bool = False) -> Any:
        """See `ClusterClient.set_token`."""
        login = self._login(cluster)
        if token is not None and not isinstance(token, str):
            raise TypeError(f"a token is text or None, not a {type(token).__name__}")
        token = token or None
        turn, before = login.take_turn(), login.generation
        renewal = renewal and token is not None and login.is_in_force
        setter = self._setters[-1] if self._setters else None
        result, set_cookie = await self._store(login, token, setter)
        if setter is None and login.is_overtaken(turn):
            return result  # as if it had been in force until that later call
        if renewal and login.generation == before:
            login.begin(turn, set_cookie, has_token=True)
            emit(token_set, self._client, cluster=cluster)
            return result
        told = self._change(login, turn, set_cookie, has_token=token is not None)
        emit(token_cleared if token is None else token_set, self._client, cluster=cluster)
        if token is not None:
            self._restart(login)
        await told
        return result

    async def _store(self, login: Login, token: str | None, setter: SetToken | None) -> tuple[Any, Sequence[str]]:
        if setter is not None:
            return await _settled(setter(login.cluster, token)), ()
        cookie = login.cookies.header()
        return True, await self._tell(login.cluster, token, cookie=cookie, timeout=LOGIN_TIMEOUT)

    async def credential(self, cluster: str, *, has_header: bool = False) -> Credential:
        """Return what a request for a cluster is sent with now, and name it (S3).

        Args:
            cluster: the cluster's name.
            has_header: whether the request has an `Authorization` header of its own.

        Raises:
            TypeError: the name is not text, or what an override gave is no token.
            ValueError: the name is empty, or the token has characters that a header must not have.
        """
        login = self._login(cluster)
        while True:
            use_identity(login.identity)
            generation, is_ending, bearer = login.generation, login.is_ending, None
            if self._getters and not is_ending:
                bearer = _bearer(cluster, await _settled(self._getters[-1](cluster)))
            if generation == login.generation:  # else it changed while an override was asked
                counts = has_header or bool(bearer) or login.is_in_force
                return Credential(login, generation, bearer, login.cookies.header(), counts and not is_ending)

    def take_cookies(self, credential: Credential, set_cookie: Iterable[str]) -> None:
        """Take the cookies of a reply, unless the token has changed since its request."""
        if credential.is_current:
            credential.login.cookies.take(set_cookie)

    # Logging out

    def logout(self, cluster: str) -> Logout:
        """See `ClusterClient.logout`."""
        login = self._login(cluster)
        return Logout(self._client, [self._end(login, login.take_turn())])

    def logout_all(self, clusters: Iterable[str]) -> Logout:
        """See `ClusterClient.logout_all`."""
        logins = [self._login(cluster) for cluster in clusters]
        return Logout(self._client, [self._end(login, login.take_turn()) for login in logins])

    async def refused(self, credential: Credential) -> None:
        """Log out after a 401, once for all that were sent with the same token; a failure is reported."""
        login = credential.login
        if credential.is_current:
            try:
                # No call of anyone's, so it has no turn of its own: a token that is being set comes after it.
                await Logout(self._client, [self._end(login, login.applied)])
            except Exception as error:
                self._client.report(f"the logout of {login.cluster!r} after a 401 failed", error)
        elif login.telling is not None and login.ended == credential.generation:
            with suppress(Exception):  # reported by the first
                await login.telling.wait()

    def _end(self, login: Login, turn: int) -> Telling:
        if login.telling is not None and login.is_ending:
            login.apply(turn)  # a token that is being set since is overtaken
            return login.telling
        ended, cookie = login.generation, login.cookies.header()
        told = self._change(login, turn, has_token=False)
        login.ended = ended
        # The rules of `bind_auth` do this too, but outside of the query function that may be running here:
        # they would cancel it.
        _ = self._client.remove_queries(("auth",))
        _ = self._client.remove_queries(("clusterMe", login.cluster), exact=True)
        try:
            login.telling = telling = Telling(
                self._client,
                f"the logout of {login.cluster!r}",
                lambda: self._say_goodbye(login, ended, cookie, told),
            )
            self._tellings[telling] = None
            telling.task.add_done_callback(lambda _: self._told(login, telling))
        finally:
            emit(token_cleared, self._client, cluster=login.cluster)
            emit(logged_out, self._client, cluster=login.cluster)
        return telling

    async def _say_goodbye(self, login: Login, ended: int, cookie: str, told: Awaitable[None]) -> None:
        try:
            if self._setters:
                await _settled(self._setters[-1](login.cluster, None))
            else:
                await self._tell(login.cluster, None, cookie=cookie, timeout=LOGOUT_TIMEOUT)
        finally:
            if self._getters and login.is_ending and login.ended == ended:
                _ = self._change(login, 0, has_token=False)  # from now on they are asked for a token again
        await told

    def _told(self, login: Login, telling: Telling) -> None:
        del self._tellings[telling]
        if login.telling is telling:  # it may hold an error, whose traceback holds the request
            login.telling = None

    async def aclose(self) -> None:
        """Wait for the logouts that are under way; after a time they are given up."""
        tasks = [telling.task for telling in self._tellings]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LOGOUT_TIMEOUT)
            for task in late:
                task.cancel()

    # What a change does

    def _change(self, login: Login, turn: int, set_cookie: Iterable[str] = (), *, has_token: bool) -> Awaitable[None]:
        """Begin a new generation and forget what the former brought; what is returned ends when all are told."""
        _ = self._client.forget(login.identity)  # raises in a wrong thread, while nothing has changed
        login.begin(turn, set_cookie, has_token=has_token)
        return self._client.forget(login.identity)  # a listener may have begun something under the old token

    def _restart(self, login: Login) -> None:
        _ = self._client.forget(login.identity, restart=True)

    def _login(self, cluster: str) -> Login:
        login = self._logins.get(cluster)
        if login is None:
            login = self._logins[checked_cluster(cluster)] = Login(cluster)
        return login


def _put(hooks: list[F], hook: F) -> Subscription:
    hooks.append(hook)
    return Subscription(lambda: hooks.remove(hook))


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _bearer(cluster: str, token: object) -> str | None:
    return checked_header(token, f"the token that get_token gave for {cluster!r}") if token else None
