"""`bench talk`: all that is promised of a live conversation, in one run of one robot in one configuration.

    in the hall, in real time     listening after; first sounds; interruptions; its own voice; memory at the end
    when the robot has ended      its ledger verifies, and the stages on the books are those of the turns it told
    apart, not in real time       who is cut off; what the FAQ finds; what small talk invents; what echo and babble cost the recogniser

The robot is a process of its own, in a hall of virtual sound devices, measured between microphone and loudspeaker. It imports this
package too, and shares libraries with this process: so everything is imported only when it is needed, and what is measured apart, with
the same weights, profile and seed, only when the robot has ended. Otherwise the robot would start later and seem smaller than it is.
"""

import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.profile import Profile, Sound

RIGHT_SHARE_MIN, FALSE_SHARE_MAX = 0.9, 0.05

LANGUAGES = ("en", "zh", "id")
"""Of the shipped FAQ of a hotel and the public questions."""

Progress = Callable[[str], None]


async def run(
    name: str,
    corpus: Path,
    *,
    questions: int = 110,
    interruptions: int = 40,
    echo_minutes: float = 10,
    voices: int = 4,
    seed: int = 1,
    progress: Progress = lambda _: None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """All figures with what they should reach, as JSON values. Raises BadInput.

    `name` is a profile's, or its path. `voices` of the study of who is cut off: each asks 66 questions with a pause and without.
    """
    from agent.bench.talk import course  # noqa: PLC0415

    profile = _profile(name, corpus, picture)
    before = os.getloadavg()
    told = await course.in_hall(course.Setup(profile, name, corpus, seed, questions, interruptions, echo_minutes), progress)
    progress(f"in the hall: {json.dumps(told)}")  # what took most of an hour is not lost with what may fail after it
    told |= await _apart(profile, corpus, voices, seed, progress)
    machine = _machine(profile.sound) | {"load_at_start": list(before), "load_at_end": list(os.getloadavg())}
    told = {"profile": name, "seed": seed, "machine": machine, "reached": reached(told)} | told
    if picture is not None:
        from agent.bench import picture as drawn  # noqa: PLC0415

        drawn.draw(told, picture)
    return told


def _profile(name: str, corpus: Path, picture: Path | None) -> "Profile":
    """Whatever would only be found out after an hour is checked first."""
    from agent import profile as profiles  # noqa: PLC0415
    from agent.errors import BadInput  # noqa: PLC0415

    profile = profiles.load(name)
    if not profile.dialog.faq or profile.eot is None:
        raise BadInput(f"the profile {name} has no FAQ or no [eot]", "measure one that converses, for example hotel")
    if not (corpus / "faq" / "questions.json").is_file():
        raise BadInput(f"{corpus} holds no faq/questions.json", "run it in a checkout, or give --corpus tests/golden")
    if picture is not None and not os.access(picture.parent, os.W_OK):
        raise BadInput(f"{picture}: the picture can't be written there", "name a file in a folder you can write to")
    return profile


def reached(figures: Mapping[str, Any], path: str = "") -> dict[str, bool | None]:
    """Every verdict in the figures, by where it stands; None where there was nothing to judge."""
    verdicts: dict[str, bool | None] = {}
    for name, value in figures.items():
        if name == "reached":
            verdicts[path] = value
        elif isinstance(value, Mapping):
            verdicts |= reached(value, f"{path}.{name}" if path else name)
    return verdicts


def _machine(sound: "Sound | None") -> dict[str, Any]:
    from agent.profile import Sound  # noqa: PLC0415
    from agent.sim.sound import mixer, track  # noqa: PLC0415

    sound = sound or Sound()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()),
        "sound_server": {"block_ms": track.LATENCY_MS, "recorders_latency_ms": track.LATENCY_MS, "guests_lead_ms": mixer.LEAD_MS},
        "profile_sound": {"block_ms": sound.block_ms, "latency_ms": sound.latency_ms},
    }


async def _apart(profile: "Profile", corpus: Path, voices: int, seed: int, progress: Progress) -> dict[str, Any]:
    from agent.app import opened  # noqa: PLC0415
    from agent.bench import replies  # noqa: PLC0415
    from agent.bench.talk.questions import STORY  # noqa: PLC0415
    from agent.bench.turns import clips, study  # noqa: PLC0415
    from agent.clock import SystemClock  # noqa: PLC0415
    from agent.weights import catalog  # noqa: PLC0415

    models = catalog.models_folder()
    with tempfile.TemporaryDirectory() as scratch:
        async with opened(profile, Path(scratch), models, SystemClock()) as app:
            progress("apart: what small talk invents")
            said = await replies.measure(replies.of(app.engines["llm"]), corpus)
            progress("apart: who is cut off")
            cut_off = await study.run(app.engines["tts"], models, profile.hearing, seed, study.SPEEDS[:voices])
            stories = b"".join([clips.samples(await clips.said(app.engines["tts"], text)).tobytes() for text in STORY])
    for known in ("unknown", "known"):
        cut_off[known]["reached"] = cut_off[known]["paused"]["cut_off_share"] <= study.CUT_OFF_MAX
    progress("apart: what the FAQ finds, and what echo and babble cost the recogniser")
    return {
        "cut_off": cut_off,
        "invented_facts": _stated(said),
        "faq": await _faq(corpus, models),
        "hearing": await _hearing(profile, corpus, models, stories, seed),
    }


def _stated(said: dict[str, Any]) -> dict[str, Any]:
    """What passed the guard is for a person to judge: no machine knows what is a fact."""
    totals = {name: sum(kind[name] for kind in said.values()) for name in ("asked", "passed")}
    return {"figure": "stated", "reach": 0, "replies": totals["asked"], "to_judge": totals["passed"]} | said


async def _faq(corpus: Path, models: Path) -> dict[str, Any]:
    """The shipped FAQ of a hotel, asked the public questions."""
    from agent import faq  # noqa: PLC0415
    from agent.clock import SystemClock  # noqa: PLC0415
    from agent.shipped import shipped  # noqa: PLC0415

    told: dict[str, Any] = {}
    for language in LANGUAGES:
        path = shipped("device_profiles") / "faq" / f"hotel.{language}.toml"
        told[language] = await faq.check(path, corpus / "faq" / "questions.json", language, models, SystemClock())
    counts = {name: sum(told[language][name] for language in LANGUAGES) for name in ("right", "asked", "false", "strangers")}
    right, false = counts["right"] / counts["asked"], counts["false"] / counts["strangers"]
    return counts | {
        "right_share": round(right, 4),
        "false_share": round(false, 4),
        "reach": {"right_share": RIGHT_SHARE_MIN, "false_share": FALSE_SHARE_MAX},
        "reached": right >= RIGHT_SHARE_MIN and false <= FALSE_SHARE_MAX,
        "by_language": told,
    }


async def _hearing(profile: "Profile", corpus: Path, models: Path, stories: bytes, seed: int) -> dict[str, Any]:
    from agent.bench.talk import hearing  # noqa: PLC0415
    from agent.sim.sound.detect import floats  # noqa: PLC0415

    return await asyncio.to_thread(hearing.measure, models, corpus, profile, floats(stories), seed)
