"""What can go wrong with the database, whichever it is."""


class DatabaseError(Exception):
    """The database did not do what was asked of it; the message says which one, and why."""


class DatabaseTooNewError(DatabaseError):
    """The database was written by a newer version of this service."""


class DatabaseUnusableError(DatabaseError):
    """The database cannot be opened, read or written (permissions, full disk, damage, away)."""


class LimitExceededError(DatabaseError):
    """What was to be written is more than the database takes, however often it is tried."""


class NotLeadingError(DatabaseError):
    """Another service on this database leads, or may by now: nothing was written."""


class OccupiedError(DatabaseUnusableError):
    """Another service runs on this database; the message says which."""
