"""Waits for work beside one's own, keeps it going, and ends it, without losing the word of whoever wants more to end than that work."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from agent.clock import Clock

T = TypeVar("T")

AGAIN_S_MIN, AGAIN_S_MAX = 1.0, 60.0
"""Before work that died of something nobody foresaw is begun again: doubled each time; what lasted longer than the most is new."""


async def kept(work: Callable[[], Awaitable[None]], clock: Clock, say: Callable[[str], None]) -> None:
    """Until it returns: work that fails unforeseen is begun again, later each time; `say` is told why, once in a row."""
    said, pause_s = "", AGAIN_S_MIN
    while True:
        began = clock.monotonic()
        try:
            await work()
        except Exception as error:  # whatever it is: a robot does not go without a part of it until somebody comes
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # it was stopped, and failed at that
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            return
        if line != said:
            say(line)
        said, pause_s = line, pause_s if clock.monotonic() - began < AGAIN_S_MAX else AGAIN_S_MIN
        await clock.sleep(pause_s)
        pause_s = min(2 * pause_s, AGAIN_S_MAX)


class Errands:
    """Small work beside one's own; what it raises is of no use to anybody."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[None]] = set()
        self._closed = False

    def __bool__(self) -> bool:
        """Something is under way."""
        return bool(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Returns at once; after the end nothing is begun."""
        if self._closed:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Stops what is under way."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def stopped(task: "asyncio.Task[Any]") -> None:
    """Cancels it and returns when it has settled; what it had not finished, the next start does again. Raises what it raised.

    Whoever is cancelled while it waits here waits on, for what comes next closes what the work still uses; then it is told.
    """
    task.cancel()
    await _settled(task)
    if not task.cancelled():
        task.result()


async def to_its_end(call: Callable[[], T]) -> T:
    """What it returns, or raises, in a thread. Whoever is cancelled meanwhile waits on, for the next call may not overlap this one."""
    task = asyncio.create_task(asyncio.to_thread(call))
    await _settled(task)
    return task.result()


async def unhurried(work: Coroutine[Any, Any, T]) -> T:
    """Runs to the end whoever cancels meanwhile, and only then lets the cancel through: books are closed once begun. Where they refuse,
    that is told first: nobody else would hear of it."""
    task = asyncio.create_task(work)
    try:
        await _settled(task)
    except asyncio.CancelledError:
        task.result()
        raise
    return task.result()


async def first(*awaited: Awaitable[object]) -> bool:
    """Returns when one of them has ended, the others are cancelled; whether it was the first that is named. Raises what it raises."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _settled(task: "asyncio.Task[Any]") -> None:
    told: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            told = error
    if told is not None:
        if not task.cancelled():
            task.exception()  # nobody is left to hear of it
        raise told
