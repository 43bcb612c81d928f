"""Shows a conversation while it goes on: level, floor, words, the reply as it is spoken, tokens and money; lines where no screen is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from agent.cli.options import cell, grid, right
from agent.metering.rating import plain

if TYPE_CHECKING:
    from agent.talking import Talk
    from agent.talking.now import Now

FRAMES_PER_SECOND = 8

LEVEL_DB_MIN, LEVEL_CELLS = -60.0, 30
"""The bar: from a silent hall to full scale."""

STAGES_SHOWN_MAX = 9
"""Three attempts at three stages."""


class Screen:
    """Of one conversation."""

    def __init__(self, console: Console, *, live: bool) -> None:
        """`live`: with a picture that changes, where the console is a terminal."""
        self._console = console
        self._live = live and console.is_terminal
        self._lines = live
        self._listening = False

    def say(self, line: str) -> None:
        """One line, above the picture."""
        with contextlib.suppress(OSError, SystemExit):  # rich ends the process when nobody reads it; the conversation goes on
            self._console.print(line, soft_wrap=True)

    def turn(self, told: dict[str, Any]) -> None:
        """A turn has ended: what stays on the screen of it."""
        latency, total = told["latency"]["speech_end_to_first_audio_ms"], told["total"]
        sound = "no sound" if latency is None else f"first sound after {latency} ms"
        self.say(f"heard     {told['transcript'] or '(no words)'}")
        if self._lines:
            self.say(f"answered  {told['reply'].strip() or '(nothing)'}")
            self.say(f"          {total['billed_tokens']} tokens, {total['amount']} {total['currency']}; {sound}")
        for problem in told["problems"]:
            self.say(f"problem   {problem}")

    @contextlib.asynccontextmanager
    async def following(self, talk: "Talk") -> AsyncIterator[None]:
        """Shows it while it is open."""
        picture = Live(console=self._console, auto_refresh=False, transient=True) if self._live else None
        with picture or contextlib.nullcontext():
            task = asyncio.create_task(self._follow(talk, picture))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, talk: "Talk", picture: Live | None) -> None:
        while True:
            if not self._listening and talk.listening_after_s is not None:
                self._listening = True
                self.say(f"listening after {talk.listening_after_s:.1f} s; Ctrl-C ends it")
            if picture is not None:
                picture.update(view(talk.now(), key=_key(talk), sums=str(talk.sums())), refresh=True)
            await talk.app.clock.sleep(1 / FRAMES_PER_SECOND)


def view(now: "Now", *, key: str, sums: str) -> RenderableType:
    """One moment."""
    filled = round((max(now.level, LEVEL_DB_MIN) - LEVEL_DB_MIN) / -LEVEL_DB_MIN * LEVEL_CELLS)
    bar = "\N{BLACK VERTICAL RECTANGLE}" * filled + "\N{WHITE VERTICAL RECTANGLE}" * (LEVEL_CELLS - filled)
    lines: list[RenderableType] = [
        Text.assemble((f"{now.floor:<10}", "bold"), bar, f" {now.level:.0f} dB", key),
        Text.assemble(("you       ", "bold"), now.words),
        Text.assemble(("robot     ", "bold"), now.heard, " " if now.heard else "", (now.to_come, "dim")),
    ]
    if now.stages:
        table = grid("stage", "outcome", right("billed"), right("amount"))
        for stage in now.stages[-STAGES_SHOWN_MAX:]:
            table.add_row(stage.stage, stage.outcome, _figure(stage.billed_tokens), _figure(stage.amount))
        lines.append(table)
    lines.append(Text.assemble(("session   ", "bold"), sums))
    if now.trouble:
        lines.append(Text.assemble(("health    ", "bold"), (now.trouble, "red")))
    return Group(*lines)


def _figure(figure: Decimal | None) -> str:
    return cell(None if figure is None else plain(figure))


def _key(talk: "Talk") -> str:
    if not talk.asked.push_to_talk:
        return ""
    return "  talking: space ends it" if talk.pressed else "  space: talk"
