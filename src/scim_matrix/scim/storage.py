"""The protocol library's storage interface over the store, for one request."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import orjson
from scim2_models import (
    InvalidValueException,
    Meta,
    NoTargetException,
    NotFoundException,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    ScimProvider,
    SearchRequest,
    UniquenessException,
)
from scim2_models.exceptions import SCIMException
from scim2_server.storage import AsyncScimStorage, SearchPage

from scim_matrix.localpart import LocalpartError
from scim_matrix.scim.lengths import check_resource
from scim_matrix.scim.members import Change, Selected
from scim_matrix.scim.people import Identity
from scim_matrix.store import accounts, brake, grants, resources, search, versions
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.resources import Kind, MemberChange, Row

# Kept apart from the document: ids and meta are columns, members rows, passwords nothing of ours.
_APART = {"id", "meta", "members", "groups", "password"}


class SenderGoneException(SCIMException):
    """Whoever sent the request does not wait for its answer any more: nothing was done.

    They may have asked another service by then, and for something else after that.
    """

    status = 408
    _default_detail = "the connection was closed before this was begun"


class RequestStorage(AsyncScimStorage):
    """Reads and writes SCIM resources on behalf of one request.

    A write is one transaction with its consequences (accounts, grants), which know `cause` as the
    request behind them. `member_changes` are what the request wants of the group's members; where
    they are None, members travel inside the models, as the library's storage contract asks.
    `base_url` is what the `$ref` of members begin with. `is_gone` tells whether whoever sent the
    request has left: then nothing is begun, and a write raises SenderGoneException.
    """

    supports_cursors = True

    def __init__(
        self,
        database: Database,
        provider: ScimProvider,
        identity: Identity,
        *,
        writes: bool,
        cause: str | None = None,
        member_changes: Sequence[Change] | None = None,
        base_url: str = "",
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._provider = provider
        self._identity = identity
        self._writes = writes
        self._cause = cause
        self._base_url = base_url
        self._is_gone = is_gone
        self._begun = False
        self.member_changes = member_changes
        self._transaction: Connection | None = None

    def operation(self) -> AbstractAsyncContextManager[None]:
        """Enclose a write in one transaction; a read needs none."""
        return self._write() if self._writes else contextlib.nullcontext()

    @contextlib.asynccontextmanager
    async def _write(self) -> AsyncIterator[None]:
        async with self._database.write(self._cause) as connection:
            # Asked once it is this request's turn: a service that stood still has its requests yet.
            if not self._begun and self._is_gone():
                raise SenderGoneException
            self._begun = True
            self._transaction = connection
            try:
                yield
            finally:
                self._transaction = None

    @contextlib.asynccontextmanager
    async def _connection(self, *, scans: bool = False) -> AsyncIterator[Connection]:
        """Give the transaction of the operation, or one of its own outside of any."""
        if self._transaction is not None:
            yield self._transaction
        elif self._writes:
            async with self._database.write(self._cause) as connection:
                yield connection
        else:
            yield self._database.scanner if scans else self._database.reader

    @property
    def _in_models(self) -> bool:
        return self.member_changes is None

    # -- Reading ------------------------------------------------------------

    async def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        """Return a resource. Raises NotFoundException."""
        async with self._connection() as connection:
            row = await _existing(connection, _kind(resource_type), resource_id)
            return await self._model(connection, row, members=self._in_models)

    async def search(
        self,
        resource_types: list[ResourceType],
        search_request: SearchRequest[Any],
        *,
        position: Any = None,
    ) -> SearchPage:
        """Return a page of what matches, oldest first unless sorted otherwise."""
        models = {_kind(r): self._model_of(_kind(r)) for r in resource_types}
        async with self._connection(scans=True) as connection:
            found = await search.search(connection, models, search_request, position)
            page = [await self._model(connection, r, members=self._in_models) for r in found.rows]
        return SearchPage(found.total, page, found.next, found.previous)

    def _model_of(self, kind: Kind) -> type[Resource[Any]]:
        return cast("type[Resource[Any]]", self._provider.model_for(kind))

    async def _model(self, connection: Connection, row: Row, *, members: bool) -> Resource[Any]:
        model = self._model_of(row.kind)
        # Those whom older versions stored without it count as active.
        document = {"active": True, **row.document} if row.kind == "User" else row.document
        if members and row.kind == "Group":
            found = await resources.members(connection, [row.id], resources.ENTRY_PARTS, "")
            document = {**document, "members": orjson.loads(found.get(row.id, "[]"))}
        with self._provider:
            resource = model.model_validate({**document, "id": row.id})
        resource.meta = Meta.model_validate(
            {
                "resourceType": row.kind,
                "created": row.created,
                "lastModified": row.last_modified,
                "version": _etag(row),
            }
        )
        return resource

    # -- Writing ------------------------------------------------------------

    async def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Store a new resource with its account or members. Raises UniquenessException."""
        kind = _kind(resource_type)
        document = _document(kind, resource, active=True)
        self._check_lengths(kind, document, {})
        async with self._connection() as connection:
            try:
                row = await resources.create(connection, kind, document)
                if kind == "User":
                    wanted = self._identity.wanted(row.id, document)
                    subject = self._identity.sso_subject_attribute
                    await accounts.create(connection, row.id, wanted, subject)
                elif await self._apply(connection, row.id, self._changes_in(resource)):
                    row = await resources.get(connection, kind, row.id)
            except resources.TakenError as error:
                raise UniquenessException(detail=str(error)) from error
            except LocalpartError as error:
                raise InvalidValueException(detail=f"userName: {error}") from error
            return await self._model(connection, row, members=self._in_models)

    async def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
    ) -> Resource[Any]:
        """Replace a resource's attributes. Raises as AsyncScimStorage.update does."""
        kind, resource_id = _kind(resource_type), cast(str, resource.id)
        async with self._connection() as connection:
            former = await _check_version(connection, kind, resource_id, expected_version)
            document = _document(kind, resource, active=former.document.get("active", True))
            self._check_lengths(kind, document, former.document)
            try:
                row = await resources.update(connection, kind, resource_id, document)
                if kind == "User":
                    wanted = self._identity.wanted(row.id, document)
                    subject = self._identity.sso_subject_attribute
                    await accounts.change(connection, row.id, wanted, subject)
            except resources.TakenError as error:
                raise UniquenessException(detail=str(error)) from error
            except LocalpartError as error:
                raise InvalidValueException(detail=f"userName: {error}") from error
            if kind == "Group" and self._in_models:
                await self._apply(connection, row.id, self._changes_in(resource))
                row = await resources.get(connection, kind, resource_id)
            return await self._model(connection, row, members=self._in_models)

    def _check_lengths(self, kind: Kind, document: dict[str, Any], former: dict[str, Any]) -> None:
        """Raise InvalidValueException where a value is longer than an index takes."""
        about = (document, former) if kind == "User" else ({}, {})
        # Ids are ours, and short.
        subjects = [self._identity.subject("", user) for user in about]
        check_resource(document, former, self._identity.sso_subject_attribute, subjects)

    async def heard_of(self, resource: Resource[Any]) -> None:
        """Record that the identity provider has spoken of a user, though it said nothing new.

        What it says again changes nothing, but is newer than any backup that was put back. Of a
        group it is the members that it speaks of; see `change_members`.
        """
        assert resource.meta is not None
        if resource.meta.resource_type == "User":
            async with self._connection() as connection:
                await brake.heard_of_user(connection, cast(str, resource.id))

    async def change_members(self, group: Resource[Any]) -> Resource[Any]:
        """Apply the request's member changes to a group and return it as it is then."""
        if not self.member_changes:
            return group
        async with self._connection() as connection:
            group_id = cast(str, group.id)
            if not await self._apply(connection, group_id, self.member_changes):
                return group
            row = await resources.get(connection, "Group", group_id)
            return await self._model(connection, row, members=False)

    async def _apply(
        self, connection: Connection, group_id: str, changes: Sequence[Change]
    ) -> bool:
        """Apply member changes in order; return whether anything changed."""
        changed, known = False, list[MemberChange]()
        for change in changes:
            if isinstance(change, Selected):
                changed |= await self._change(connection, group_id, known)
                known = await self._members_meant(connection, group_id, change)
            else:
                known.append(change)
        return await self._change(connection, group_id, known) or changed

    async def _change(
        self, connection: Connection, group_id: str, changes: Sequence[MemberChange]
    ) -> bool:
        """Change members that are known; said again, it is newer than any backup all the same."""
        changed = await resources.change_members(connection, group_id, changes)
        for change in changes:
            if change.op == "replace":
                await brake.heard_of_group(connection, group_id)
            elif change.op == "remove":
                await brake.heard_of_group(connection, group_id, change.members)
        return changed

    async def _members_meant(
        self, connection: Connection, group_id: str, change: Selected
    ) -> list[MemberChange]:
        """Return what a change of selected members comes to. Raises NoTargetException."""
        model = self._model_of("Group")
        ids = await search.members_selected(
            connection, model, group_id, change.selection, self._base_url
        )
        if change.op == "replace" and not ids:
            raise NoTargetException(detail=f"path: members[{change.selection}] selects nobody")
        entry = {} if change.op == "remove" else orjson.loads(change.members)[0]
        more = {"display": entry.get("display")} if change.op == "display" else {}
        named = orjson.dumps([{"value": i, **more} for i in ids]).decode()
        if change.op == "replace":
            return [MemberChange("remove", named), MemberChange("add", change.members)]
        return [MemberChange(change.op, named)]

    def _changes_in(self, group: Resource[Any]) -> Sequence[Change]:
        if self.member_changes is not None:
            return self.member_changes
        sent = getattr(group, "members", None) or []
        entries = [{"value": m.value, "display": m.display} for m in sent]
        return [MemberChange("replace", orjson.dumps(entries).decode())]

    async def delete(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        expected_version: str | None = None,
    ) -> None:
        """Delete a resource and end what it granted. Raises as AsyncScimStorage.delete does."""
        kind = _kind(resource_type)
        async with self._connection() as connection:
            await _check_version(connection, kind, resource_id, expected_version)
            await grants.settle_first(connection, [resource_id])
            if kind == "Group":
                await brake.heard_of_group(connection, resource_id)
            else:
                await brake.heard_of_user(connection, resource_id, is_gone=True)
                await accounts.release(connection, resource_id, self._identity.delete_grace)
            await versions.count_up_groups_of(connection, resource_id)
            await resources.delete(connection, kind, resource_id)


def _kind(resource_type: ResourceType | str | None) -> Kind:
    name = resource_type.name if isinstance(resource_type, ResourceType) else resource_type
    return cast(Kind, name)


def _etag(row: Row) -> str:
    return f'W/"{row.version}"'


def _document(kind: Kind, resource: Resource[Any], *, active: bool) -> dict[str, Any]:
    """Return what is stored of a resource; `active` is for a user who does not say."""
    dumped = resource.model_dump(mode="json")
    stored = {k: v for k, v in dumped.items() if k not in _APART}
    if kind == "User" and stored.get("active") is None:
        stored["active"] = active
    return stored


async def _existing(connection: Connection, kind: Kind, resource_id: str) -> Row:
    try:
        return await resources.get(connection, kind, resource_id)
    except resources.NoSuchResourceError as error:
        raise NotFoundException(detail=str(error)) from error


async def _check_version(
    connection: Connection, kind: Kind, resource_id: str, expected: str | None
) -> Row:
    row = await _existing(connection, kind, resource_id)
    if expected is not None and expected != _etag(row):
        raise PreconditionFailedException
    return row
