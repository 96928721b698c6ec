"""Whose account a user gets, asked of a server whose accounts belong to MAS (tests/synapse)."""

from aiohttp import web

from scim_matrix.demo.mas import Mas
from scim_matrix.demo.service import ScimClient
from tests.conftest import eventually
from tests.mas.hands import MasAdmin, MasServer
from tests.synapse import test_whose_account as whose
from tests.synapse.conftest import (
    StartService,
    command,
    logged,
    mxid,
    settled,
    shown,
    shown_with_cure,
)
from tests.synapse.test_whose_account import (
    test_a_conflict_touches_nothing,
    test_a_display_name_that_is_too_long_keeps_nobody_out,
    test_a_former_account_goes_back_to_its_subject,
    test_a_former_account_without_a_subject_goes_to_nobody_else,
    test_a_human_gives_nobody_another_users_account,
    test_a_human_links_a_conflicting_user_and_unlinks_again,
    test_a_lost_database_changes_no_account_that_has_a_subject,
    test_a_lost_database_gives_nobody_an_account_that_nothing_proves_theirs,
    test_a_name_registered_while_its_user_was_inactive_stays_its_owners,
    test_a_user_stored_inactive_gets_an_account_once_active,
    test_adoption_takes_an_account_that_is_linked_to_nobody,
    test_an_account_made_after_the_backup_is_found,
    test_an_account_that_leads_elsewhere_by_now_is_not_linked_again,
    test_an_address_of_two_users_stays_with_the_first,
    test_an_address_that_its_holder_gave_up_is_given,
    test_every_place_shows_a_conflict,
    test_nobody_gets_the_services_own_account,
    test_swapped_external_ids_end_right,
    test_the_power_that_a_conflicting_account_has_by_hand_stays,
    test_what_the_service_locked_it_unlocks_but_not_a_lock_by_hand_before,
)

__all__ = [
    "test_a_conflict_touches_nothing",
    "test_a_display_name_that_is_too_long_keeps_nobody_out",
    "test_a_former_account_goes_back_to_its_subject",
    "test_a_former_account_without_a_subject_goes_to_nobody_else",
    "test_a_human_gives_nobody_another_users_account",
    "test_a_human_links_a_conflicting_user_and_unlinks_again",
    "test_a_lost_database_changes_no_account_that_has_a_subject",
    "test_a_lost_database_gives_nobody_an_account_that_nothing_proves_theirs",
    "test_a_name_registered_while_its_user_was_inactive_stays_its_owners",
    "test_a_user_stored_inactive_gets_an_account_once_active",
    "test_adoption_takes_an_account_that_is_linked_to_nobody",
    "test_an_account_made_after_the_backup_is_found",
    "test_an_account_that_leads_elsewhere_by_now_is_not_linked_again",
    "test_an_address_of_two_users_stays_with_the_first",
    "test_an_address_that_its_holder_gave_up_is_given",
    "test_every_place_shows_a_conflict",
    "test_nobody_gets_the_services_own_account",
    "test_swapped_external_ids_end_right",
    "test_the_power_that_a_conflicting_account_has_by_hand_stays",
    "test_what_the_service_locked_it_unlocks_but_not_a_lock_by_hand_before",
]


async def test_a_former_account_goes_to_nobody_else(
    admin: MasAdmin, service: StartService, tag: str
) -> None:
    """The next person of a user name gets nothing of an account that was deactivated."""
    await whose.test_a_user_name_that_comes_again_brings_nothing_of_its_former_owner(
        admin, service, tag, "0"
    )


async def test_adoption_takes_no_account_that_is_linked(
    synapse: MasServer, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """With ADOPT_EXISTING_ACCOUNTS an account that MAS has linked to somebody else conflicts."""
    await whose.test_adoption_takes_no_account_that_is_somebodys(
        synapse,  # type: ignore[arg-type]
        admin,
        service,
        tag,
        "linked to another identity",
    )


async def test_an_address_of_somebody_else_stays_there(
    synapse: MasServer, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """The user gets an account without it, whether it came at once or later, and that is shown."""
    await whose.test_an_address_that_another_account_has_stays_there(
        synapse,  # type: ignore[arg-type]
        admin,
        service,
        tag,
        "somebody",
    )


async def test_an_address_that_mas_refuses_is_left_out(
    mas: Mas, service: StartService, tag: str
) -> None:
    """Comparisons try it again, and record nothing that comes to nothing."""
    address = f"{tag}odd@example.org"
    mas.fault = lambda method, path: (
        web.json_response({"errors": [{"title": "not valid"}]}, status=400)
        if method == "POST" and path.endswith("/user-emails")
        else None
    )
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", emails=[{"value": address}])
        await settled(idp)
        asked = mas.asked.count(("POST", "/user-emails"))

        async def tried() -> int:
            return mas.asked.count(("POST", "/user-emails"))

        await command(process, "sync", "--no-wait")
        await eventually(tried, lambda number: number > asked)
        await settled(idp)
        line = await shown(process, "users", f"{tag}ann", state="active")
        assert f"{address} is refused by MAS: not valid" in line["notice"]
        kinds = [e["kind"] for e in await logged(process) if e["user_id"] == mxid(f"{tag}ann")]
        assert kinds == ["create"]


async def test_a_malformed_address_keeps_nobody_out(
    admin: MasAdmin, service: StartService, tag: str
) -> None:
    """One that MAS does not take is left out and shown."""
    await whose.test_a_malformed_address_is_left_out(admin, service, tag, "two signs")


async def test_only_a_hand_takes_off_what_a_hand_did(
    admin: MasAdmin, service: StartService, tag: str
) -> None:
    """A lock that somebody set in MAS stays."""
    await whose.test_what_a_hand_disabled_only_a_hand_enables(admin, service, tag, "locked")


async def test_a_name_that_only_synapse_has_is_a_conflict(
    mas: Mas, service: StartService, tag: str
) -> None:
    """Where MAS cannot make an account because of Synapse, its words are shown, with the cure."""
    account = await mas.add_account(f"{tag}ann")
    del mas.state.accounts[account.id]
    async with service({}) as process:
        await ScimClient(process.url).create_user(f"{tag}ann")
        line = await shown_with_cure(process, "users", f"{tag}ann", state="conflict")
        assert "reserved by the homeserver" in line["problem"]


async def test_a_name_that_mas_does_not_write_as_matrix_does_gets_its_account(
    synapse: MasServer, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """Blanks and letters beyond ASCII are written as Matrix maps them, which MAS takes."""
    await whose.test_any_user_name_gets_its_account(
        synapse,  # type: ignore[arg-type]
        admin,
        service,
        tag,
        "ä ö",
    )
