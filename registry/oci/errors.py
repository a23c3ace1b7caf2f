"""What the OCI language refuses. Each `code` is the one clients are shown (distribution-spec 1.1, "Error
Codes"; those of tags and ranges come from Docker's registry, and clients know them)."""

from registry.errors import Invalid


class DigestInvalid(Invalid):
    code = "DIGEST_INVALID"


class ManifestInvalid(Invalid):
    """Where one field is to blame, `detail` holds its place as `field`: `layers[2].digest`."""

    code = "MANIFEST_INVALID"


class NameInvalid(Invalid):
    code = "NAME_INVALID"


class SizeInvalid(Invalid):
    code = "SIZE_INVALID"


class TagInvalid(Invalid):
    code = "TAG_INVALID"


class RangeInvalid(Invalid):
    """To be answered with 416. For downloads, `detail` holds `size`, the bytes there are."""

    code = "RANGE_INVALID"


class ScopeInvalid(Invalid):
    """Only the token door shows it, which has no codes of its own."""

    code = "SCOPE_INVALID"


def shown(text: str) -> str:
    """Foreign text as a message may hold it: quoted, shortened, and ASCII, so that look-alike letters are
    told apart and nothing in it can break a log line or an encoding."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
