"""Quotas as people see and meet them: what a scope says of a key, and what a refused change answers."""

from typing import Any

from tests.support.world import Person, Tenant

QUOTAS = "query($scope: QuotaScope!) { quotas(scope: $scope) { key limit used held percent unit } }"
REFUSED = """
    mutation($input: %s!) { %s(input: $input) {
        errors { message code path ... on QuotaExceededError { key scope limit used requested } }
    } }
"""


def scope_of(tenant: Tenant, kind: str, repository: str = "web") -> dict[str, str]:
    match kind:
        case "account":
            return {"account": tenant.account}
        case "organization":
            return {"organization": tenant.organization}
    return {"organization": tenant.organization, "repository": repository}


async def meter(tenant: Tenant, key: str, kind: str = "organization", by: Person | None = None) -> dict[str, Any]:
    """Limit, used, held, percent and unit."""
    who = by or tenant.owner
    scope = {"scope": scope_of(tenant, kind)}
    answer = await tenant.tidewaiter.graphql(QUOTAS, scope, user=who.name, password=who.password)
    assert not answer.get("errors"), answer
    found: dict[str, dict[str, Any]] = {quota.pop("key"): quota for quota in answer["data"]["quotas"]}
    return found[key]


async def used(tenant: Tenant, key: str = "STORAGE_BYTES", kind: str = "organization") -> tuple[int, int]:
    """What is used, and what is held."""
    found = await meter(tenant, key, kind)
    return int(found["used"]), int(found["held"])


async def limit(
    tenant: Tenant, key: str, kind: str, most: int | None, by: Person | None = None
) -> list[dict[str, Any]]:
    """Sets a limit as the administrator, or as another; returns the errors."""
    return await refusals(tenant, "setQuota", by, scope=scope_of(tenant, kind), key=key, limit=most)


async def refusals(tenant: Tenant, mutation: str, by: Person | None, **given: Any) -> list[dict[str, Any]]:
    """What a change says of why it was refused; nothing when it was done."""
    query = REFUSED % (f"{mutation[0].upper()}{mutation[1:]}Input", mutation)
    signed_in = {} if by is None else {"user": by.name, "password": by.password}
    answer = await tenant.tidewaiter.graphql(query, {"input": given}, **signed_in)
    assert not answer.get("errors"), answer
    errors: list[dict[str, Any]] = answer["data"][mutation]["errors"]
    return errors
