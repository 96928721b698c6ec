"""Why a file of the database may not be used by whoever runs this, and who may."""

import os
import pwd
from pathlib import Path


def refused(path: Path) -> tuple[str, str] | None:
    """Return why a file may not be read and written here, and what to do; None where it may.

    What is not there is judged by the folder that it would be made in.
    """
    found = path.absolute()
    while not os.access(found, os.F_OK, effective_ids=True) and found != found.parent:
        # Nor may it be seen where a folder above may not be entered.
        found = found.parent
    wanted = os.R_OK | os.W_OK | (os.X_OK if found.is_dir() else 0)
    if os.access(found, wanted, effective_ids=True):
        return None
    if os.statvfs(found).f_flag & os.ST_RDONLY and os.access(
        found, wanted & ~os.W_OK, effective_ids=True
    ):
        cure = "set DATA_DIR to a folder that may be written, as the volume of a container"
        return f"{found} is on a file system that may only be read", cure
    owner, ours = found.stat().st_uid, os.geteuid()
    if owner == ours:
        return f"{found} is closed to its owner {_name(owner)}, as whom this runs", (
            f"chmod u+rw{'x' if found.is_dir() else ''} {found}"
        )
    who = "root" if owner == 0 else f"{_name(owner)} or root"
    whose = f"{found} belongs to {_name(owner)}, and this runs as {_name(ours)}"
    return whose, f"run it as {who} (sudo{'' if owner == 0 else f' -u {_sudo(owner)}'} …)"


def told(path: Path) -> str | None:
    """Return in a sentence what `refused` tells."""
    return None if (why := refused(path)) is None else ": ".join(why)


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _sudo(user: int) -> str:
    """Return a user as sudo takes it, without a name too (that of a unit with DynamicUser=)."""
    name = _name(user)
    return f"'#{user}'" if " " in name else name
