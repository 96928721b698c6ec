"""Settings for MAS, as the service takes them from its environment."""

from scim_matrix.demo.mas import Mas
from scim_matrix.demo.mas_state import Provider
from scim_matrix.demo.service import ScimClient
from tests.conftest import eventually
from tests.mas.hands import MasAdmin
from tests.mas.test_service import disable
from tests.synapse.conftest import StartService, command, settled


async def test_sessions_end_with_the_lock_where_that_is_asked_for(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """END_SESSIONS_ON_DISABLE=true leaves nobody signed in who was disabled."""
    async with service({}, END_SESSIONS_ON_DISABLE="true") as process:
        idp = ScimClient(process.url)
        ann = await idp.create_user(f"{tag}ann")
        await settled(idp)
        person = mas.state.account_named(f"{tag}ann")
        assert person is not None
        await mas.session(person, "DEV")
        await disable(idp, ann)

        async def is_over() -> bool:
            return person.locked_at is not None and not mas.state.sessions_of(person)

        await eventually(is_over, bool)


async def test_the_provider_is_the_one_that_is_named(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """Of two that are enabled, MAS_PROVIDER says by whose subjects people are linked."""
    other = Provider(mas.state.ulid(), mas.state.now(), "https://other.test/", "Other")
    mas.state.providers[other.id] = other
    async with service({}, MAS_PROVIDER=other.id) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann")
        await settled(idp)
        link = next(x for x in mas.state.links.values() if x.subject == f"ext-{tag}ann")
        assert link.provider_id == other.id
        process.more["MAS_PROVIDER"] = ""
        status, output = await command(process, "check")
        assert (status, "MAS_PROVIDER" in output) == (1, True)
