"""audit verify: how anybody checks the log, with an export of it and its verifier key.

It needs no settings, no database and no server, and loads nothing of them unless `--database` asks for it: it is what
an auditor runs elsewhere. It exits with 0 when all is sound, with 1 when something was tampered with, and with 2 when
what was given is not enough to tell.
"""

import gzip
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer

from api.cli.audit_given import bytes_of, kept_elsewhere, read_keys
from api.cli.audit_verdicts import as_json, told
from registry.audit import proven, taking, verifying
from registry.audit.verdicts import INCOMPLETE, Incomplete, Unusable, Verdict
from registry.transparency import proofs

PROOF, MARK = proofs.FIRST_LINE.encode(), b"\xef\xbb\xbf"  # some editors put the second before the first
ANSWER = b'{"data":'


def verify(
    file: Annotated[Path | None, typer.Argument(help="An export in the format jsonl, or a proof of one entry.")] = None,
    key: Annotated[
        list[str] | None, typer.Option("--key", help="The log's verifier key, or a file of such; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="Signed checkpoints that were kept elsewhere; may be repeated."),
    ] = None,
    entry: Annotated[
        Path | None, typer.Option("--entry", help="The bytes of the entry, or their base64, if the proof has them not.")
    ] = None,
    database: Annotated[bool, typer.Option("--database", help="Verify the log in the database instead.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The verdict as one JSON object.")] = False,
) -> None:
    """Check that nothing was edited, removed, reordered or cut off. Exit 0: sound, 1: tampered with, 2: incomplete."""
    if database == (file is not None):
        raise typer.BadParameter("give a file or --database, one of them")
    if file is not None and not key:
        raise typer.BadParameter("give the log's verifier key with --key; the operator has it from 'audit key'")
    verdict = _of_database(checkpoint or []) if file is None else _of_file(file, key or [], checkpoint or [], entry)
    typer.echo(as_json(verdict) if json else told(verdict, file))
    raise typer.Exit(verdict.status)


def _of_database(checkpoints: list[Path]) -> Verdict:
    """Loaded here, since who verifies a file needs nothing of it."""
    from api.cli.audit_scrubbing import of_database

    return of_database(checkpoints)


def _of_file(file: Path, key: list[str], checkpoints: list[Path], entry: Path | None) -> Verdict:
    try:
        keys = [one for text in key for one in read_keys(text)]
        known = kept_elsewhere(checkpoints, keys)
        given = None if entry is None else bytes_of(entry)
        with _opened(file) as content:
            begun = content.read(len(MARK + PROOF))
            if (text := _proof_in(begun, content)) is not None:
                return proven.verify_entry(text, keys, known, given)
            return verifying.verify(taking.lines_of(_again(begun, content)), keys, known)
    except Unusable as error:
        return Verdict(INCOMPLETE, str(error), untried=True)
    except Incomplete as error:
        return Verdict(INCOMPLETE, str(error))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        return Verdict(INCOMPLETE, f"It cannot be read: {error}", untried=True)
    except MemoryError:
        return Verdict(INCOMPLETE, "It cannot be read: it needs more memory than there is.", untried=True)


def _opened(file: Path) -> BinaryIO:
    if str(file) == "-":
        return sys.stdin.buffer
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # type: ignore[return-value]


def _again(begun: bytes, file: BinaryIO) -> Callable[[int], bytes]:
    """Reads what was read already first. Peeking would see no more than the first write to a pipe."""
    left = [begun]
    return lambda count: (left.pop() if left else b"") or file.read(count)


def _proof_in(begun: bytes, file: BinaryIO) -> str | None:
    """The text of a proof, if the file that begins so is one, or the answer of `auditProof` as it came; else nothing
    is read."""
    begun = begun.removeprefix(MARK)
    if begun.startswith(PROOF):
        return (begun + file.read(taking.LONGEST_LINE)).decode()
    if not begun.startswith(ANSWER):
        return None
    try:
        return str(orjson.loads(begun + file.read(taking.LONGEST_LINE))["data"]["auditProof"]["text"])
    except (ValueError, KeyError, TypeError):
        raise Incomplete("It is an answer of the API without the text of a proof: ask auditProof for it.") from None
