"""What a homeserver says where it refuses."""


class MatrixError(Exception):
    """An answer that is no success, with Synapse's own status, errcode and words."""

    def __init__(self, status: int, errcode: str, error: str) -> None:
        super().__init__(f"{status} {errcode}: {error}")
        self.status = status
        self.errcode = errcode
        self.error = error


def forbidden(error: str) -> MatrixError:
    """Return a refusal for lack of power or membership."""
    return MatrixError(403, "M_FORBIDDEN", error)


def not_found(error: str) -> MatrixError:
    """Return what is said of a thing that does not exist."""
    return MatrixError(404, "M_NOT_FOUND", error)
