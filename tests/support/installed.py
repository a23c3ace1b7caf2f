"""Which real clients and foreign verifiers this machine has, and what follows for the tests that need one.

A test that needs an absent client is skipped on a person's machine. Where CI is set a skip would hide that
nothing was tested, so the test fails there, unless `TESTS_WITHOUT_CLIENTS` names the client: whoever runs the
tests has then said aloud that it cannot be installed.
"""

import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path

import pytest

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Daemons live in sbin, which the PATH of a person may lack."""

GOPATH = Path("/usr/share/gocode")
"""Where Debian's packages of Go libraries lie, golang-golang-x-mod-dev among them."""

PROGRAMS = {
    "docker": ("docker", "dockerd", "containerd", "setpriv"),
    "podman": ("podman",),
    "skopeo": ("skopeo",),
    "go": ("go",),
}
LIBRARIES = {"go": (GOPATH / "src/golang.org/x/mod/sumdb",)}
MODULES = {"oras": ("oras",)}


def require_client(name: str) -> None:
    """Skips, or fails under CI, when this machine cannot run the client; the reason says what is missing."""
    lacking = missing(name)
    if not lacking:
        return
    if name in os.environ.get("TESTS_WITHOUT_CLIENTS", "").split():
        pytest.skip(f"NOT TESTED: {name} cannot be installed here ({lacking})")
    if os.environ.get("CI"):
        pytest.fail(f"{name} cannot run here: {lacking}. Install it, or name it in TESTS_WITHOUT_CLIENTS.")
    pytest.skip(f"NOT TESTED: {name} cannot run here: {lacking}")


def missing(name: str) -> str:
    """What the client lacks on this machine, in words; empty when it lacks nothing."""
    absent = [each for each in PROGRAMS.get(name, ()) if not _found(each)]
    absent += [each for each in MODULES.get(name, ()) if not importlib.util.find_spec(each)]
    absent += [str(each) for each in LIBRARIES.get(name, ()) if not each.is_dir()]
    if absent:
        return f"{', '.join(absent)} not installed"
    if name == "docker" and os.geteuid() != 0:
        return "dockerd starts for root only"
    return ""


def program(name: str) -> str:
    """The full path of an installed program. Raises FileNotFoundError."""
    found = _found(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


@cache
def _found(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)
