"""The law of imports holds, and each clause of it catches who breaks it."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

HOUSES, ROOMS, DOORS = (
    "Three houses in a row",
    "Inside the registry, from the door down to the vocabulary",
    "The two doors never meet",
)
TELEMETRY = "Only the telemetry room knows OpenTelemetry's SDK"

# What is planted in which file, and the contract that it breaks.
BREACHES = [
    ("policies/naming.py", "import registry.errors", HOUSES),
    ("registry/clock.py", "import api.paging", HOUSES),
    ("registry/oci/digest.py", "import registry.settings", ROOMS),
    ("registry/work.py", "import registry.system", ROOMS),
    ("registry/access/finding.py", "import registry.audit.reading", ROOMS),
    ("registry/planted.py", "", ROOMS),
    ("api/schema/whole.py", "import registry.protocol.tokens", DOORS),
    ("registry/storage/database.py", "import opentelemetry.trace", TELEMETRY),
]


def linted(folder: Path) -> str:
    command = [LINT, "--no-cache", "--config", folder / "pyproject.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for package in SETTINGS["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_law_of_imports_holds() -> None:
    contracts = len(SETTINGS["contracts"])
    assert f"Contracts: {contracts} kept, 0 broken." in linted(ROOT)


@pytest.mark.parametrize(("file", "line", "contract"), BREACHES, ids=[f"{file}: {line}" for file, line, _ in BREACHES])
def test_a_breach_is_caught(copied: Path, file: str, line: str, contract: str) -> None:
    """And told with the names of both sides."""
    with (copied / file).open("a") as planted:
        planted.write(f"\n{line}\n")
    said = linted(copied)
    assert f"{contract} BROKEN" in " ".join(said.split())
    assert file.removesuffix(".py").replace("/", ".") in said
    assert line.removeprefix("import ").split(".")[0] in said


def test_each_contract_has_its_breach() -> None:
    names = {contract["name"] for contract in SETTINGS["contracts"]}
    assert {contract for _, _, contract in BREACHES} == names
