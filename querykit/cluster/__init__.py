"""Kubernetes clusters by way of a Headlamp-style backend, or directly: requests, logins, and the cache kept in step."""

from querykit.cluster.auth import Auth, GetToken, SetToken
from querykit.cluster.client import ClusterClient
from querykit.cluster.kubeconfigs import KubeconfigStore
from querykit.cluster.logout import Logout
from querykit.cluster.me import UserInfo
from querykit.cluster.parameters import Parameters, QueryParameters
from querykit.cluster.verbs import ClusterOptions

__all__ = [
    "Auth",
    "ClusterClient",
    "ClusterOptions",
    "GetToken",
    "KubeconfigStore",
    "Logout",
    "Parameters",
    "QueryParameters",
    "SetToken",
    "UserInfo",
]
