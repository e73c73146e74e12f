"""How requests reach a proxy, and how they prove themselves to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import aiohttp
import yarl
from multidict import CIMultiDict

from querykit.http.headers import merged
from querykit.http.urls import absolute

__all__: list[str] = []


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy or none. Its URL holds no password: what shows the URL shows none."""

    url: yarl.URL | None
    tunnels: bool
    headers: CIMultiDict[str] = field(repr=False)

    @classmethod
    def of(
        cls,
        base_url: str,
        url: str | yarl.URL | None,
        auth: tuple[str, str] | None,
        headers: Mapping[str, str] | None,
    ) -> Self:
        """Return the proxy of these options.

        Raises:
            TypeError: an option is of a wrong type.
            ValueError: the URL or a header cannot be used, or there is no proxy for them.
        """
        tunnels = base_url.startswith("https:")
        checked = merged(headers)
        if url is None:
            if auth is not None or checked:
                raise ValueError("proxy_auth and proxy_headers are of no use without proxy")
            return cls(None, tunnels, checked)
        parsed = absolute(url, "proxy", "http://proxy.example.com:3128")
        if auth is None and parsed.user is not None:
            auth = (parsed.user, parsed.password or "")
        if auth is not None:
            user, password = auth
            checked["Proxy-Authorization"] = aiohttp.encode_basic_auth(user, password)
        return cls(parsed.with_user(None), tunnels, checked)

    def request_headers(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Return the headers of a request: a proxy that does not tunnel reads them."""
        return headers if self.tunnels else merged(headers, self.headers)

    def connect_headers(self) -> CIMultiDict[str] | None:
        """Return the headers of a `CONNECT`, for a proxy that tunnels; aiohttp writes into them."""
        return self.headers.copy() if self.url is not None and self.tunnels else None
