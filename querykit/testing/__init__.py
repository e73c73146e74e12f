"""Tools for the tests of what is built on querykit (extra `testing`)."""

from querykit.testing.backend import (
    AddHeaders,
    Backend,
    BackendHandle,
    BackendProcess,
    BackendSettings,
    ControlError,
    Cut,
    Delay,
    Drop,
    Effect,
    Hold,
    Malformed,
    RequestRecord,
    Respond,
    Role,
    SlowBody,
)

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
