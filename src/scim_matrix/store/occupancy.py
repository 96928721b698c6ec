"""One service at a time on a DATA_DIR: two would undo each other's work."""

import contextlib
import datetime
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from scim_matrix.store import access
from scim_matrix.store.errors import DatabaseUnusableError, OccupiedError

NAME = "serving.lock"


@contextlib.contextmanager
def occupying(data_dir: Path, address: str) -> Iterator[None]:
    """Have DATA_DIR to oneself; whoever tries meanwhile is told of this process and its address.

    The kernel ends it with the process, however that ends. Raises OccupiedError, and
    DatabaseUnusableError where nothing can be written or locked there.
    """
    with contextlib.ExitStack() as stack:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((data_dir / NAME).open("a+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}, {address}, since {now}")
            file.flush()
        except BlockingIOError as error:
            file.seek(0)
            raise OccupiedError(
                f"DATA_DIR: {data_dir} is served already by {file.read()}: stop that service"
                " first, or give this one a DATA_DIR of its own"
            ) from error
        except OSError as error:
            why = access.told(data_dir / NAME) or f"{data_dir / NAME}: {error}"
            raise DatabaseUnusableError(f"DATA_DIR: {why}") from error
        yield
