"""DELETE: its options, its preconditions and how long an object stays while it terminates."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from querykit.testing.backend.documents import is_object
from querykit.testing.backend.manifests import Manifest, timestamp
from querykit.testing.backend.resources import NAMESPACES, PODS, Resource
from querykit.testing.backend.selectors import field_value
from querykit.testing.backend.status import bad_request, conflict

__all__ = ["DeleteOptions", "grace_period", "terminating"]

DEFAULT_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """`DeleteOptions` of the API, from the body or from the query."""

    grace_period_seconds: int | None = None
    propagation_policy: str = "Background"
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], *, dry_run: bool) -> Self:
        """Read the API's own field names.

        Raises:
            StatusError: 400 for values of the wrong type.
        """
        grace = fields.get("gracePeriodSeconds")
        preconditions: object = fields.get("preconditions") or {}
        if not is_object(preconditions):
            raise bad_request("preconditions must be an object")
        try:
            seconds = None if grace is None else int(grace)
        except (TypeError, ValueError) as error:
            raise bad_request(f"gracePeriodSeconds must be an integer: {grace!r}") from error
        return cls(
            grace_period_seconds=seconds,
            propagation_policy=str(fields.get("propagationPolicy") or "Background"),
            uid=preconditions.get("uid"),
            resource_version=preconditions.get("resourceVersion"),
            dry_run=dry_run,
        )

    def check(self, resource: Resource, manifest: Manifest) -> None:
        """Hold the preconditions against the object.

        Raises:
            StatusError: 409 when one of them fails.
        """
        metadata = manifest["metadata"]
        if self.uid not in (None, metadata["uid"]):
            raise conflict(
                resource,
                metadata["name"],
                f"the UID in the precondition ({self.uid}) does not match the UID in record "
                f"({metadata['uid']}). The object might have been deleted and then recreated",
            )
        if self.resource_version not in (None, metadata["resourceVersion"]):
            raise conflict(
                resource,
                metadata["name"],
                f"the ResourceVersion in the precondition ({self.resource_version}) does not match "
                f"the ResourceVersion in record ({metadata['resourceVersion']}). "
                "The object might have been modified",
            )


def grace_period(resource: Resource, manifest: Manifest, options: DeleteOptions) -> int:
    """Seconds that the object stays after a DELETE: only a pod that runs on a node has any."""
    finished = field_value(manifest, "status.phase") in ("Succeeded", "Failed")
    if resource is not PODS or finished or not field_value(manifest, "spec.nodeName"):
        return 0
    if options.grace_period_seconds is not None:
        return options.grace_period_seconds
    declared = field_value(manifest, "spec.terminationGracePeriodSeconds")
    return declared if isinstance(declared, int) else DEFAULT_GRACE_SECONDS


def terminating(resource: Resource, manifest: Manifest, *, at: float, grace: int) -> Manifest:
    """The object as it looks after a DELETE that ends `at` (seconds since the epoch)."""
    marked = copy.deepcopy(manifest)
    metadata = marked["metadata"]
    # A second DELETE may shorten the wait, never lengthen it.
    metadata["deletionTimestamp"] = min(metadata.get("deletionTimestamp", timestamp(at)), timestamp(at))
    if resource is PODS:
        metadata["deletionGracePeriodSeconds"] = grace
    if resource is NAMESPACES:
        marked["status"] = {**marked.get("status", {}), "phase": "Terminating"}
    return marked
