"""What a target names, by what the action is about."""

import pytest

from registry.audit.targets import NOTHING, Named, named

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("action", "target", "found"),
    [
        ("image.push", "acme/web:1.0", Named("acme", "web", "1.0")),
        ("image.pull", f"acme/web@{DIGEST}", Named("acme", "web")),
        ("image.push", "acme/web", Named("acme", "web")),
        ("tag.delete", "acme/team/web/api:latest", Named("acme", "team/web/api", "latest")),
        ("blob.pull", f"acme/web@{DIGEST}", Named("acme", "web")),
        ("referrer.list", f"acme/web@{DIGEST}", Named("acme", "web")),
        ("organization.create", "acme", Named("acme")),
        ("organization_permission.set", "acme:grace", Named("acme")),
        ("repository_permission.set", "acme/web:grace", Named("acme", "web")),
        ("share.create", "acme/web:harbour", Named("acme", "web")),
        ("repository.pull", "acme/web", Named("acme", "web")),
        ("user.create", "grace", NOTHING),
        ("quota.set", "organization acme STORAGE_BYTES", NOTHING),
        ("audit.read", "audit log", NOTHING),
        ("image.pull", "", NOTHING),
        ("image.pull", "acme/web:1.0:2.0", NOTHING),
    ],
)
def test_a_target_is_taken_apart(action: str, target: str, found: Named) -> None:
    assert named(action, target) == found
