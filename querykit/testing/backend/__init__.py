"""A Headlamp-style backend with simulated clusters behind it, to run a client against.

Example:
    async with Backend.start(BackendSettings(clusters=("main",), seed=1)) as backend:
        token = await backend.issue_token("main", user="ada", role="view")
        await backend.set_fault(Respond(503, retry_after="1"), path="/pods$", times=1)
        ...                                     # requests to backend.cluster_url("main")
        assert len(await backend.requests(path="/clusters/main/api/v1/pods")) == 2

It behaves like the servers it stands for, not like any client of them.
"""

from querykit.testing.backend.auth import Role
from querykit.testing.backend.faults import (
    AddHeaders,
    Cut,
    Delay,
    Drop,
    Effect,
    Hold,
    Malformed,
    Respond,
    SlowBody,
)
from querykit.testing.backend.remote import BackendHandle, ControlError
from querykit.testing.backend.requestlog import RequestRecord
from querykit.testing.backend.server import Backend, BackendProcess
from querykit.testing.backend.simulation import BackendSettings

__all__ = [
    "AddHeaders",
    "Backend",
    "BackendHandle",
    "BackendProcess",
    "BackendSettings",
    "ControlError",
    "Cut",
    "Delay",
    "Drop",
    "Effect",
    "Hold",
    "Malformed",
    "RequestRecord",
    "Respond",
    "Role",
    "SlowBody",
]
