"""Settings that are well formed and still wrong: each said with its variable and the cure."""

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from scim_matrix import groupmap
from scim_matrix.config import Settings
from scim_matrix.matrix.errors import RefusedError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops.findings import Finding
from scim_matrix.settings_cures import TOKEN_FILE

_TIMEOUT = aiohttp.ClientTimeout(total=10)
# Beyond this many pages of accounts (1,000 each) patterns are not looked for any further.
_MOST_PAGES = 200
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_ENDINGS = ("/_matrix", "/_matrix/client", "/_synapse", "/_synapse/admin")


def of_files(data_dir: Path) -> Iterator[Finding]:
    """Tell whether DATA_DIR can be made, or who else may read it."""
    if not is_folder(data_dir):
        problem = _why_not(data_dir)
        if problem is None:
            yield Finding("ok", "database", f"{data_dir} will be made at the first start")
        else:
            cure = f"make it, owned by the user of the service, or set DATA_DIR below {Path.home()}"
            yield Finding("error", "DATA_DIR", f"{data_dir} cannot be made: {problem}", cure)
        return
    if not os.access(data_dir, os.R_OK | os.X_OK, effective_ids=True):
        # Of the database it is told who may.
        return
    for path in (data_dir, *sorted(data_dir.glob("scim-matrix.sqlite3*")), *_token(data_dir)):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            right = "700" if path.is_dir() else "600"
            holds = "a token" if path.name == TOKEN_FILE else "names and e-mail addresses"
            yield Finding(
                "warning",
                "DATA_DIR",
                f"{path} is open to others (mode {mode:o}): it holds {holds}",
                f"chmod {right} {path}",
            )


def _token(data_dir: Path) -> Iterator[Path]:
    file = data_dir / TOKEN_FILE
    if file.exists():
        yield file


def is_folder(path: Path) -> bool:
    """Tell whether a folder is there, as far as this user may see."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _why_not(folder: Path) -> str | None:
    """Return why a folder cannot be made, None where it can: it is made, and taken away again.

    Permissions alone do not tell, least of all root's.
    """
    path = folder.absolute()
    missing = [p for p in (path, *path.parents) if not is_folder(p)]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            parent.mkdir(mode=0o700)
            made.append(parent)
    except FileExistsError:
        return f"{parent} is no directory"
    except OSError as error:
        return f"{parent}: {(error.strerror or str(error)).lower()}"
    finally:
        for parent in reversed(made):
            parent.rmdir()
    return None


def of_address_ending(url: str) -> Iterator[Finding]:
    """Tell whether an address has a path that is put behind it anyway."""
    for ending in _ENDINGS:
        if url.endswith(ending):
            cure = f"set MATRIX_URL to {url.removesuffix(ending)}: the paths are put behind it"
            yield Finding("error", "MATRIX_URL", f"ends in {ending}", cure)


def of_words(settings: Settings, mappings: Iterable[groupmap.Mapping]) -> Iterator[Finding]:
    """Tell what can be seen in the settings alone."""
    yield from of_address_ending(settings.matrix_url)
    server = settings.matrix_server_name
    for pattern in settings.protected_users:
        if not pattern.startswith(("@", "*", "?", "[")):
            cure = f"patterns are of whole user IDs, such as @{pattern}:{server}"
            yield Finding("warning", "PROTECTED_USERS", f"{pattern} can match nobody", cure)
    for mapping in mappings:
        foreign = mapping.room.startswith("#") and mapping.room.partition(":")[2] != server
        if foreign and mapping.create is not None:
            found = f"{mapping.room} is to be made, and is an alias of another server"
            cure = f"rooms are made under aliases of {server}"
            yield Finding("error", _map_of(settings, mapping), found, cure)
        elif foreign:
            found = f"{mapping.room} is an alias of another server"
            cure = f"if {server} was meant, write {mapping.room.partition(':')[0]}:{server}"
            yield Finding("warning", _map_of(settings, mapping), found, cure)


def of_groups(
    settings: Settings, mappings: Iterable[groupmap.Mapping], groups: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    """Tell which keys of the map match no group that the identity provider has sent.

    Says nothing where it has sent none at all yet.
    """
    ids = {group["externalId"] for group in groups}
    names = {group["displayName"] for group in groups}
    told = set()
    for mapping in mappings:
        if not groups or mapping.kind == "everyone" or (mapping.kind, mapping.pattern) in told:
            continue
        told.add((mapping.kind, mapping.pattern))
        about = _map_of(settings, mapping)
        if mapping.kind == "display_name":
            if not any(fnmatchcase(name, mapping.pattern) for name in names):
                pattern = mapping.pattern.replace("[[]", "[")
                cure = "wait for the identity provider to send it, or correct the key"
                yield Finding("warning", about, f"no group is called like {pattern} yet", cure)
        elif mapping.pattern in names - ids:
            found = f"{mapping.pattern} is the name of a group, and no group's externalId"
            yield Finding("warning", about, found, f'write "displayName:{mapping.pattern}"')
        elif mapping.pattern not in ids:
            cure = "wait for the identity provider to send it, or correct the key"
            found = f"no group has the externalId {mapping.pattern} yet"
            yield Finding("warning", about, found, cure)


def _map_of(settings: Settings, mapping: groupmap.Mapping) -> str:
    return "IDP_GROUP_TO_ROOM" if mapping in settings.idp_group_to_room else "GROUP_MAP_FILE"


async def of_address(settings: Settings) -> list[Finding]:
    """Tell whether MATRIX_URL has the wrong scheme, or only sends on to another address."""
    url = settings.matrix_url
    scheme, _, rest = url.partition("://")
    other = f"{'http' if scheme == 'https' else 'https'}://{rest}"
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        answered, sent_on = await _versions(session, url)
        if sent_on:
            found = f"{url} sends on to {sent_on}: what should change something gets lost"
            cure = f"set MATRIX_URL to {sent_on.partition('/_matrix')[0]}"
            return [Finding("error", "MATRIX_URL", found, cure)]
        if answered:
            return []
        if not (await _versions(session, other))[0]:
            return _inside(url)
    found = f"nothing answers at {url}, and a homeserver does at {other}"
    return [Finding("error", "MATRIX_URL", found, f"set MATRIX_URL to {other}")]


def _inside(url: str) -> list[Finding]:
    """Tell that an address of this machine, where nothing answers, is the container's own."""
    if URL(url).host not in _LOOPBACK or not is_container():
        return []
    found = f"nothing answers at {url}, which inside a container is the container itself"
    cure = (
        "set it to the homeserver's name in a network of both (http://synapse:8008), or give the"
        " container the host's network"
    )
    return [Finding("error", "MATRIX_URL", found, cure)]


def is_container() -> bool:
    """Tell whether this runs in a container (podman, docker, Kubernetes)."""
    variables = {"container", "KUBERNETES_SERVICE_HOST"}
    return not variables.isdisjoint(os.environ) or Path("/.dockerenv").exists()


async def _versions(session: aiohttp.ClientSession, url: str) -> tuple[bool, str]:
    """Return whether a homeserver answers, and to where it is sent on, if it is."""
    try:
        # No secret is sent: whose certificate it is does not matter here.
        async with session.get(
            f"{url}/_matrix/client/versions", allow_redirects=False, ssl=False
        ) as answer:
            if 300 <= answer.status < 400:
                return False, answer.headers.get("Location", "")
            return "versions" in await answer.json(content_type=None), ""
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError):
        return False, ""


async def of_homeserver(settings: Settings, homeserver: Homeserver) -> list[Finding]:
    """Tell whether IDP_NAME is one of its SSO providers and whom PROTECTED_USERS match.

    Says nothing of what the homeserver does not tell. Raises UnavailableError or TokenError.
    """
    found: list[Finding] = []
    if not settings.mas_url:
        with contextlib.suppress(RefusedError):
            found.append(_provider(settings, await homeserver.sso_providers()))
    with contextlib.suppress(RefusedError):
        cure = "look for a misspelling: whom no pattern matches is not protected"
        for pattern in await _matching_nobody(homeserver, settings.protected_users):
            told = f"{pattern} matches no account of the homeserver"
            found.append(Finding("warning", "PROTECTED_USERS", told, cure))
    return found


def _provider(settings: Settings, providers: Collection[str]) -> Finding:
    if settings.idp_name in providers:
        return Finding("ok", "IDP_NAME", f"{settings.idp_name} is an SSO provider")
    offered = f"it offers {', '.join(sorted(providers))}" if providers else "it offers none"
    return Finding(
        "warning",
        "IDP_NAME",
        f"{settings.idp_name} is no SSO provider of the homeserver ({offered}):"
        " people could not sign in to their accounts",
        "set it to the provider's name in Synapse, oidc- and its idp_id, or configure that one",
    )


async def _matching_nobody(homeserver: Homeserver, patterns: Iterable[str]) -> list[str]:
    """Return the patterns that no account matches; none where it would take too long to say."""
    left, pages = list(patterns), 0
    if not left:
        return []
    async for page in homeserver.accounts.listed():
        names = [account.user_id for account in page if not account.deactivated]
        left = [p for p in left if not any(fnmatchcase(name, p) for name in names)]
        pages += 1
        if not left or pages == _MOST_PAGES:
            return []
    return left
