"""Where bytes lie: one port, and a store for each kind of place.

Content is known by its digest and stored once per installation. What a caller may rely on: `commit` returns only when
the bytes are whole, hashed, durable and in place, so a row that makes them visible can follow; a blob that was
readable stays byte for byte the same until it is deleted; memory per transfer is bounded.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

from registry.errors import NotFound, Unavailable
from registry.oci.digest import Digest


class BlobMissing(NotFound):
    """A row says the bytes are here, and they are not."""

    code = "BLOB_MISSING"


class StagingLost(NotFound):
    """Fewer bytes are staged than the database has seen accepted; the upload has to begin anew."""

    code = "STAGING_LOST"


class StorageFull(Unavailable):
    code = "STORAGE_FULL"


class Staging(Protocol):
    """One upload, open for one request."""

    @property
    def offset(self) -> int:
        """Bytes taken so far, whether they have reached the disk or not."""

    async def write(self, data: bytes) -> None:
        """Appends and hashes. Raises `StorageFull`."""

    async def pause(self) -> int:
        """Puts away what has come and closes; returns the offset at which `open_upload` goes on. Raises
        `StorageFull`."""

    async def commit(self, expected: Digest) -> None:
        """Makes the upload the blob of this digest, durably, and closes. Raises `DigestInvalid`, and stays open then,
        with what is staged; and `StorageFull`.

        May be called by two uploads of the same bytes at once, and for a blob that exists.
        """

    def leave(self) -> None:
        """Closes the staging and changes nothing: another request has taken the upload over."""

    async def abort(self, keep: int) -> None:
        """Cuts the upload back to its first `keep` bytes and closes. May follow a failed `commit`."""


class BlobStore(Protocol):
    async def open_upload(self, upload: UUID, offset: int, algorithm: str = "sha256") -> Staging:
        """Goes on at `offset`, which the database has seen accepted; what a crash left beyond it is cut off.

        Raises `StagingLost` when fewer bytes are there, `StorageFull`.
        """

    async def discard_upload(self, upload: UUID) -> None:
        """May be called twice."""

    async def size(self, digest: Digest) -> int | None: ...

    def read(self, digest: Digest, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes `start` to `end`, both included, in chunks of up to a mebibyte. Raises `BlobMissing` at the first."""

    async def delete(self, digest: Digest) -> None:
        """May be called twice."""

    async def check(self) -> None:
        """Returns when bytes can be stored; raises what stands in the way."""

    def local_file(self, digest: Digest) -> Path | None:
        """The file that holds just these bytes, where there is one."""

    def close(self) -> None: ...
