"""The one table from refusals to what OCI clients understand, and how a refusal is answered.

Codes are those of the distribution spec, a closed list: clients act on them. Ours stands in `detail.code`. What is
final is DENIED with 403: docker shows its text at once and does not try again, whereas 413, 5xx and unknown codes make
it repeat the whole push.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from registry import deciding
from registry.accounts.throttling import TooManySignIns
from registry.errors import Conflict, Denied, Invalid, NotFound, Refusal, TrafficExceeded, Unauthenticated, Unavailable
from registry.oci import errors as oci
from registry.repositories.creating import RepositoryNameInvalid
from registry.repositories.deleting import BlobInUse, BlobUnknown, ManifestUnknown
from registry.repositories.pushing import PartsMissing, TooManyTags
from registry.repositories.uploading import BlobTooLarge, TooManyUploads, UploadBusy, UploadUnknown

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


class ManifestTooLarge(Invalid):
    code = "MANIFEST_TOO_LARGE"


class MethodUnknown(Invalid):
    """`detail` holds allow, the methods this address knows."""

    code = "UNSUPPORTED"


class AddressUnknown(NotFound):
    code = "NOT_FOUND"


class PageInvalid(Invalid):
    code = "PAGINATION_NUMBER_INVALID"


# The most particular class decides.
TABLE: dict[type[Refusal], tuple[int, str]] = {
    Unauthenticated: (401, "UNAUTHORIZED"),
    Denied: (403, "DENIED"),
    BlobTooLarge: (403, "DENIED"),
    TrafficExceeded: (429, "TOOMANYREQUESTS"),
    deciding.PlaceNotFound: (404, "NAME_UNKNOWN"),
    ManifestUnknown: (404, "MANIFEST_UNKNOWN"),
    BlobUnknown: (404, "BLOB_UNKNOWN"),
    UploadUnknown: (404, "BLOB_UPLOAD_UNKNOWN"),
    AddressUnknown: (404, "NAME_UNKNOWN"),
    NotFound: (404, "NAME_UNKNOWN"),
    oci.NameInvalid: (400, "NAME_INVALID"),
    RepositoryNameInvalid: (400, "NAME_INVALID"),
    oci.TagInvalid: (400, "TAG_INVALID"),
    oci.DigestInvalid: (400, "DIGEST_INVALID"),
    oci.ManifestInvalid: (400, "MANIFEST_INVALID"),
    oci.SizeInvalid: (400, "SIZE_INVALID"),
    oci.RangeInvalid: (416, "BLOB_UPLOAD_INVALID"),
    PartsMissing: (400, "MANIFEST_BLOB_UNKNOWN"),
    PageInvalid: (400, "PAGINATION_NUMBER_INVALID"),
    ManifestTooLarge: (413, "MANIFEST_INVALID"),
    TooManyTags: (414, "TAG_INVALID"),
    MethodUnknown: (405, "UNSUPPORTED"),
    BlobInUse: (405, "UNSUPPORTED"),
    UploadBusy: (416, "BLOB_UPLOAD_INVALID"),
    TooManyUploads: (429, "TOOMANYREQUESTS"),
    TooManySignIns: (429, "TOOMANYREQUESTS"),
    Unavailable: (503, "UNAVAILABLE"),
    Invalid: (400, "UNSUPPORTED"),
    Conflict: (409, "DENIED"),
}
# What stands elsewhere in the answer.
UNTOLD = {"retryAfter", "scope", "allow", "path"}


def shown_as(refusal: Refusal) -> tuple[int, str]:
    """Status and OCI code."""
    return next(TABLE[kind] for kind in type(refusal).__mro__ if kind in TABLE)


def answer(refusal: Refusal, request_id: str, headers: Mapping[str, str]) -> Response:
    status, code = shown_as(refusal)
    detail: dict[str, Any] = {"code": refusal.code, "requestId": request_id}
    scope = refusal.detail.get("scope")
    if isinstance(refusal, Denied) and scope:
        detail["scope"] = scope
    detail |= {name: value for name, value in refusal.told.items() if name not in UNTOLD}
    # docker and its kin show the message alone, and with it their user finds the entry of the audit log.
    message = f"{refusal.message} [request {request_id}]"
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return Response(
        orjson.dumps(body), status, {**VERSION, **headers, **_extra(refusal)}, media_type="application/json"
    )


def _extra(refusal: Refusal) -> dict[str, str]:
    extra = {}
    if (seconds := refusal.detail.get("retry_after")) is not None:
        extra["Retry-After"] = str(seconds)
    if allow := refusal.detail.get("allow"):
        extra["Allow"] = ", ".join(allow)
    return extra
