"""A migration stays as it is once databases have been through it: another one mends it.

Whoever writes one adds it here. A digest that is to be changed here is that of a migration which nobody has run yet.
"""

import hashlib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "registry/storage/migrations/versions"
DIGESTS = {
    "2026_11_23_first_light.py": "50088a619033e539",
    "2026_11_23_sealed_log.py": "dcd90efed112da1b",
    "2026_11_25_finding_entries.py": "963e8b98877906f1",
    "2026_11_25_small_bodies.py": "2739629b6f720c5a",
    "2026_11_26_months_in_turn.py": "e942873d5104a74f",
    "2026_11_26_quota_engine.py": "8ccc94287665b0d3",
    "2026_11_26_quota_given_back.py": "dd5ff0e6cc5f203b",
    "2026_11_26_rare_entries.py": "6b4d2d8f89d6d782",
}


def test_every_migration_is_as_it_was() -> None:
    found = {each.name: hashlib.sha256(each.read_bytes()).hexdigest()[:16] for each in FOLDER.glob("*.py")}
    assert found == DIGESTS
