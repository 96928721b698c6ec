"""Every problem that status, log and /readyz show, by its code: what it means, and its cure (pure).

A code never changes its meaning. docs/problems.md is made from this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """What a code stands for; `events` are the log lines that carry it."""

    code: str
    means: str
    cause: str
    cure: str
    events: tuple[str, ...] = ()


TABLE = (
    # -- Needs a human --
    Problem(
        "removals-held",
        "A room would lose unusually many people, so the removals wait for a human.",
        "A group was emptied, deleted or renamed at the identity provider, or its synchronisation"
        " sent less than there is. `scim-matrix why ROOM` says which group and request.",
        "If that was meant: `scim-matrix approve ROOM`; those people stay: `scim-matrix dismiss"
        " ROOM`. Put right at the identity provider, it is withdrawn by itself.",
        ("removals_held",),
    ),
    Problem(
        "accounts-held",
        "Unusually many accounts would be locked or deactivated, so that waits for a human.",
        "Many people were disabled or deleted at the identity provider, or fell out of what it"
        " synchronises.",
        "`scim-matrix approve accounts`, or `scim-matrix dismiss accounts`.",
        ("accounts_held",),
    ),
    Problem(
        "restored",
        "A backup was put back: what only the backup speaks of is not removed.",
        "`scim-matrix restore`, or a copied database file.",
        "Let the identity provider synchronise everything; what it says counts at once. Or"
        " `scim-matrix approve restored`.",
        ("database_restored",),
    ),
    Problem(
        "account-conflict",
        "The account that a user would get belongs to somebody else as far as anybody can tell;"
        " nothing is done to it.",
        "It was there before, without the user's SSO identity; or the SSO subject is mapped wrongly"
        " (`SSO_SUBJECT_ATTRIBUTE`, `IDP_NAME`).",
        "`scim-matrix users` says why and what to type: `scim-matrix users link USER @account`,"
        " or another user name.",
        ("account_conflict",),
    ),
    Problem(
        "mapping-suspended",
        "A mapping made in the console counts no more: nobody is joined or removed by it.",
        "Whoever made it may no longer do by themselves in the room what it does.",
        "Give them that power back, or have an administrator make the mapping.",
        ("mapping_judged",),
    ),
    Problem(
        "idp-silent",
        "The identity provider has not sent anything for four days.",
        "Its synchronisation stopped, it has another secret than `WEBHOOK_SECRET`, or it does not"
        " reach this service. Or nothing has changed there, and it sends nothing else.",
        "Have it test its connection, and read what its log of the SCIM application says. What it"
        " sent meanwhile has to be sent again: start a full synchronisation there.",
    ),
    Problem(
        "removal-waits",
        "Somebody is to leave a room of which the map says nothing any more, or nothing that counts"
        " at present.",
        "The line was taken out of the map, or stopped counting, before the removal was done.",
        "Put the line back, and they leave; or `scim-matrix sync --prune`, for whoever is in rooms"
        " only by what the map says no more.",
    ),
    Problem(
        "child-not-followed",
        "A room of a mapped space is left alone.",
        "Whoever put it into the space has not the power in the room that the mapping needs.",
        "What `scim-matrix status` says; or let an administrator of the homeserver put the room"
        " into the space, or map it.",
    ),
    Problem(
        "room-waits",
        "An alias of the map leads to a room that nobody vouches for.",
        "The alias appeared after it was mapped, made by somebody who is no administrator.",
        "If that is the room that is meant: `scim-matrix approve '#alias:example.com'`, or the"
        " button at that room in the console.",
        ("room_waits",),
    ),
    Problem(
        "alias-moved",
        "An alias of the map leads to another room now, which is not followed.",
        "The other room does not say itself, by somebody with the power, that the alias is its"
        " own. Or the room was deleted, and the other is not one that a server administrator made.",
        "What `scim-matrix status` says: have somebody with power make it that room's main alias,"
        " name the room's ID in the map, or `scim-matrix approve '#alias:example.com'`.",
        ("alias_moved",),
    ),
    Problem(
        "upgrade-not-followed",
        "A room was upgraded, and the new one is not followed.",
        "The new room does not name the old one as its predecessor, or whoever the mapping rests on"
        " has no power there.",
        "What `scim-matrix status` says; or name the new room in the map.",
        ("room_upgraded",),
    ),
    # -- Goes on by itself once the cause is gone --
    Problem(
        "room-unresolved",
        "The map names a room that is not found.",
        "A misspelt alias, a room that is gone, or one of another server.",
        "Make the room, correct the map, or give it a `create` object.",
        ("room_unresolved",),
    ),
    Problem(
        "alias-gone",
        "The alias of a mapped room leads nowhere any more; the room is kept.",
        "The alias was taken away.",
        "Set it again, or name the room's ID in the map.",
        ("alias_gone",),
    ),
    Problem(
        "former-room-unknown",
        "It is not known whether a room that the map names took the place of one that it named.",
        "The homeserver refuses to tell about the former room, the reason stands beside it.",
        "Nothing: it is asked again at the next comparison.",
        ("former_room_unknown",),
    ),
    Problem(
        "room-unusable",
        "A mapped room cannot be read or changed.",
        "It was deleted from the homeserver, is blocked, or nobody of this server is in it.",
        "Where it was deleted: as a server administrator, make a room with its alias, which is"
        " followed then; or name another in the map, or take it out. Else `scim-matrix check` says"
        " what to put right.",
        ("room_unusable",),
    ),
    Problem(
        "action-refused",
        "The homeserver refuses to join, invite or remove somebody.",
        "Nobody local has power in the room, or is in it; or the person has as much power as the"
        " service.",
        "Invite the service's account to the room with power level 100, or give the person less."
        " The reason beside it is the homeserver's. Where nobody of this server is in the room any"
        ' more ("Server not in room"), nobody can: name another room in the map, or take it out.',
        ("action_refused",),
    ),
    Problem(
        "power-refused",
        "A power level is not given, or not taken back.",
        "The person has as much power as the service, or the service may not change power levels.",
        "Give the service more power in the room, or the person less.",
        ("power_level_refused",),
    ),
    Problem(
        "account-failed",
        "An account is not made, changed or disabled.",
        "The homeserver or MAS refuses it, or gives no usable answer; the reason beside it is"
        " theirs.",
        "Put the reason right; it is tried again by itself.",
        ("account_failed",),
    ),
    Problem(
        "stale-link",
        "Somebody else's SSO identity still leads to the account of a user who is inactive.",
        "It was that user's, and could not be taken off: the homeserver or MAS refuses it, or gives"
        " no usable answer.",
        "Nothing, where it has an owner whom the identity provider knows: it goes to them when they"
        " need it. Else take it off that account.",
        ("stale_link_stays",),
    ),
    Problem(
        "no-answer",
        "A request about one person or room got no usable answer. What came of it is looked at.",
        "The homeserver or MAS (the log line's `by` says which) is slow or restarting, or a proxy"
        " answers in its place.",
        "Nothing, if it is rare. Else see its log and the proxy's time-outs.",
        ("no_usable_answer",),
    ),
    Problem(
        "spared",
        "Somebody who should be out stays, or keeps their account.",
        "They administer the homeserver, are in `PROTECTED_USERS`, or have more power in the room"
        " than those whom the removal rests on.",
        "Nothing: it is done when that is no longer so. Or by a hand.",
        ("removal_spared", "account_spared"),
    ),
    Problem(
        "dry-run",
        "Something was not done, since `DRY_RUN` is on.",
        "`DRY_RUN=true`.",
        "Read what would be done (`scim-matrix log`), then take `DRY_RUN` out and restart.",
        ("action_withheld", "account_withheld"),
    ),
    Problem(
        "room-not-placed",
        "A room that the map made is not in the space that it should be in.",
        "The space is not found, nobody vouches for it, or the service has no power in it.",
        "Map the space by its room ID, or put the room into the space by hand.",
        ("room_not_placed", "space_not_followed"),
    ),
    Problem(
        "people-missing",
        "People whom a group put into a room were no longer there when it was compared.",
        "They left, or were removed by hand.",
        "Nothing: they are brought back, or not, as `ON_SELF_LEAVE` says.",
        ("people_missing",),
    ),
    Problem(
        "accounts-differ",
        "Accounts were not as they had been left when they were compared; they are put right.",
        "Somebody changed them by hand, or a request was lost.",
        "Nothing. Locks and deactivations by hand stay.",
        ("accounts_differ",),
    ),
    # -- The servers --
    Problem(
        "homeserver-down",
        "The homeserver does not answer as Synapse does. What the identity provider says is kept.",
        "It is stopped or restarting, or `MATRIX_URL` does not reach it (`127.0.0.1` inside a"
        " container is the container).",
        "Start it, or correct `MATRIX_URL`; `scim-matrix check` tries it.",
        ("homeserver_down",),
    ),
    Problem(
        "homeserver-refused",
        "The homeserver refuses the service's token; nothing is done.",
        "The token is not `MATRIX_ADMIN_USER_ID`'s, has ended, or that user is no server admin.",
        "`scim-matrix check` says which, and what to do. Where Synapse keeps accounts: make the"
        " user a server admin, or set `MATRIX_ADMIN_TOKEN` to a new token and restart. Where MAS"
        " keeps them: take `MATRIX_ADMIN_TOKEN` out, if it is there, and restart.",
        ("homeserver_refused",),
    ),
    Problem(
        "homeserver-mismatched",
        "The settings do not fit the homeserver; nothing is done.",
        "`MAS_URL` is set, and Synapse keeps accounts itself.",
        "Take `MAS_URL` and what goes with it out (`MATRIX_ADMIN_TOKEN` and `IDP_NAME` are needed"
        " then), or have Synapse delegate to MAS.",
        ("homeserver_mismatched",),
    ),
    Problem(
        "homeserver-waiting",
        "The homeserver is not asked anything, since MAS gives the service no token for it, or does"
        " not tell it whose the token is.",
        "MAS is away, also for Synapse alone, or refuses the client; or the service's own account"
        " (`MATRIX_ADMIN_USER_ID`) is locked or deactivated in MAS, or cannot be made there.",
        "What the log says (`homeserver_waiting`), and `scim-matrix check`; see also mas-down and"
        " mas-refused. It goes on by itself.",
        ("homeserver_waiting",),
    ),
    Problem(
        "mas-down",
        "MAS does not answer. No account is made or changed; removals wait after an hour.",
        "It is stopped or restarting, or `MAS_URL` does not reach it.",
        "Start it, or correct `MAS_URL`; `scim-matrix check` tries it.",
        ("mas_down",),
    ),
    Problem(
        "mas-refused",
        "MAS refuses the client; no account is touched.",
        "`MAS_CLIENT_ID` is not in MAS's `clients` and `policy.data.admin_clients`, or"
        " `MAS_CLIENT_SECRET` is not its secret.",
        "Correct MAS's configuration or the settings and restart; `scim-matrix check` says which.",
        ("mas_refused",),
    ),
    Problem(
        "mas-mismatched",
        "MAS serves another server than `MATRIX_SERVER_NAME`, or is older than 1.5.",
        "`MAS_URL` is another installation's, or MAS was not upgraded.",
        "Correct `MAS_URL`, or upgrade MAS.",
        ("mas_mismatched",),
    ),
    Problem(
        "delegated-authentication",
        "Accounts belong to MAS, and the service does not know it: only rooms are kept in line.",
        "`MAS_URL` is not set.",
        "Set `MAS_URL`, `MAS_CLIENT_ID` and `MAS_CLIENT_SECRET` (docs/setup/mas.md).",
        ("delegated_authentication",),
    ),
    Problem(
        "admins-unknown",
        "Who administers the homeserver is not known, so nobody is removed from any room.",
        "Accounts belong to MAS, which does not answer or is not set.",
        "With `MAS_URL`: see mas-down and mas-refused. Without it: name the administrators in"
        " `PROTECTED_USERS`, or see delegated-authentication.",
        ("administrators_not_asked",),
    ),
    Problem(
        "token-not-renewed",
        "The token that the service made itself through MAS could not be renewed.",
        "MAS does not answer, or refuses the client.",
        "See mas-down and mas-refused.",
        ("token_not_renewed",),
    ),
    Problem(
        "token-file-unreadable",
        "`DATA_DIR/matrix-token.json` cannot be used; another token is made, or the one that was"
        " read before serves on.",
        "It was damaged, or belongs to another user since the start. (Where it cannot be read at"
        " the start, the service does not start.)",
        "Have it belong to the user that the service runs as, or delete it.",
        ("token_file_unreadable",),
    ),
    Problem(
        "token-file-not-written",
        "`DATA_DIR/matrix-token.json` cannot be written: the token is kept in memory, and made anew"
        " at the next start.",
        "The disk is full or failing, or the file's folder belongs to another user.",
        "Put that right, and restart.",
        ("token_file_not_written",),
    ),
    Problem(
        "orphan-link-taken-over",
        "A link in MAS that led to no account leads to the user's now.",
        "Somebody removed the account that it led to.",
        "Nothing.",
        ("orphan_link_taken_over",),
    ),
    Problem(
        "live-drift-stopped",
        "Changes made by hand are found at the next comparison only.",
        "The homeserver's `/sync` does not answer.",
        "Nothing, if it comes back. Else see the homeserver's log.",
        ("live_drift_stopped", "live_drift_failed"),
    ),
    Problem(
        "not-judged",
        "What the rooms of a space rest on could not be asked; what was judged before stays.",
        "MAS does not answer, or refuses the client.",
        "See mas-down and mas-refused.",
        ("not_judged",),
    ),
    Problem(
        "signed-in-as-another",
        "Somebody signs in by SSO as another account than the one that is kept in line.",
        "The subject of single sign-on is another one than SCIM sends (`SSO_SUBJECT_ATTRIBUTE`, or"
        " the attribute that the identity provider sends as `externalId`).",
        "`scim-matrix users` shows both subjects: make them the same (docs/setup/README.md). Then,"
        " if they use the second account by now, what it says to type: `scim-matrix users link USER"
        " @second`. Deactivate neither before that: devices and keys go with an account.",
        ("signed_in_as_another_account",),
    ),
    Problem(
        "accounts-not-compared",
        "Accounts could not be compared with the homeserver this time.",
        "It stopped answering meanwhile.",
        "Nothing: it is done at the next comparison.",
        ("accounts_not_compared",),
    ),
    # -- This service --
    Problem(
        "database-failed",
        "The database cannot be read or written; requests are answered 503 and come again.",
        "The disk is full or failing, or `DATA_DIR` belongs to another user; PostgreSQL does not"
        " answer, or has whoever writes wait (a lock, a standby); or another service has the"
        " database.",
        "Make room, or put the disk and the rights of `DATA_DIR` right; see that PostgreSQL runs.",
        ("store_failed", "reconcile_failed", "settling_failed", "group_map_waits"),
    ),
    Problem(
        "database-too-new",
        "A newer version has taken the database over: this service writes nothing more, and ends.",
        "Versions with different schemas on one database of PostgreSQL: a newer service was started"
        " on it, or a command of a newer version was given.",
        "Run the newer version everywhere.",
        ("database_too_new",),
    ),
    Problem(
        "internal-error",
        "Something went wrong that nobody thought of; it is tried again.",
        "A fault of this service.",
        "Report it with the log lines around it.",
        ("request_failed", "action_failed", "reconciler_failed"),
    ),
    Problem(
        "group-map-refused",
        "The group map has a mistake; the former one stays in force.",
        "`GROUP_MAP_FILE` was changed. The log line and `scim-matrix check` say which line and what"
        " is wrong.",
        "Correct `GROUP_MAP_FILE`; it is read again by itself. The service does not start with it"
        " as it is.",
        ("group_map_refused",),
    ),
    Problem(
        "group-map-differs",
        "Of several services on one database one has another group map than the one that leads,"
        " whose map is in force.",
        "`GROUP_MAP_FILE` or `IDP_GROUP_TO_ROOM` is not the same everywhere: for a moment while a"
        " new map is rolled out, otherwise by mistake. When another service leads, its map is put"
        " in force.",
        "Give all of them the same map; `scim-matrix status` names the one that differs.",
    ),
    Problem(
        "settings-differ",
        "Of several services on one database one has other settings than the one that leads, which"
        " acts by its own; SCIM requests are answered by those of whichever gets them.",
        "A setting that decides what is done (`MATRIX_SERVER_NAME`, `ON_DELETE`, …) is not the same"
        " everywhere: for a moment while new settings or a new version are rolled out, otherwise by"
        " mistake. Of addresses, logging and secrets nothing is compared.",
        "Give all of them the same settings; `scim-matrix status` names the service and which of"
        " its settings differ.",
    ),
    Problem(
        "leadership-lost",
        "Of several services on one database this one leads no more, or could not begin to; what it"
        " had begun is gone on with by whichever leads.",
        "It could not renew its lease in time: PostgreSQL was away, the network was cut, or the"
        " process stood still. Or it could not use the homeserver for a minute, and another service"
        " could (`leadership_given_up`). Or the database refuses what it writes first"
        " (`leading_failed`, with the reason), which it tries again after a rest.",
        "Nothing, if it was once. Otherwise look why the service cannot reach PostgreSQL or the"
        " homeserver, or gets no CPU for seconds.",
        ("leadership_lost", "lease_not_renewed", "leading_failed", "leadership_given_up"),
    ),
    Problem(
        "certificate-refused",
        "The new certificate cannot be used; the former one is served on.",
        "`TLS_CERT_FILE` and `TLS_KEY_FILE` do not belong together, or cannot be read.",
        "Correct the files and send SIGHUP.",
        ("certificate_refused",),
    ),
    Problem(
        "clock-jumped",
        "The machine's clock was set; rests and grace periods go on by the old one.",
        "A wrong clock, or a machine that was asleep.",
        "Nothing; have the clock kept (NTP).",
        ("clock_jumped",),
    ),
    Problem(
        "grace-periods-put-off",
        "Grace periods end later by the time for which the service did not run.",
        "The service was away for more than an hour, or the clock was wrong at its start.",
        "Nothing; have the clock kept (NTP).",
        ("grace_periods_put_off",),
    ),
    Problem(
        "connections-full",
        "There are as many connections as there may be; the idlest is closed for a new one.",
        "A client that opens connections and leaves them, or an attack.",
        "Limit connections in the reverse proxy.",
        ("connections_full",),
    ),
    Problem(
        "too-many-failures",
        "An address that sent wrong secrets too often is refused for a while.",
        "The identity provider has an old secret, or somebody guesses. Behind a proxy that is not"
        " in `TRUSTED_PROXIES` everybody has the proxy's address.",
        "Give the identity provider the secret; set `TRUSTED_PROXIES`.",
        ("too_many_failures",),
    ),
    Problem(
        "console-refused",
        "Somebody signed in to the console who may not use it.",
        "They are no administrator of the homeserver and not in `CONSOLE_MANAGERS`.",
        "Nothing, or add them to `CONSOLE_MANAGERS`.",
        ("console_refused",),
    ),
    Problem(
        "console-session-ended",
        "Somebody was signed out of the console.",
        "They are no longer entitled, or their account was locked, suspended or deactivated.",
        "Nothing, if that was meant.",
        ("console_session_ended",),
    ),
    Problem(
        "console-without-homeserver",
        "The console cannot ask the homeserver: nobody is let in or changes anything there.",
        "The homeserver or MAS does not answer, or refuses the service.",
        "See homeserver-down, homeserver-refused and mas-down.",
        ("console_without_homeserver",),
    ),
)


def cure_of(code: str) -> str:
    """Return the cure of a problem as plain text."""
    return BY_CODE[code].cure.replace("`", "")


def cure_of_second(user: str, second: str) -> str:
    """Return what to do about a user (SCIM id) who signed in by SSO as a second account."""
    return (
        f"let both be the same (docs/setup/README.md); then, if they use {second} by now:"
        f" scim-matrix users link {user} {second}"
    )


# What can be wrong with the servers as a whole, and stops work until it is mended.
OF_SERVERS = (
    *("homeserver-down", "homeserver-refused", "homeserver-mismatched", "homeserver-waiting"),
    *("mas-down", "mas-refused", "mas-mismatched"),
    *("delegated-authentication", "admins-unknown"),
)

# What can be wrong with the configuration's map beside a service that runs.
OF_THE_MAP = ("group-map-refused",)

BY_CODE: Mapping[str, Problem] = {problem.code: problem for problem in TABLE}
_BY_EVENT = {event: problem.code for problem in TABLE for event in problem.events}


def of_event(event: str, fields: Mapping[str, object]) -> str | None:
    """Return the code of a log line, None where it tells of no problem.

    What was followed, or is in force again, is none.
    """
    if fields.get("followed") is True or fields.get("in_force") is True:
        return None
    return _BY_EVENT.get(event)


def document(sentence: str) -> str:
    """Return the table as a Markdown page that begins with a sentence."""
    parts = ["# Problems", sentence]
    for problem in TABLE:
        lines = [f"{problem.means}", f"- Cause: {problem.cause}", f"- Cure: {problem.cure}"]
        if problem.events:
            events = ", ".join(f"`{event}`" for event in problem.events)
            lines.append(f"- In the log: {events}")
        parts += [f"## {problem.code}", "\n".join([lines[0], "", *lines[1:]])]
    return "\n\n".join(parts) + "\n"
