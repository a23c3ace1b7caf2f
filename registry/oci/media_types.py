"""The media types a registry must tell apart, and whether a client wants one of them.

Layers and configs may be of any type, since artifacts bring their own; those listed here are the ones with a
meaning. Sources: image-spec 1.1, media-types.md; distribution, manifest-v2-2.md.
"""

from collections.abc import Iterable

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_NONDISTRIBUTABLE_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_NONDISTRIBUTABLE_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_PLUGIN_CONFIG = "application/vnd.docker.plugin.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

# Not kept any more: schema1 has no digest over its own bytes, and the artifact manifest never left its draft.
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OCI_ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"

IMAGE_MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = IMAGE_MANIFESTS | INDEXES
SCHEMA1_MANIFESTS = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG, DOCKER_PLUGIN_CONFIG, OCI_EMPTY})
LAYERS = frozenset({OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER})
# Their bytes may not be handed out by just any registry; the descriptor's urls say where they are to be had.
FOREIGN_LAYERS = frozenset(
    {OCI_NONDISTRIBUTABLE, OCI_NONDISTRIBUTABLE_GZIP, OCI_NONDISTRIBUTABLE_ZSTD, DOCKER_FOREIGN_LAYER}
)

# Clients that name one of these mean "whatever you have": curl, and scripts that expect JSON.
_ANYTHING = frozenset({"*/*", "application/*", "application/json"})


def is_index(media_type: str) -> bool:
    return media_type in INDEXES


def is_manifest(media_type: str) -> bool:
    """Whether this registry keeps it as a manifest: images and indexes alike."""
    return media_type in MANIFESTS


def bare(header: str) -> str:
    """A media type without its parameters, in lower case: what two spellings of the same type share."""
    return header.partition(";")[0].strip().lower()


def accepted(media_type: str, accept_headers: Iterable[str]) -> bool:
    """Whether a client that sent these Accept headers takes this type. No header at all takes everything;
    preferences (`q`) are not weighed, since a manifest exists in one type only."""
    wanted = {bare(part) for header in accept_headers for part in header.split(",")} - {""}
    return not wanted or media_type.lower() in wanted or not wanted.isdisjoint(_ANYTHING)
