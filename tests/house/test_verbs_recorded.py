"""Whatever can be changed through GraphQL, and every route and method of the registry, has an action of the log."""

from api.schema.whole import schema
from registry.protocol.app import ROUTES
from tests.support.actions import PAGE, documented


def verbs() -> set[str]:
    mutations = schema._schema.mutation_type
    assert mutations is not None
    return {*mutations.fields, *(f"{method} {route}" for route, _, handlers in ROUTES for method in handlers)}


def test_every_mutation_and_every_verb_of_the_registry_has_an_action_and_nothing_else_has() -> None:
    assert {"createUser", "PUT /v2/{name}/manifests/{reference}", "POST /token"} <= verbs()
    assert documented().keys() == verbs()


def test_each_action_of_a_request_is_described() -> None:
    described = {line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    for request, actions in documented().items():
        assert actions, request
        assert actions <= described, request


def test_every_mutation_takes_a_reason() -> None:
    mutations = schema._schema.mutation_type
    assert mutations is not None
    assert len(mutations.fields) > 20
    for name, mutation in mutations.fields.items():
        reason = mutation.args["input"].type.of_type.fields["reason"]
        assert str(reason.type) == "String", name
        assert "audit log" in reason.description, name
