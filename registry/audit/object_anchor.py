"""An anchor in an object store that speaks S3: one object for each checkpoint, never overwritten.

Where the bucket keeps versions under a retention lock, not even its owner can take a checkpoint back. Names count down,
so that the newest is the first that a listing gives.
"""

import hashlib
import hmac
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from xml.sax.saxutils import unescape

from registry.audit.anchors import AnchorFailed, Aside

SECONDS = 5
LONGEST_ANSWER = 4 * 1024 * 1024
DIGITS = 20
KEYS = re.compile("<Key>([^<]*)</Key>")
NEXT = re.compile("<NextContinuationToken>([^<]*)</NextContinuationToken>")


@dataclass(frozen=True, slots=True)
class Bucket:
    """`endpoint` is the store's address; objects are addressed by path, as every such store takes it."""

    endpoint: str
    name: str
    prefix: str
    region: str
    key: str
    secret: str

    @classmethod
    def parse(cls, address: str, key: str, secret: str) -> "Bucket":
        """Of `s3://bucket/prefix?endpoint=https://store:9000&region=…`."""
        parts = urlsplit(address)
        wishes = dict(parse_qsl(parts.query))
        prefix = parts.path.strip("/")
        region = wishes.get("region", "us-east-1")
        return cls(wishes["endpoint"].rstrip("/"), parts.netloc, f"{prefix}/" if prefix else "", region, key, secret)


class ObjectAnchor:
    def __init__(self, bucket: Bucket) -> None:
        self.name = f"s3://{bucket.name}/{bucket.prefix}"
        self._bucket = bucket
        self._aside = Aside(self.name)

    async def newest(self) -> str | None:
        return await self._aside.run(self._newest)

    async def put(self, note: str) -> None:
        await self._aside.run(self._put, note)

    async def all(self) -> AsyncIterator[str]:
        token = ""
        while True:
            names, token = await self._aside.run(self._list, 1000, token)
            for name in names:
                yield await self._aside.run(self._get, name)
            if not token:
                return

    def _newest(self) -> str | None:
        names, _ = self._list(1, "")
        return self._get(names[0]) if names else None

    def _put(self, note: str) -> None:
        """One that is there already says the same; a key that was changed only signs it anew."""
        name = f"{self._bucket.prefix}{10**DIGITS - 1 - int(note.split(chr(10))[1]):0{DIGITS}}"
        status, _ = self._ask("PUT", name, {}, note.encode(), {"if-none-match": "*"})
        if status == 412 and self._get(name).partition("\n\n")[0] != note.partition("\n\n")[0]:
            raise AnchorFailed(f"The anchor {self.name} holds another checkpoint of the same size.")

    def _get(self, name: str) -> str:
        return self._ask("GET", name, {})[1].decode("utf-8", "replace")

    def _list(self, most: int, token: str) -> tuple[list[str], str]:
        query = {"list-type": "2", "max-keys": str(most), "prefix": self._bucket.prefix}
        query |= {"continuation-token": token} if token else {}
        text = self._ask("GET", "", query)[1].decode("utf-8", "replace")
        following = NEXT.search(text)
        names = [unescape(one) for one in KEYS.findall(text)]
        return names, unescape(following[1]) if following else ""

    def _ask(
        self, method: str, name: str, query: Mapping[str, str], body: bytes = b"", more: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body; 412 is an answer like any other. Raises `AnchorFailed`."""
        path = quote(f"/{self._bucket.name}/{name}" if name else f"/{self._bucket.name}")
        url = f"{self._bucket.endpoint}{path}" + (f"?{_query(query)}" if query else "")
        headers = signed(self._bucket, method, url, body, datetime.now(UTC)) | dict(more or {})
        request = urllib.request.Request(url, body if method == "PUT" else None, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read(LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 412:
                return 412, b""
            raise AnchorFailed(f"The anchor {self.name} answers {error.code} to {method}.") from error
        except (OSError, HTTPException, ValueError) as error:
            raise AnchorFailed(f"The anchor {self.name} cannot be reached: {error}.") from error


def signed(bucket: Bucket, method: str, url: str, body: bytes, moment: datetime) -> dict[str, str]:
    """The headers of a request under AWS Signature Version 4."""
    parts, stamp = urlsplit(url), moment.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(headers)
    told = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join((method, parts.path or "/", parts.query, told, names, digest))
    scope = f"{stamp[:8]}/{bucket.region}/s3/aws4_request"
    wanted = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{bucket.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.digest(key, wanted.encode(), hashlib.sha256).hex()
    credential = f"Credential={bucket.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": f"AWS4-HMAC-SHA256 {credential}"}


def _query(query: Mapping[str, str]) -> str:
    """In the order and with the escapes that the signature is made over."""
    return urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
