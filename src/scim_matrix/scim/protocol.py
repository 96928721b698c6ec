"""The protocol library set up for this service: what it announces, tolerates and answers."""

from http import HTTPStatus
from typing import Any, cast

from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    Context,
    ETag,
    Filter,
    Patch,
    PatchOp,
    Resource,
    ResourceType,
    ResponseParameters,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
)
from scim2_server.conditions import Conditions
from scim2_server.handler import AsyncScimHandler
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService
from scim2_server.utils import load_default_resource_types, load_default_schemas

from scim_matrix.scim.storage import RequestStorage

MAX_RESULTS = 1000
DEFAULT_PAGE = 100
# authentik cuts its PATCHes by this number whether or not Bulk is supported.
MAX_OPERATIONS = 1000
USER = "urn:ietf:params:scim:schemas:core:2.0:User"


def make_provider(max_body_bytes: int) -> ScimProvider:
    """Return the description of this service.

    Models come from the schemas, not from the library's typed User, whose e-mail check refuses
    internal domains.
    """
    config = ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=MAX_OPERATIONS, max_payload_size=max_body_bytes),
        filter=Filter(supported=True, max_results=MAX_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
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


class Handler(AsyncScimHandler):
    """The library's operations, with member changes in the same transaction."""

    async def replace_resource(
        self,
        resource_type: ResourceType,
        current: Resource[Any],
        replacement: Resource[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        """Replace a resource and, for a group, its members."""
        replaced = await super().replace_resource(resource_type, current, replacement, conditions)
        return await cast(RequestStorage, self.storage).change_members(replaced)

    async def patch_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        patch_op: "PatchOp[Any]",
        conditions: Conditions,
    ) -> Resource[Any]:
        """Patch a resource and, for a group, its members."""
        patched = await super().patch_resource(resource_type, resource_id, patch_op, conditions)
        return await cast(RequestStorage, self.storage).change_members(patched)
