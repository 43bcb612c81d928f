"""What can go wrong in a way a person must act on: a code for machines, one line for people, and what to do."""

import traceback


class VoxmeterError(Exception):
    """The root. `str(error)` is the whole line a person reads."""

    code = "error"
    """Stable name for logs, tests and JSON."""

    exit_status = 2
    """1 a finding, 2 wrong usage or unreadable input (contract, command line)."""

    def __init__(self, message: str, todo: str = "") -> None:
        super().__init__(f"{message}; {todo}" if todo else message)
        self.message = message
        self.todo = todo


def plainly(error: BaseException) -> str:
    """An error as a line for the log: our own in their words, any other by name and place, for its words may be a guest's."""
    if isinstance(error, VoxmeterError):
        return " ".join(str(error).split())
    places = [(frame.f_globals.get("__name__", "?"), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [place for place in places if place[0].partition(".")[0] == __package__]
    module, line = (ours or places or [("?", 0)])[-1]
    return f"{type(error).__name__} at {module}:{line}"


class BadInput(VoxmeterError):
    """A file, text or argument that can't be used as it is."""

    code = "bad-input"


class BadProfile(BadInput):
    """A device profile with a wrong key or value."""

    code = "bad-profile"


class BadRateCard(BadInput):
    """A rate card that can't price what it says it prices."""

    code = "bad-rate-card"


class BadWeights(VoxmeterError):
    """A model that is unknown, not fetched, cut short or altered."""

    code = "bad-weights"


class MissingPart(VoxmeterError):
    """An optional part of the installation (a library, a program, a right) is not here."""

    code = "missing-part"


class NoLink(VoxmeterError):
    """The backend can't be reached, or not as this robot."""

    code = "no-link"
    exit_status = 1


class EngineFailed(VoxmeterError):
    """An engine refused its input, crashed or was killed; the turn fails, the engine is started again."""

    code = "engine-failed"
    exit_status = 1


class LedgerBusy(VoxmeterError):
    """Another process owns the ledger."""

    code = "ledger-busy"


class LedgerDamaged(VoxmeterError):
    """The ledger's file or chain is not what was written."""

    code = "ledger-damaged"
    exit_status = 1


class LedgerFull(VoxmeterError):
    """There is no room for records of new turns."""

    code = "ledger-full"
    exit_status = 1
