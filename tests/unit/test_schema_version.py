"""Which databases a version of the service may use, by the number of their schema."""

import pytest

from scim_matrix.store.errors import DatabaseTooNewError, DatabaseUnusableError
from scim_matrix.store.migrations import check, load, missing

FOLDERS = pytest.mark.parametrize("folder", [".", "postgresql"])


@FOLDERS
def test_what_is_missing_is_what_comes_after(folder: str) -> None:
    """An empty database lacks every migration, one of this version none."""
    known = [number for number, _ in load(folder)]
    assert [number for number, _ in missing("here", 0, folder)] == known
    assert [number for number, _ in missing("here", known[-1] - 1, folder)] == known[-1:]
    assert missing("here", known[-1], folder) == []
    check("here", known[-1], folder)


@FOLDERS
def test_an_older_one_is_not_read(folder: str) -> None:
    """It is said which database it is, and who brings it up to date."""
    with pytest.raises(DatabaseUnusableError, match=r"^here has .*: start the service first$"):
        check("here", load(folder)[-1][0] - 1, folder)


@FOLDERS
def test_a_newer_one_is_neither_read_nor_migrated(folder: str) -> None:
    """It is said which database it is, and what to do."""
    for refuse in (check, missing):
        with pytest.raises(DatabaseTooNewError, match=r"^here has .* 9999, .*: run the newer"):
            refuse("here", 9999, folder)
