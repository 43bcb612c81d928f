"""Ends background work without losing the word of whoever wants more to end than that work."""

import asyncio
from typing import Any


async def stopped(task: "asyncio.Task[Any]") -> None:
    """Cancels it and returns when it has settled; what it had not finished, the next start does again. Raises what it raised.

    Whoever is cancelled while it waits here waits on, for what comes next closes what the work still uses; then it is told.
    """
    task.cancel()
    told: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            told = error
    if told is not None:
        raise told
    if not task.cancelled():
        task.result()
