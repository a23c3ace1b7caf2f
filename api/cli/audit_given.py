"""What is given to `audit verify` and `audit witness` besides: keys, kept checkpoints, and an entry.

What cannot be used is named, and told apart from what is verified: a wrong path is no finding about a log.
"""

import json
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path

from registry.audit import kept
from registry.audit.kept import Known
from registry.audit.verdicts import Incomplete, SignedByNone, Tampered, Unusable
from registry.transparency.notes import KeyInvalid, VerifierKey


def read_keys(text: str) -> list[VerifierKey]:
    """Of the text of a key, or of a file with one a line, and never none. Raises `Unusable`."""
    try:
        path = Path(text)
        lines = [text] if "+" in text and not path.is_file() else path.read_text().splitlines()
        if keys := [VerifierKey.parse(line) for line in lines if line.strip()]:
            return keys
        raise Unusable(f"What was given as --key {text} holds no key.")
    except (KeyInvalid, UnicodeDecodeError) as error:
        raise Unusable(f"What was given as --key {text} is no verifier key. {error}") from error
    except OSError as error:
        raise Unusable(f"The key {text} cannot be read: {error.strerror}.") from error


def kept_elsewhere(checkpoints: Sequence[Path], keys: Sequence[VerifierKey]) -> Known:
    """Those of the logs of these keys in these files. Raises `Unusable`, naming the file, if it has none of them, or
    one that these keys did not sign."""
    return kept.together(*(_known_in(path, keys) for path in checkpoints))


def bytes_of(entry: Path) -> bytes:
    """As they were hashed: given so, in base64, or in the line of an export. Raises `Unusable`."""
    try:
        data = entry.read_bytes().strip()
        if data.startswith(b'{"event":'):
            return data
        return b64decode(json.loads(data)["entry"] if data.startswith(b"{") else data, validate=True)
    except OSError as error:
        raise Unusable(f"The entry {entry} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(
            f"{entry} holds no entry: give its line in an export, the bytes that were hashed, or their base64."
        ) from error


def _known_in(path: Path, keys: Sequence[VerifierKey]) -> Known:
    try:
        return kept.known_elsewhere(kept.notes_of(path.read_text(), {key.name for key in keys}), keys)
    except SignedByNone:
        why = "None of the keys given has signed it: if the log's key was changed since, give the older one too."
    except (Incomplete, Tampered, UnicodeDecodeError) as error:
        why = str(error)
    except OSError as error:
        why = f"{error.strerror}."
    raise Unusable(f"The checkpoint {path} cannot be compared. {why}")
