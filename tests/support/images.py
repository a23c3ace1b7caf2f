"""Small images, made of bytes alone: no engine, no network, and the same digests on each run.

    image = make_layout(tmp_path / "image", [payload("web", 4096)], tag="1.0")
    image.digest        # what a client that changes nothing must find in the registry

A layer is a gzipped tar that holds one file. Payloads from different seeds share no bytes, so that no test
finds its blobs in the registry because another test pushed them. Layout: OCI image-spec 1.1, image-layout.md.
"""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Image:
    """An image in an OCI layout on disk. `layers` are digests, `payloads` what each layer's file holds."""

    folder: Path
    tag: str
    digest: str
    config_digest: str
    layers: tuple[str, ...]
    size_bytes: int
    payloads: tuple[bytes, ...] = field(repr=False)


def payload(seed: str, size_bytes: int) -> bytes:
    """Bytes that do not compress, and are the same for the same seed."""
    return random.Random(seed).randbytes(size_bytes)


def make_layout(folder: Path, layers: Sequence[bytes], tag: str = "latest") -> Image:
    """One image, under `tag`, in a new layout. `layers` are payloads, the lowest first."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    archives = [_layer(number, content) for number, content in enumerate(layers)]
    zipped = [gzip.compress(archive, mtime=0) for archive in archives]
    config = _json(_config(archives))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, blob) for blob in zipped],
        }
    )
    for blob in (*zipped, config, manifest):
        (blobs / _hex(blob)).write_bytes(blob)
    named = _descriptor(MANIFEST, manifest) | {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [named]}))
    return Image(
        folder=folder,
        tag=tag,
        digest=f"sha256:{_hex(manifest)}",
        config_digest=f"sha256:{_hex(config)}",
        layers=tuple(f"sha256:{_hex(blob)}" for blob in zipped),
        size_bytes=sum(len(blob) for blob in (*zipped, config, manifest)),
        payloads=tuple(layers),
    )


def make_docker_archive(path: Path, name: str, *payloads: bytes) -> None:
    """What `docker save` would write for an image called `name`. Older engines cannot load a layout."""
    archives = [_layer(number, content) for number, content in enumerate(payloads)]
    config = _json(_config(archives))
    members = {f"{_hex(config)}.json": config}
    members |= {f"{_hex(archive)}/layer.tar": archive for archive in archives}
    listing = {
        "Config": f"{_hex(config)}.json",
        "RepoTags": [name],
        "Layers": [f"{_hex(archive)}/layer.tar" for archive in archives],
    }
    path.write_bytes(_tar(members | {"manifest.json": _json([listing])}))


def _layer(number: int, content: bytes) -> bytes:
    return _tar({f"payload-{number}": content})


def _tar(members: Mapping[str, bytes]) -> bytes:
    """An archive without times or owners, so that the same members always give the same digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _config(archives: Sequence[bytes]) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_hex(archive)}" for archive in archives]},
    }


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_hex(blob)}", "size": len(blob)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _hex(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()
