"""Bulk requests whose group members travel beside the models (RFC 7644 section 3.7)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from scim2_models import BulkOperation, ConflictException, Resource
from scim2_server.bulk import BULK_ID_PREFIX, BulkPlan, BulkStep

from scim_matrix.scim.incoming import Step
from scim_matrix.scim.members import Change


class Plan(BulkPlan):
    """The library's plan, which also knows the bulkIds that member changes refer to."""

    def __init__(
        self,
        operations: list[BulkOperation[Resource[Any]]],
        fail_on_errors: int | None,
        steps: Sequence[Step],
    ) -> None:
        self._steps = steps
        super().__init__(operations, fail_on_errors)

    def dependencies(self, index: int) -> list[int]:
        """Return the positions of the creations an operation refers to, by members too."""
        referred = [
            entry["value"].removeprefix(BULK_ID_PREFIX)
            for change in self._steps[index].changes
            if BULK_ID_PREFIX in change.members
            for entry in orjson.loads(change.members)
            if entry["value"].startswith(BULK_ID_PREFIX)
        ]
        own = [self.creations[b] for b in referred if b in self.creations]
        return [*super().dependencies(index), *own]

    def member_changes(self, step: BulkStep) -> Sequence[Change]:
        """Return an operation's member changes with bulkIds resolved.

        Raises what made the operation unreadable, or ConflictException for a bulkId under which
        nothing was created.
        """
        sent = self._steps[step.index]
        if sent.error is not None:
            raise sent.error
        return [self._resolved(change) for change in sent.changes]

    def _resolved(self, change: Change) -> Change:
        if BULK_ID_PREFIX not in change.members:
            return change
        entries = orjson.loads(change.members)
        for entry in entries:
            if entry["value"].startswith(BULK_ID_PREFIX):
                bulk_id = entry["value"].removeprefix(BULK_ID_PREFIX)
                if bulk_id not in self.created:
                    raise ConflictException(
                        detail=f"members: no resource was created with the bulkId {bulk_id}"
                    )
                entry["value"] = str(self.created[bulk_id].id)
        return replace(change, members=orjson.dumps(entries).decode())
