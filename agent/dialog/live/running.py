"""What a conversation has under way."""

import asyncio
from dataclasses import dataclass

from agent.dialog.exchange import Exchange
from agent.dialog.live.ears import LiveEars
from agent.values import Turn


@dataclass(eq=False, slots=True)
class Running:
    """An exchange under way."""

    exchange: Exchange
    ears: LiveEars
    task: "asyncio.Task[Turn]"
    doubted: bool
    """It began while an answer was to sound or sounded, and no words that matter were heard in it yet."""
