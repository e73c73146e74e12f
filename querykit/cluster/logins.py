"""What is held for each cluster's login, and what one request takes of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from querykit.cluster.cookies import TokenCookies
from querykit.cluster.logout import Telling

__all__ = ["Credential", "Login"]


class Login:
    """One cluster's login; anonymous until a token is set.

    Attributes:
        cluster: the cluster's name.
        applied: the highest turn that took effect.
        generation: raised whenever the token changes; what was sent under an older one no longer counts.
        has_token: whether a token was set, and neither cleared nor ended by a logout.
        cookies: the cookies that the backend gave for the token.
        telling: the last logout's message to the backend, while it is under way.
        ended: the generation that this logout ended.
    """

    __slots__ = ("_calls", "applied", "cluster", "cookies", "ended", "generation", "has_token", "telling")

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.applied = 0
        self.generation = 0
        self.has_token = False
        self.cookies = TokenCookies()
        self.telling: Telling | None = None
        self.ended = -1
        self._calls = 0

    def __repr__(self) -> str:
        return f"<Login at {self.cluster!r}, generation {self.generation}>"

    @property
    def identity(self) -> tuple[str, str]:
        """The identity of what is computed under this login (S3)."""
        return ("cluster", self.cluster)

    @property
    def is_in_force(self) -> bool:
        """Whether there is a token: one that was set, or one that the backend gave by itself."""
        return self.has_token or self.cookies.hold_token

    @property
    def is_ending(self) -> bool:
        """Whether the backend is being told that this login has ended, and no token was set since."""
        return self.telling is not None and self.ended == self.generation - 1

    def take_turn(self) -> int:
        """Return the number of a call that changes the token; the highest that took effect wins."""
        self._calls += 1
        return self._calls

    def is_overtaken(self, turn: int) -> bool:
        """Whether a later call has taken effect already."""
        return self.applied > turn

    def apply(self, turn: int) -> None:
        """Let the call of this number overtake the earlier ones that have not taken effect yet."""
        self.applied = max(self.applied, turn)

    def begin(self, turn: int, set_cookie: Iterable[str] = (), *, has_token: bool) -> None:
        """Begin a new generation by the call of this number, with the cookies of these headers alone."""
        self.apply(turn)
        self.generation += 1
        self.has_token = has_token
        self.cookies = TokenCookies()
        self.cookies.take(set_cookie)


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What one request carries of a login.

    Attributes:
        login: whose it is.
        generation: the login's, when it was read.
        bearer: the token for an `Authorization` header, if there is one.
        cookie: the `Cookie` header, or empty.
        counts: whether a 401 says that a login has ended: it was neither anonymous nor ending then.
    """

    login: Login
    generation: int
    bearer: str | None
    cookie: str
    counts: bool

    @property
    def is_current(self) -> bool:
        """Whether the token is still the same."""
        return self.generation == self.login.generation
