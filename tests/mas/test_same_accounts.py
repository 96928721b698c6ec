"""What is asked of any system that keeps accounts (tests/synapse), asked of MAS."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from scim_matrix.demo.mas import ISSUER, Mas
from scim_matrix.demo.synapse import IDP, SERVER_NAME, User
from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from scim_matrix.matrix.transport import Transport
from tests.mas.conftest import Delegated
from tests.synapse.test_synapse_accounts import (
    System,
    test_a_change_leaves_out_what_it_does_not_say,
    test_a_change_to_nobody_makes_nobody,
    test_a_link_that_was_taken_off_leads_nowhere,
    test_a_locked_account_can_be_deactivated,
    test_a_name_that_no_account_can_have_is_refused,
    test_a_subject_of_somebody_else_is_refused,
    test_administrators_are_known,
    test_an_account_is_deactivated_and_comes_back,
    test_an_account_is_erased_after_it_was_deactivated,
    test_an_account_is_locked_and_unlocked,
    test_an_account_is_made_with_everything_at_once,
    test_an_account_is_suspended_and_that_is_lifted,
    test_an_account_needs_neither_subject_nor_profile,
    test_an_account_that_is_there_is_not_made_again,
    test_emails_are_merged,
    test_emails_that_look_like_paths,
    test_names_that_look_like_paths,
    test_others_links_are_kept,
    test_subjects_that_look_like_paths,
    test_what_is_not_there_is_not_found,
)

__all__ = [
    "test_a_change_leaves_out_what_it_does_not_say",
    "test_a_change_to_nobody_makes_nobody",
    "test_a_link_that_was_taken_off_leads_nowhere",
    "test_a_locked_account_can_be_deactivated",
    "test_a_name_that_no_account_can_have_is_refused",
    "test_a_subject_of_somebody_else_is_refused",
    "test_administrators_are_known",
    "test_an_account_is_deactivated_and_comes_back",
    "test_an_account_is_erased_after_it_was_deactivated",
    "test_an_account_is_locked_and_unlocked",
    "test_an_account_is_made_with_everything_at_once",
    "test_an_account_is_suspended_and_that_is_lifted",
    "test_an_account_needs_neither_subject_nor_profile",
    "test_an_account_that_is_there_is_not_made_again",
    "test_emails_are_merged",
    "test_emails_that_look_like_paths",
    "test_names_that_look_like_paths",
    "test_others_links_are_kept",
    "test_subjects_that_look_like_paths",
    "test_what_is_not_there_is_not_found",
]


@dataclass(frozen=True)
class MasSystem(System):
    """MAS and the homeserver behind it, looked at once what was done has come through."""

    mas: Mas

    async def there(self, name: str) -> MatrixAccount:
        """Return an account that has to be there."""
        await self.mas.homeserver.idle()
        return await super().there(name)


@pytest_asyncio.fixture(loop_scope="session")
async def system(mas: Mas, client: MasClient, transport: Transport) -> AsyncIterator[System]:
    """Return the accounts that belong to MAS."""
    other = mas.add_provider("https://other.test")
    accounts = MasAccounts(client, SynapseAccounts(transport, IDP), SERVER_NAME, provider=ISSUER)

    async def make(name: str) -> None:
        await mas.add_account(name)

    async def link_elsewhere(name: str) -> None:
        link = mas.add_link(f"s-{name}", mas.state.account_named(name))
        link.provider_id = other.id

    async def make_admin(name: str) -> None:
        account = mas.state.account_named(name)
        assert account is not None
        account.admin = True

    yield MasSystem(accounts, make, link_elsewhere, make_admin, mas)


@pytest_asyncio.fixture(loop_scope="session")
async def admin(delegated: Delegated) -> User:
    """Return an administrator of the server."""
    return delegated.admin
