"""`voxmeter run`: the service. It owns the books and answers commands until it is stopped."""

import contextlib
import errno
import faulthandler
import functools
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from agent.cli.options import AsJson, ProfileName, StateDir, fail, run, screen

PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
"""What the system refuses now and may give later: the unit tries again, which it does not after exit 2."""


def serve(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Own the books and answer other commands until stopped; send the records to the backend, and look after the books."""
    from agent import service
    from agent.log import Log
    from agent.notify import Notifier
    from agent.steering import FromAfar

    log, notifier, console = Log(), Notifier(), screen(to_stderr=as_json)

    def say(line: str, level: str = "info") -> None:
        if log.journal:
            log.say(line, level=level)
            return
        log.lines.append(line)
        with contextlib.suppress(OSError, SystemExit):  # rich ends the process when nobody reads it; the robot goes on
            console.print(line)

    def at_worst(stopped: bool) -> None:
        log.say("closing takes too long and is cut short; the books are as of their last commit", level="error")
        if stopped or notifier.on:
            os._exit(1)
        _anew()

    faulthandler.enable()  # systemd's watchdog ends this with SIGABRT: the journal then shows where each thread stood
    grave = functools.partial(say, level="error")
    with _passing_troubles():
        steers = functools.partial(FromAfar, profile, log)
        ending = service.Ending(at_worst)
        run(service.run(profile, state_dir, say, grave=grave, steers=steers, notifier=notifier, ending=ending), ending.stop)
    if not notifier.on and not ending.stopped:
        _anew()


def _anew() -> NoReturn:
    """In this process, for nobody else would start it again; an engine that hangs would not notice."""
    from agent import processes

    for child in processes.family(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "agent", *sys.argv[1:]])  # noqa: S606


@contextlib.contextmanager
def _passing_troubles() -> Iterator[None]:
    """A full or failing disk is exit 1, for a person need not come: it may have room again."""
    from agent.errors import LedgerBusy, VoxmeterError

    try:
        yield
    except LedgerBusy:  # somebody else serves this state
        raise
    except (VoxmeterError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in PASSING:
            fail(str(error) if isinstance(error, VoxmeterError) else f"{error.filename or 'system'}: {error.strerror}", 1)
        raise
