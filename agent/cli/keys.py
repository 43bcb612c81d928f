"""Takes single keys from a terminal: the space bar for push to talk. The terminal is left as it was found."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from agent.errors import BadInput

SPACE = b" "

KEYS_MAX = 64
"""Keys taken at once; somebody may lean on the keyboard."""


def check() -> None:
    """Raises BadInput where nobody can press a key."""
    if not sys.stdin.isatty():
        raise BadInput("push to talk takes its key from a terminal, and standard input is none", "start it in a terminal")


@contextlib.contextmanager
def space_bar(pressed: Callable[[], None] | None) -> Iterator[None]:
    """While it is open each press calls `pressed`; None leaves the keyboard alone."""
    if pressed is None:
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()

    def take() -> None:
        keys = os.read(terminal, KEYS_MAX)
        if not keys:
            loop.remove_reader(terminal)  # the terminal is gone
        if SPACE in keys:
            pressed()

    tty.setcbreak(terminal)
    loop.add_reader(terminal, take)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
