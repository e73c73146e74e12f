"""What kinds of objects the simulated API serves: a table, and how a path names one of its rows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DEPLOYMENTS",
    "EVENTS",
    "NAMESPACES",
    "NODES",
    "PODS",
    "REPLICASETS",
    "RESOURCES",
    "Resource",
    "Target",
    "parse_target",
]

METADATA_FIELDS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One row of the table: a resource type in the API's own terms."""

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Field selectors besides `metadata.name` and `metadata.namespace`."""
    required: tuple[str, ...] = ()
    """Fields without which the object is Invalid."""
    phase: str | None = None
    """`status.phase` of a new object."""
    returns_deleted: bool = False
    """DELETE answers with the object instead of a Success Status."""

    @property
    def api_version(self) -> str:
        """As in a manifest, e.g. `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As in an error message, e.g. `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def selectable(self) -> tuple[str, ...]:
        """Every field that a `fieldSelector` may name."""
        return (*METADATA_FIELDS, *self.fields)


NAMESPACES = Resource(
    plural="namespaces",
    kind="Namespace",
    namespaced=False,
    short_names=("ns",),
    fields=("status.phase",),
    phase="Active",
    returns_deleted=True,
)
NODES = Resource(
    plural="nodes",
    kind="Node",
    namespaced=False,
    short_names=("no",),
    fields=("spec.unschedulable",),
)
PODS = Resource(
    plural="pods",
    kind="Pod",
    short_names=("po",),
    fields=(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    required=("spec.containers",),
    phase="Pending",
    returns_deleted=True,
)
EVENTS = Resource(
    plural="events",
    kind="Event",
    short_names=("ev",),
    fields=(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    ),
    required=("involvedObject",),
)
DEPLOYMENTS = Resource(
    group="apps",
    plural="deployments",
    kind="Deployment",
    short_names=("deploy",),
    required=("spec.selector", "spec.template.spec.containers"),
)
REPLICASETS = Resource(
    group="apps",
    plural="replicasets",
    kind="ReplicaSet",
    short_names=("rs",),
    required=("spec.selector",),
)

RESOURCES = (NAMESPACES, NODES, PODS, EVENTS, DEPLOYMENTS, REPLICASETS)


@dataclass(frozen=True, slots=True)
class Target:
    """What an API path addresses: a collection, or one object when `name` is set."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> Resource | None:
        """The row of the table, or None when the API has no such type at this path."""
        for row in RESOURCES:
            if (row.group, row.version, row.plural) == (self.group, self.version, self.plural):
                misplaced = bool(self.namespace) and not row.namespaced and row is not NAMESPACES
                nameless = bool(self.name) and row.namespaced and not self.namespace
                return None if misplaced or nameless else row
        return None


def parse_target(path: str) -> Target | None:
    """Read an API path, e.g. `/apis/apps/v1/namespaces/demo/deployments/web`.

    Returns None for a path that names no resource, such as `/version` or `/api/v1`.
    """
    match path.strip("/").split("/"):
        case ["api", version, *rest] if rest:
            return _target("", version, rest)
        case ["apis", group, version, *rest] if rest:
            return _target(group, version, rest)
        case _:
            return None


def _target(group: str, version: str, rest: list[str]) -> Target:
    match rest:
        case ["namespaces", namespace, "status" | "finalize" as part]:
            return Target(group, version, "namespaces", namespace, namespace, part)
        case ["namespaces", namespace, plural, *tail]:
            pass
        case ["namespaces", namespace]:
            return Target(group, version, "namespaces", namespace, namespace)
        case _:
            namespace = ""
            plural, *tail = rest
    return Target(group, version, plural, namespace, "".join(tail[:1]), "/".join(tail[1:]))
