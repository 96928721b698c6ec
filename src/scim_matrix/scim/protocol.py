"""The protocol library set up for this service: what it announces, tolerates and answers."""

from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, cast

import structlog
from pydantic import ValidationError
from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    Context,
    Error,
    ETag,
    Filter,
    Pagination,
    Patch,
    PatchOp,
    Resource,
    ResourceType,
    ResponseParameters,
    SCIMException,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
)
from scim2_server.bulk import BulkPlan, BulkStep
from scim2_server.conditions import Conditions
from scim2_server.handler import AsyncScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.routing import Operation
from scim2_server.service import ScimService
from scim2_server.utils import load_default_resource_types, load_default_schemas

from scim_matrix.scim.bulk import Plan
from scim_matrix.scim.incoming import Step
from scim_matrix.scim.query import DEFAULT_PAGE, MAX_RESULTS
from scim_matrix.scim.storage import RequestStorage
from scim_matrix.store.errors import DatabaseTooNewError, DatabaseUnusableError

log = structlog.get_logger(__name__)

# authentik cuts its PATCHes by this number too.
MAX_OPERATIONS = 1000


@cache
def make_provider(max_body_bytes: int) -> ScimProvider:
    """Return the description of this service, which takes the library a while the first time.

    Models come from the schemas, not from the library's typed User, whose e-mail check refuses
    internal domains.
    """
    config = ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=True, max_operations=MAX_OPERATIONS, max_payload_size=max_body_bytes),
        filter=Filter(supported=True, max_results=MAX_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        pagination=Pagination(
            cursor=True,
            index=True,
            default_pagination_method=Pagination.DefaultPaginationMethod.index,
            default_page_size=DEFAULT_PAGE,
            max_page_size=MAX_RESULTS,
        ),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="The WEBHOOK_SECRET of this service as a bearer token",
                primary=True,
            )
        ],
    )
    return ScimProvider.from_discovery(
        load_default_schemas().values(),
        load_default_resource_types().values(),
        config=config,
        policy=ScimPolicy(
            unknown=ScimPolicy.Unknown.ignore,
            remove_value_as_filter=ScimPolicy.RemoveValue.apply,
            unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
        ),
    )


class Service(ScimService):
    """The library's protocol steps with the answers identity providers rely on."""

    def patch_response(
        self,
        base_url: str,
        resource: Resource[Any],
        response_parameters: ResponseParameters[Any],
    ) -> ScimResponse:
        """Answer a PATCH of a user with the user; of a group 204, as the library does."""
        answer = super().patch_response(base_url, resource, response_parameters)
        is_user = resource.meta is not None and resource.meta.resource_type == "User"
        if answer.status != HTTPStatus.NO_CONTENT or not is_user:
            return answer
        return self.resource_response(
            self.publish(base_url, resource),
            Context.RESOURCE_REPLACEMENT_RESPONSE,
            response_parameters,
        )

    @staticmethod
    def error_of(exception: Exception) -> Error:
        """Return the SCIM error of an exception, with a detail that a person can act on."""
        invalid = exception if isinstance(exception, ValidationError) else exception.__cause__
        if isinstance(invalid, ValidationError):
            error = Error.from_validation_errors(invalid)[0]
            if isinstance(exception, SCIMException):
                error.status, error.scim_type = exception.status, exception.scim_type or None
            first = invalid.errors(include_url=False, include_input=False)[0]
            place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
            error.detail = f"{place.lstrip('.')}: {first['msg']}".removeprefix(": ")
            return error
        if isinstance(exception, DatabaseUnusableError | DatabaseTooNewError | OSError):
            log.error("store_failed", error=str(exception), exc_info=exception)
            return Error(status=503, detail="the database cannot be used right now")
        if not isinstance(exception, SCIMException):
            log.error("request_failed", error=repr(exception), exc_info=exception)
        return ScimService.error_of(exception)


class Handler(AsyncScimHandler):
    """The library's operations, with member changes in the same transaction."""

    storage: RequestStorage

    def __init__(self, service: Service, storage: RequestStorage, steps: Sequence[Step]) -> None:
        super().__init__(service, storage)
        self._steps = steps

    async def create(self, request: ScimRequest) -> ScimResponse:
        """Create a resource; the answer holds the attributes asked for (RFC 7644 section 3.9)."""
        selection = {"attributes", "excludedAttributes"} & request.query.keys()
        if not selection:
            return await super().create(request)
        with self.service.provider:
            endpoint = cast(str, self.service.route(request, Operation.create).endpoint)
            resource_type = self.service.resource_type_at(endpoint)
            parameters = self.service.read_response_parameters(resource_type, request.query)
            answer = await super().create(request)
            created = self.service.get_model(resource_type).model_validate(answer.body)
            answer.body = created.model_dump(
                scim_ctx=Context.RESOURCE_CREATION_RESPONSE, response_parameters=parameters
            )
        return answer

    async def replace_resource(
        self,
        resource_type: ResourceType,
        current: Resource[Any],
        replacement: Resource[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        """Replace a resource and, for a group, its members.

        Without a word on `active` people stay as they are: nobody who was locked out comes back.
        """
        if getattr(replacement, "active", True) is None:
            cast("Any", replacement).active = cast("Any", current).active
        replaced = await super().replace_resource(resource_type, current, replacement, conditions)
        await self.storage.heard_of(replaced)
        return await self.storage.change_members(replaced)

    async def patch_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        patch_op: "PatchOp[Any]",
        conditions: Conditions,
    ) -> Resource[Any]:
        """Patch a resource and, for a group, its members."""
        patched = await super().patch_resource(resource_type, resource_id, patch_op, conditions)
        await self.storage.heard_of(patched)
        return await self.storage.change_members(patched)

    async def bulk(self, request: ScimRequest) -> ScimResponse:
        """Run a Bulk request, each operation with its member changes, wholly or not at all."""
        with self.service.provider:
            read = self.service.read_bulk(request.body, request.header("Content-Type"))
            plan = Plan(read.operations, read.fail_on_errors, self._steps)
            for step in plan:
                result, resource = await self.run_bulk_step(request, plan, step)
                plan.record(step, result, resource)
            return self.service.bulk_response(plan)

    async def run_bulk_step(
        self, request: ScimRequest, plan: BulkPlan, step: BulkStep
    ) -> tuple[dict[str, Any], Resource[Any] | None]:
        """Apply one step with its own member changes."""
        try:
            self.storage.member_changes = cast(Plan, plan).member_changes(step)
        except SCIMException as error:
            outcome = self.service.bulk_outcome(request.base_url, plan.operation(step))
            return self.service.bulk_failure(outcome, error), None
        return await super().run_bulk_step(request, plan, step)
