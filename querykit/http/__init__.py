"""The aiohttp transport: typed answers, errors that tell, conditional requests, and no secret shown."""

from querykit.errors import ApiError, InvalidBody, RequestTimeout, Unreachable
from querykit.http.answers import Codec, error_from
from querykit.http.transport import HttpTransport, RequestOptions
from querykit.http.urls import EncodedPath, encode_path, join_path

__all__ = [
    "ApiError",
    "Codec",
    "EncodedPath",
    "HttpTransport",
    "InvalidBody",
    "RequestOptions",
    "RequestTimeout",
    "Unreachable",
    "encode_path",
    "error_from",
    "join_path",
]
