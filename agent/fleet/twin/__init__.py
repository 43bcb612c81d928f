"""Decides what becomes of a twin: whether it is taken, what the robot is opened with, when it is good, and the way back.

Theory of operation. All that is known stands in one `Standing`, written whole; every function here takes one and gives the next.

    settled -> on trial -> (opened, held long enough) -> settled, the new in force
                        -> (does not open, is not well, two tries cut off) -> settled, the last good one in force
            -> (lays nothing else over the profile) -> settled, the new in force: there is nothing to try, and whom to believe must
                                                       reach a robot that is not well for other reasons

A try is counted before the robot is opened with it, so that whatever a wrong setting does to the robot, a crash included, it does
at most TRIES_MAX times. What is in force is only replaced by what has held, so there is always something to go back to; below all
lies the profile. Whom to believe changes only with a twin that is in force: `owed` is written with it in one piece, and paid after.

`state` and `why` are of the version looked at last, or of a command's settings if they came later.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeAlias

from agent.contract.fleet import reachable
from agent.contract.fleet.twin import Desired, Reported
from agent.errors import BadInput, VoxmeterError
from agent.ports.twin import Overlay, Standing, Surroundings, Trial, Trust
from agent.profile import remote

TRIES_MAX: Final = 2
"""A power cut may end the first try by chance; one that ends two is no chance."""

WHY_MAX: Final = 1_000
"""Characters of a reason, which travels in what is reported."""

COMMANDED: Final = "config.apply"
"""How settings of a command are named in a reason."""


class Take(NamedTuple):
    """It is to be tried: this is to be written down."""

    standing: Standing


class Apply(NamedTuple):
    """It is in force as soon as this is written down: its settings are those in force, only whom to believe may be new."""

    standing: Standing


class Refuse(NamedTuple):
    """It is not taken; `standing` is to be written down unless it is None."""

    code: str
    why: str
    standing: Standing | None


class Old(NamedTuple):
    """It has been looked at before; nothing is to be done."""


Verdict: TypeAlias = Take | Apply | Refuse | Old


def judge(desired: Desired, signer: str, standing: Standing, around: Surroundings) -> Verdict:
    """`signer`: id of the trusted key that signed. A twin of another robot says nothing about the versions of this one."""
    if desired.aud != around.audience:
        return Refuse("other-robot", f"the twin is for {desired.aud!r}", None)
    if desired.version <= standing.version:
        return Old()
    settings = reachable.laid(desired)
    same = standing.trial is None and settings == standing.in_force.settings
    try:
        reachable.check(desired, signer)
        if not same:
            around.fits(settings)
    except VoxmeterError as error:
        why = _line(str(error))
        return Refuse(error.code, why, replace(standing, version=desired.version, state="refused", why=why))
    overlay = Overlay(desired.version, settings)
    if same:
        owed = standing.owed | _trust(desired)
        return Apply(replace(standing, version=desired.version, state="applied", why="", in_force=overlay, owed=owed))
    trial = Trial(overlay, "twin", around.connected(), _trust(desired), heard=_heard(standing, around))
    return Take(replace(standing, version=desired.version, state="trial", why="", trial=trial))


def commanded(settings: Mapping[str, Mapping[str, Any]], standing: Standing, around: Surroundings) -> Take | Old:
    """Settings of a command, laid over those in force, under the version in force. Old: they are in force, or on trial.

    Raises BadInput, NotSettable, LocksOut or BadProfile if they can't be taken; BadInput while something else is on trial.
    """
    laid = remote.merged(standing.in_force.settings, settings)
    overlay = Overlay(standing.in_force.version, laid)
    if standing.trial is not None:
        if (standing.trial.source, standing.trial.overlay) == ("command", overlay):
            return Old()
        raise BadInput("other settings are on trial just now", "send it again when twin/reported says what became of them")
    reachable.check_settings(laid)
    around.fits(laid)
    if overlay == standing.in_force:
        return Old()
    trial = Trial(overlay, "command", around.connected(), heard=_heard(standing, around))
    return Take(replace(standing, state="trial", why=f"{COMMANDED}: on trial", trial=trial))


def opening(standing: Standing, around: Surroundings) -> Standing:
    """What is to be written down before the robot is opened; it is then opened with `overlay_of` that."""
    trial = standing.trial
    if trial is not None and trial.tries >= TRIES_MAX:
        return opening(fallen(standing, f"the robot ended {trial.tries} times before it had held with it"), around)
    misfit = _misfit(overlay_of(standing), around)
    if trial is not None:
        trying = replace(trial, tries=trial.tries + 1, heard=_heard(standing, around))
        return opening(fallen(standing, misfit), around) if misfit else replace(standing, trial=trying)
    if not misfit or _misfit(Overlay(), around):  # a profile that is wrong by itself is nobody's fault from afar
        return standing
    return replace(standing, state="failed", why=_line(misfit), in_force=Overlay())


def _heard(standing: Standing, around: Surroundings) -> bool:
    """A robot that what is on trial has made deaf heard before that."""
    return around.hears() or (standing.trial is not None and standing.trial.heard)


def _misfit(overlay: Overlay, around: Surroundings) -> str:
    try:
        around.fits(overlay.settings)
    except VoxmeterError as error:
        return f"it does not fit this robot's profile: {error}"
    return ""


def overlay_of(standing: Standing) -> Overlay:
    """What the robot is opened with."""
    return standing.trial.overlay if standing.trial else standing.in_force


def held(standing: Standing) -> Standing:
    """The trial is good: it is in force, all of it."""
    trial = standing.trial
    if trial is None:
        return standing
    taken = replace(standing, in_force=trial.overlay, trial=None, owed=standing.owed | trial.trust)
    if trial.overlay.version == standing.version:
        return replace(taken, state="applied", why="")
    if trial.source == "command":
        return replace(taken, state="applied", why=f"{COMMANDED}: in force; version {standing.version} is not")
    return taken


def fallen(standing: Standing, why: str) -> Standing:
    """The trial is over: what was in force before is in force again."""
    trial = standing.trial
    if trial is None:
        return standing
    back = replace(standing, trial=None)
    if trial.source == "command":
        return replace(back, state="failed", why=_line(f"{COMMANDED}: {why}"))
    return replace(back, state="failed", why=_line(why)) if trial.overlay.version == standing.version else back


def paid(standing: Standing) -> Standing:
    """Whom to believe has been written down where it belongs."""
    return replace(standing, owed={})


def superseded(standing: Standing) -> Standing:
    """A registration has told whom to believe: what a twin brought before that, and has not been written down yet, counts no more."""
    trial = standing.trial
    return replace(standing, owed={}, trial=replace(trial, trust={}) if trial is not None else None)


def reported(standing: Standing, software: str) -> Reported:
    """As the robot tells it."""
    return Reported(
        version=standing.version,
        state=standing.state,
        why=standing.why,
        in_force=standing.in_force.version,
        settings=standing.in_force.settings,
        software=software[:100],
    )


def _trust(desired: Desired) -> Trust:
    return desired.trust.model_dump(include={"ack_keys", "operator_keys"}, exclude_none=True)


def _line(text: str) -> str:
    return " ".join(text.split())[:WHY_MAX]
