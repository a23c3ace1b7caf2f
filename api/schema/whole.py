"""The schema as a whole. `schema.graphql` is its print, kept equal by a test."""

import strawberry

from api.schema.accounts import AccountMutations, AccountQueries
from api.schema.audit import AuditEntry, AuditQueries
from api.schema.audit_proofs import AuditProofQueries
from api.schema.audit_tail import AuditSubscriptions
from api.schema.building import make_schema
from api.schema.credentials import CredentialMutations
from api.schema.errors import ERRORS
from api.schema.nodes import NodeQueries
from api.schema.organizations import OrganizationMutations, OrganizationQueries
from api.schema.permissions import PermissionMutations
from api.schema.quota_estimates import QuotaEstimateQueries
from api.schema.quota_explaining import QuotaExplainingQueries
from api.schema.quota_requests import QuotaRequestMutations, QuotaRequestQueries
from api.schema.quotas import QuotaMutations, QuotaQueries
from api.schema.repositories import RepositoryMutations, RepositoryQueries
from api.schema.scalars import SCALARS
from api.schema.tags import TagMutations
from api.schema.usage import UsageQueries
from api.schema.users import UserMutations


@strawberry.type(description="What can be read.")
class Query(
    AccountQueries,
    OrganizationQueries,
    RepositoryQueries,
    QuotaQueries,
    QuotaExplainingQueries,
    QuotaEstimateQueries,
    QuotaRequestQueries,
    UsageQueries,
    AuditQueries,
    AuditProofQueries,
    NodeQueries,
):
    pass


@strawberry.type(description="What can be changed. Each is one transaction, and on the books.")
class Mutation(
    AccountMutations,
    UserMutations,
    CredentialMutations,
    OrganizationMutations,
    RepositoryMutations,
    TagMutations,
    PermissionMutations,
    QuotaMutations,
    QuotaRequestMutations,
):
    pass


@strawberry.type(description="What can be followed, as a stream of events.")
class Subscription(AuditSubscriptions):
    pass


schema = make_schema(Query, Mutation, Subscription, types=[*ERRORS, AuditEntry], scalars=SCALARS)
