"""Kubeconfigs of clusters that the backend does not know: each request for one brings its kubeconfig along."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from querykit.events import Subscription

__all__ = ["KubeconfigStore"]

Listener = Callable[[frozenset[str]], object]


@dataclass(frozen=True, slots=True, repr=False)
class _Kubeconfig:
    """One text: as a header carries it, and the clusters it names."""

    encoded: str
    clusters: frozenset[str]


class KubeconfigStore:
    """Kubeconfig texts, found by the name of a cluster: a context's own, or its `headlamp_info.customName`.

    A text is read once, when it comes in. The cluster clients that use a store hear of a change at once, so
    change it in their thread.

    Args:
        texts: kubeconfigs, each as YAML or as its base64.

    Raises:
        TypeError: `texts` is no list of strings.
        ValueError: a text is no kubeconfig.
        ModuleNotFoundError: PyYAML is not installed.

    Example:
        >>> store = KubeconfigStore(["contexts: [{name: dev, context: {cluster: dev, user: ada}}]"])
        >>> store.find("prod") is None, store.find("dev") is None
        (True, False)
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._rows = _read_all(texts)
        self._found = _index(self._rows)
        self._listeners: dict[object, Listener] = {}

    def __repr__(self) -> str:
        return f"<KubeconfigStore of {len(self._rows)} kubeconfigs>"

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def clusters(self) -> frozenset[str]:
        """The names of all clusters that can be found."""
        return frozenset(self._found)

    def find(self, cluster: str) -> str | None:
        """Return the kubeconfig of a cluster in base64, or None. Of several the first one counts."""
        return self._found.get(cluster)

    def add(self, text: str) -> None:
        """Add a kubeconfig, after those there are.

        Raises:
            TypeError: `text` is no string.
            ValueError: it is no kubeconfig.
        """
        self._become([*self._rows, _read(text)])

    def remove(self, cluster: str) -> None:
        """Remove the kubeconfig that `find` returns for a cluster; nothing if there is none."""
        encoded = self.find(cluster)
        self._become([row for row in self._rows if row.encoded != encoded])

    def replace(self, texts: Iterable[str]) -> None:
        """Put other kubeconfigs in place of all.

        Raises:
            TypeError: `texts` is no list of strings.
            ValueError: a text is no kubeconfig; the store is as it was.
        """
        self._become(_read_all(texts))

    def subscribe(self, listener: Listener) -> Subscription:
        """Call `listener` after each change with the names of the clusters that it concerns."""
        token = object()
        self._listeners[token] = listener
        return Subscription(lambda: self._drop(token))

    def _drop(self, token: object) -> None:
        del self._listeners[token]

    def _become(self, rows: list[_Kubeconfig]) -> None:
        before, self._rows, self._found = self._found, rows, _index(rows)
        changed = changed_clusters(before, self._found)
        for listener in tuple(self._listeners.values()) if changed else ():
            listener(changed)

    def differing(self, other: "KubeconfigStore") -> frozenset[str]:
        """Return the names of the clusters for which `other` finds something else."""
        return changed_clusters(self._found, other._found)


def changed_clusters(before: Mapping[str, str], after: Mapping[str, str]) -> frozenset[str]:
    """Return the names that lead to something else than before."""
    return frozenset(name for name in {*before, *after} if before.get(name) != after.get(name))


def _index(rows: Iterable[_Kubeconfig]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        for cluster in row.clusters:
            found.setdefault(cluster, row.encoded)
    return found


def _read_all(texts: Iterable[str]) -> list[_Kubeconfig]:
    if isinstance(texts, (str, bytes)):
        raise TypeError("kubeconfigs are a list of texts, not one text")
    return [_read(text) for text in texts]


def _read(text: str) -> _Kubeconfig:
    if not isinstance(text, str):
        raise TypeError(f"a kubeconfig is a text of YAML or base64, not a {type(text).__name__}")
    if ":" in text:  # every kubeconfig in YAML has one, and no base64
        return _Kubeconfig(base64.b64encode(text.encode()).decode(), _clusters(text))
    encoded = "".join(text.split())
    return _Kubeconfig(encoded, _clusters(_decoded(encoded)))


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        pass  # raised below: this error would hold the text
    raise ValueError("a kubeconfig is neither YAML nor base64")


def _clusters(text: str) -> frozenset[str]:
    document = _parsed(text)
    names: set[str] = set()
    for context in _items(document, "contexts"):
        names.add(str(context.get("name") or ""))
        for extension in _items(context.get("context"), "extensions"):
            info: object = extension.get("extension")
            if extension.get("name") == "headlamp_info" and isinstance(info, Mapping):
                names.add(str(cast("Mapping[str, object]", info).get("customName") or ""))
    names.discard("")
    if not names:
        raise ValueError("a kubeconfig names no context")
    return frozenset(names)


def _parsed(text: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "reading a kubeconfig needs PyYAML: install querykit[kubernetes]", name="yaml"
        ) from error
    try:
        document: object = yaml.safe_load(text)
        return document
    except yaml.YAMLError:
        pass  # raised below: this error quotes the text
    raise ValueError("a kubeconfig is not valid YAML")


def _items(value: object, section: str) -> list[Mapping[str, Any]]:
    """Return the mappings in a list of a document; what has another shape is left out."""
    found: object = cast("Mapping[str, Any]", value).get(section) if isinstance(value, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if _is_list(found) else []


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
