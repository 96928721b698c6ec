"""What is asked of the homeserver, and what happens when it answers badly."""

from collections.abc import Callable

import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from scim_matrix.matrix.errors import UnavailableError
from scim_matrix.matrix.server import Homeserver
from tests.conftest import eventually
from tests.synapse.conftest import StartService, StartStaffed, command, ready, room_holds, settled
from tests.synapse.proxy import Fault, proxying


async def test_a_change_that_changes_nothing_asks_for_nothing(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A PUT of what is already so sends no request; one new member in 500 sends one."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        people = [await idp.create_user(f"{tag}p{n}") for n in range(6)]
        # Members nobody knows yet fill the group up.
        members = people[:5] + [f"unknown-{n}" for n in range(495)]
        group = await idp.create_group("G", members, externalId="g")
        await room_holds(admin, room, {f"{tag}p{n}" for n in range(5)})
        await settled(idp)
        proxy.requests.clear()

        user = await idp.ok("GET", f"/Users/{people[0]}")
        await idp.ok("PUT", f"/Users/{people[0]}", user)
        body = {
            "displayName": "G",
            "externalId": "g",
            "members": [{"value": m} for m in reversed(members)],
        }
        await idp.ok("PUT", f"/Groups/{group}", body)
        await idp.add(group, people[1])
        await settled(idp)
        assert proxy.asked == []

        await idp.add(group, people[5])
        await room_holds(admin, room, {f"{tag}p{n}" for n in range(6)})
        await settled(idp)
        assert [method for method, _ in proxy.asked] == ["POST"], proxy.asked


def first(number: int, make: Callable[[], web.Response]) -> Fault:
    """Return a fault that answers the first requests for changes in rooms."""
    left = number

    def fault(method: str, path: str) -> web.Response | None:
        nonlocal left
        if left and method == "POST" and ("/join/" in path or path.endswith("/kick")):
            left -= 1
            return make()
        return None

    return fault


async def test_answers_that_say_nothing_are_tried_again(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A proxy's page, a rate limit and a lost answer delay a join and a kick, no more."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        await settled(idp)
        proxy.fault = first(
            2, lambda: web.Response(status=502, text="<html>", content_type="text/html")
        )
        group = await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})

        limited = {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 300}
        proxy.fault = first(2, lambda: web.json_response(limited, status=429))
        await idp.remove(group, person)
        await room_holds(admin, room, set())

        proxy.fault = first(0, web.Response)
        answers = iter([True])
        proxy.lost = lambda method, path: "/join/" in path and next(answers, False)
        await idp.add(group, person)
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(idp)


async def test_a_kick_answered_by_a_proxys_page_is_not_taken_for_done(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """A 502 for a kick leaves it pending: nio alone would report success."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, f"{tag}ann", MATRIX_URL=proxy.url) as s,
    ):
        person = s.people[f"{tag}ann"]
        bad = web.Response
        proxy.fault = lambda method, path: (
            bad(status=502, text="<html>", content_type="text/html")
            if path.endswith("/kick")
            else None
        )
        await s.idp.remove(s.group, person)

        async def kicks() -> int:
            return sum(path.endswith("/kick") for _, path in proxy.requests)

        await eventually(kicks, lambda n: n >= 2)
        work = (await ready(s.idp))["work"]
        assert work["pendingPairs"] == 1


async def test_delegated_accounts_are_left_alone(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Under the Matrix Authentication Service only rooms of existing accounts are changed.

    Nobody is removed until PROTECTED_USERS says who stays: Synapse names no administrators.
    """
    await synapse.register(f"{tag}ann")
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
    ):
        refusal = {"errcode": "M_INVALID_PARAM", "error": "guests"}
        proxy.fault = lambda method, path: (
            web.json_response(refusal, status=400)
            if path.startswith("/_synapse/admin/v2/users?") and "guests=false" not in path
            else None
        )
        async with service({"g": [room]}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            ann = await idp.create_user(f"{tag}ann")
            absent = await idp.create_user(f"{tag}absent")
            await idp.create_group("G", [ann, absent], externalId="g")
            await room_holds(admin, room, {f"{tag}ann"})
            await idp.patch(f"/Users/{ann}", {"op": "replace", "value": {"active": False}})
            await eventually(lambda: ready(idp), lambda s: s["work"]["sparedPairs"] == 1)
            assert f"{tag}ann" in await admin.members(room)
            state = (await ready(idp))["homeserver"]
            assert state["delegatedAuthentication"] is True
            assert "PROTECTED_USERS" in state["removals"]
            _, output = await command(process, "check")
            assert "PROTECTED_USERS" in output
            await process.stop()
            process.more["PROTECTED_USERS"] = "@root:*"
            await process.start()
            await room_holds(admin, room, set())
        changed = [path for method, path in proxy.requests if method == "PUT"]
        assert not [path for path in changed if "/account_data/" not in path]


async def test_a_token_that_is_no_admins_is_said_in_readyz(
    synapse: Synapse, service: StartService, tag: str
) -> None:
    """The probe names the cause; requests are acknowledged meanwhile."""
    nobody = await synapse.register(f"{tag}nobody")
    more = {"MATRIX_ADMIN_USER_ID": nobody.user_id, "MATRIX_ADMIN_TOKEN": nobody.token}
    async with service({}, **more) as process:
        idp = ScimClient(process.url)

        async def condition() -> object:
            homeserver = (await ready(idp))["homeserver"]
            return homeserver["condition"]

        await eventually(condition, lambda c: c == "refused")
        await idp.create_user(f"{tag}ann")
        assert (await ready(idp))["status"] == 503


async def test_a_homeserver_that_is_not_synapse_is_said_in_readyz(
    admin: User, service: StartService
) -> None:
    """Something else at MATRIX_URL is told apart from a ready homeserver."""
    async with proxying("") as proxy:
        proxy.fault = lambda method, path: web.Response(text="<html>", content_type="text/html")
        async with service({}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)

            async def condition() -> object:
                homeserver = (await ready(idp))["homeserver"]
                return homeserver["condition"]

            await eventually(condition, lambda c: c == "down")


async def test_protected_people_and_other_admins_are_never_kicked(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Whatever the identity provider says, they stay where they are, unlocked."""
    other = await synapse.register(f"{tag}root", admin=True)
    link = {"auth_provider": "oidc-demo", "external_id": f"ext-{tag}root"}
    path = f"/_synapse/admin/v2/users/{other.user_id}"
    await admin.call("PUT", path, {"external_ids": [link]})
    room = await admin.create_room()
    more = {"PROTECTED_USERS": f"@{tag}vip:*"}
    async with service({"g": [room]}, **more) as process:
        idp = ScimClient(process.url)
        names = ("root", "vip", "ann")
        people = [await idp.create_user(f"{tag}{name}") for name in names]
        group = await idp.create_group("G", people, externalId="g")
        await room_holds(admin, room, {f"{tag}{name}" for name in names})
        for person in people:
            await idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": False}})
        await idp.ok("DELETE", f"/Groups/{group}")
        await room_holds(admin, room, {f"{tag}root", f"{tag}vip"})
        await settled(idp)
    for name in ("root", "vip"):
        account = await admin.call("GET", f"/_synapse/admin/v2/users/@{tag}{name}:{SERVER_NAME}")
        assert account["locked"] is False


async def test_a_request_that_breaks_off_is_not_sent_again(synapse: Synapse, admin: User) -> None:
    """When to try again is the reconciler's decision, not the HTTP library's."""
    async with proxying(synapse.url) as proxy:
        homeserver = Homeserver.connect(proxy.url, admin.user_id, admin.token, "oidc-x")
        try:
            await homeserver.server_version()
            proxy.dark = True
            with pytest.raises(UnavailableError):
                await homeserver.server_version()
        finally:
            await homeserver.close()
        assert len(proxy.requests) == 2
