"""The story that the demonstration tells, step by step."""

from scim_matrix.demo.stage import IdentityProvider, Step

GENERAL, LAB = "#general", "Lab"
PEOPLE = (
    *("erika", "max", "lena", "anna", "ben", "clara", "david", "emma"),
    *("felix", "greta", "hugo", "ida", "jonas", "klara", "leo", "mia"),
)
# Whom the broken export leaves in Staff.
LEFT = {"max", "lena", "anna"}
GUEST = "guest"


def _rooms(general: set[str], lab: set[str]) -> dict[str, set[str]]:
    return {GENERAL: general, LAB: lab | {GUEST}}


class Story:
    """What the identity provider does; `idp` sends it."""

    def __init__(self, idp: IdentityProvider) -> None:
        self._idp = idp
        self._ids: dict[str, str] = {}

    async def _arrive(self) -> None:
        for name in PEOPLE:
            self._ids[name] = await self._idp.create_user(name, displayName=name.title())

    async def _staff(self) -> None:
        members = [self._ids[name] for name in PEOPLE]
        self._ids["Staff"] = await self._idp.create_group("Staff", members, externalId="grp-staff")

    async def _engineering(self) -> None:
        members = [self._ids["erika"], self._ids["max"]]
        self._ids["Engineering"] = await self._idp.create_group("Engineering", members)

    async def _move(self) -> None:
        await self._idp.remove(self._ids["Engineering"], self._ids["max"])
        await self._idp.add(self._ids["Engineering"], self._ids["lena"])

    async def _disable(self) -> None:
        await self._idp.patch(
            f"/Users/{self._ids['erika']}", {"op": "replace", "value": {"active": False}}
        )

    async def _take_over(self) -> None:
        self._ids[GUEST] = await self._idp.create_user(GUEST)
        await self._idp.add(self._ids["Staff"], self._ids[GUEST])

    async def _break(self) -> None:
        value = [{"value": self._ids[name]} for name in PEOPLE if name in LEFT]
        await self._idp.patch(
            f"/Groups/{self._ids['Staff']}", {"op": "replace", "path": "members", "value": value}
        )

    async def _nothing(self) -> None:
        """Leave it to the step's command."""

    async def _delete(self) -> None:
        await self._idp.ok("DELETE", f"/Groups/{self._ids['Staff']}")

    def until_the_brake(self) -> list[Step]:
        """Return the steps up to the mass removal that is held."""
        everyone = set(PEOPLE)
        on_duty = everyone - {"erika"}
        return [
            Step(
                "Sixteen people are hired",
                "The identity provider makes users. They get accounts; no group, no room.",
                self._arrive,
                _rooms(set(), set()),
            ),
            Step(
                "Staff opens #general",
                "A group that the map knows by its externalId: its members are joined.",
                self._staff,
                _rooms(everyone, set()),
            ),
            Step(
                "Engineering opens both rooms",
                "The guest was invited into the Lab by hand. No group put them there, so none"
                " takes them out.",
                self._engineering,
                _rooms(everyone, {"erika", "max"}),
            ),
            Step(
                "max changes the department",
                "Out of Engineering, so out of the Lab; Staff keeps him in #general.",
                self._move,
                _rooms(everyone, {"erika", "lena"}),
            ),
            Step(
                "erika goes on leave",
                "Disabled: her account is locked, and she is out of the rooms. Enabled again she"
                " would be back.",
                self._disable,
                _rooms(on_duty, {"lena"}),
            ),
            Step(
                "Somebody tries to take an account over",
                "A new user is called as the guest is, whose account nobody made over SCIM. The"
                " user is stored, the account is not touched: it comes into no room.",
                self._take_over,
                _rooms(on_duty, {"lena"}),
                ("why", GUEST, GENERAL[1:]),
                "nothing shows that it is theirs",
            ),
            Step(
                "An export breaks: Staff loses twelve people at once",
                "That is more than ten, and more than 30 % of #general: the brake holds it.",
                self._break,
                _rooms(on_duty, {"lena"}),
                ("why", "ben", GENERAL[1:]),
                "scim-matrix approve",
            ),
        ]

    def after_the_brake(self, alias: str) -> list[Step]:
        """Return the steps from the approval on; `alias` is #general's."""
        return [
            Step(
                "It was meant: a human approves",
                "By this command or in the console. `dismiss` would have kept them in.",
                self._nothing,
                _rooms(LEFT, {"lena"}),
                ("approve", alias),
                "approved",
            ),
            Step(
                "Staff is dissolved",
                "Its members leave #general, save lena, whom Engineering keeps there.",
                self._delete,
                _rooms({"lena"}, {"lena"}),
            ),
        ]
