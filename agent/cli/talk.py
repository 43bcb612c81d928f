"""`voxmeter talk`: a live conversation, with the hall or with files in its place."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, fail, out, run, screen

if TYPE_CHECKING:
    from agent.talking import Asked


def talk(
    *,
    recording: Annotated[Path | None, typer.Option("--wav", help="A recording in place of the microphone, in real time.")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="With --wav: where to write what the robot says.")] = None,
    pictures: Annotated[
        Path | None, typer.Option("--waterfalls", help="Folder for a picture of each session; by default in the state folder.")
    ] = None,
    push_to_talk: Annotated[bool, typer.Option("--push-to-talk", help="Listen only between two presses of the space bar.")] = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Listen, answer aloud, give way when interrupted, until Ctrl-C. Not beside a service that runs on the same state."""
    from agent.talking import Asked

    asked = Asked(recording, out_file, pictures, push_to_talk)
    told, to_its_end = run(_talk(asked, profile, state_dir, as_json=as_json))
    out(as_json, told, lambda console: show(console, told))
    if to_its_end and not any(turn["transcript"] for turn in told["turns"]):
        fail(f"{recording}: no speech heard; record it again, nearer to the microphone", 1)


async def _talk(asked: "Asked", profile: str, state_dir: Path | None, *, as_json: bool) -> tuple[dict[str, Any], bool]:
    """What it came to, and whether it was a recording that was listened to to its end."""
    from agent.cli.keys import check, space_bar
    from agent.cli.talkscreen import Screen
    from agent.talking import talking

    if asked.push_to_talk:
        check()
    shown = Screen(screen(to_stderr=as_json), live=not as_json)
    async with talking(asked, profile, state_dir, shown.say, shown.turn) as talk:
        with space_bar(talk.key if asked.push_to_talk else None):
            async with shown.following(talk):
                await talk.run()
    return talk.told(), talk.recording_ended.is_set()


def show(console: Console, told: dict[str, Any]) -> None:
    """What it came to, for a person."""
    from agent.cli import usage

    usage.show_total(console, told["usage"])
    for session in told["sessions"]:
        turns, tokens = session["turns"], session["billed_tokens"]
        console.print(f"session   {session['session_id']}: {turns} turns, {tokens} tokens, {session['amount']} {session['currency']}")
    for picture in told["waterfalls"]:
        console.print(f"picture   {picture}", soft_wrap=True)
