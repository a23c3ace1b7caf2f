"""audit witness: for a tenant or an auditor who keeps watch over somebody else's log, from another machine."""

import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from api.cli.audit_given import read_keys
from api.cli.fetching import within
from api.cli.writing import Unwritable
from registry.audit import witnessing
from registry.audit.verdicts import Unusable
from registry.audit.witnessing import Contradiction, Damaged, Look, SignedByNone, Unproven
from registry.transparency.notes import SignerKey, VerifierKey, cosignature
from registry.wording import one_line

NEW_KEY = " Perhaps its key was changed: ask the operator, and give the new one beside the old."
CONSISTENT, CONTRADICTED, UNREACHABLE = 0, 1, 2
VISIT_SECONDS = 60.0
YEAR = 365 * 86_400.0


def witness(
    url: Annotated[str, typer.Argument(help="The registry's address, such as https://registry.example.")],
    key: Annotated[list[str], typer.Option("--key", help="The log's verifier key, or a file of such.")],
    state: Annotated[Path, typer.Option("--state", help="The file that remembers what was seen last.")],
    every: Annotated[
        float | None, typer.Option(min=1, max=YEAR, help="Look again after so many seconds, for ever.")
    ] = None,
    cosign: Annotated[
        Path | None, typer.Option("--cosign", help="A signing key; made if it is not there. Signs what was seen.")
    ] = None,
) -> None:
    """Look whether the log continues what was seen before. Exit 0: it does, 1: it does not, 2: cannot be told."""
    if every is not None and not 1 <= every <= YEAR:  # else Typer lets pass what is no number
        raise typer.BadParameter(f"--every is a number of seconds from 1 to {YEAR:.0f}")
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise typer.BadParameter("the address must begin with https:// or http://")
        keys = [one for text in key for one in read_keys(text)]
        signer = None if cosign is None else _signer(cosign)
    except (Unusable, ValueError, OSError) as error:
        raise typer.BadParameter(one_line(str(error))) from error

    while True:
        status = _look(within(VISIT_SECONDS, f"{url.rstrip('/')}/audit"), keys, state, signer)
        if status == CONTRADICTED or every is None:
            raise typer.Exit(status)
        time.sleep(every)


def _look(read: witnessing.Read, keys: list[VerifierKey], state: Path, signer: SignerKey | None) -> int:
    """Its status. What is told may hold what the server wrote."""
    try:
        look = witnessing.visit(read, keys, state)
        typer.echo(one_line(_told(look)))
        if signer is not None:
            _cosign(look, state, signer)
        return CONSISTENT
    except Contradiction as contradiction:
        said, status = f"{contradiction}{_ended(contradiction, keys)} {_evidence(state, contradiction)}", CONTRADICTED
    except (Unproven, Damaged, Unwritable) as error:
        said, status = str(error), UNREACHABLE
    except (OSError, ValueError) as error:
        said, status = f"The log cannot be read: {error}", UNREACHABLE
    typer.echo(one_line(said), err=True)
    return status


def _cosign(look: Look, state: Path, signer: SignerKey) -> None:
    """Raises `Unwritable`."""
    line = cosignature(look.checkpoint.text, signer, int(time.time()))
    path = state.with_name(f"{state.name}.cosigned")
    try:
        path.write_text(look.note + line)
    except OSError as error:
        raise Unwritable(f"{path} cannot be written: {error.strerror}.") from error


def _evidence(state: Path, contradiction: Contradiction) -> str:
    """Where it is. What was found is found, though the disk be full."""
    try:
        return f"The evidence is in {witnessing.keep_evidence(state, contradiction)}."
    except OSError as error:
        return f"The evidence cannot be kept: {error}"


def _ended(contradiction: Contradiction, keys: list[VerifierKey]) -> str:
    """What there is to say when another log is served than the one that is watched. Nobody we know has signed its
    name, so that is shown as what it may be: any text."""
    served, watched = contradiction.notes[-1].partition("\n")[0][:200], sorted({key.name for key in keys})
    if served in watched:
        return NEW_KEY if isinstance(contradiction, SignedByNone) else ""
    return (
        f" What is served calls itself {served!a}: the log {' or '.join(watched)} has ended, or this is another's "
        "address. Ask the operator why. If you take the answer, watch the new log with its own key."
    )


def _signer(path: Path) -> SignerKey:
    """Raises `KeyInvalid`, OSError."""
    if not path.exists():
        fresh = SignerKey.generate(f"witness-{path.resolve().name}")
        path.touch(mode=0o600)
        path.write_text(f"{fresh}\n")
    return SignerKey.parse(path.read_text().strip())


def _told(look: Look) -> str:
    checkpoint = look.checkpoint
    if look.ended is not None:
        return (
            f"{checkpoint.origin}: {checkpoint.size} entries. It has taken the place of {look.ended.origin}, which had "
            f"{look.ended.size} entries and has ended: ask the operator why, and look for the entry 'audit.reopen'."
        )
    if look.before is None:
        return f"{checkpoint.origin}: {checkpoint.size} entries, seen for the first time."
    return f"{checkpoint.origin}: {checkpoint.size} entries, consistent with the {look.before} seen before."
