"""Why somebody may not: each reason with the HTTP status that says it."""

from agent.contract.registration import REVOKED
from agent.errors import VoxmeterError


class Denied(VoxmeterError):
    """The root of what is refused for who asks or what there is, not for how it is written."""

    code = "denied"
    status = 403


class Unauthorized(Denied):
    """Nobody we know: no credential, a wrong, expired or revoked one."""

    code = "unauthorized"
    status = 401


class Revoked(Unauthorized):
    """Somebody we knew, and were told to know no more."""

    code = REVOKED


class Forbidden(Denied):
    """Somebody we know, who may not do this."""

    code = "forbidden"


class Conflict(Denied):
    """It is there already, as something else."""

    code = "conflict"
    status = 409


class Unknown(Denied):
    """There is no such thing."""

    code = "not-found"
    status = 404


class UnknownDevice(Unknown):
    """No robot of that name is registered; not final, it may still come."""

    code = "unknown-device"


class UnknownEpoch(Unknown):
    """A robot of which nothing was ever held."""

    code = "unknown-epoch"


class TooMany(Denied):
    """Asks too often."""

    code = "too-many-requests"
    status = 429

    def __init__(self, message: str, todo: str, after_ms: int) -> None:
        super().__init__(message, todo)
        self.after_ms = after_ms
        """After so long it may ask again."""
