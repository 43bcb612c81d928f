"""The engine's own process: makes the worker, runs one call at a time, and dies with its parent.

A reader thread takes frames off the socket so that a cancel is seen between any two steps; the main thread runs the worker.
Opening a call cancels the one before it.
"""

import contextlib
import ctypes
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from agent.engines import ENGINES
from agent.engines.wire import Frame, pack, receive
from agent.engines.worker import Worker
from agent.errors import VoxmeterError
from agent.ports import EngineSettings

INBOX_ITEMS_MAX = 2_048
"""Frames waiting for the worker. The sender stays far below, as it is told what was taken, so that a cancel is always seen."""

TAKEN_TOLD = 64
"""Items after which the sender is told that they were taken."""

TIDY_SECONDS = 10.0
"""So long without a call: the allocator gives back what it kept, 5 to 30 MB. The first call after that takes a twentieth longer."""

MADV_POPULATE_READ = 22
"""Linux 5.14; an older one says that it knows no such advice."""

TOGETHER = frozenset({"vad"})
"""By what an engine implements: its answers come within a millisecond of each other, and each that comes alone wakes whoever listens."""

HELD_STEPS_MAX = 4
"""An eighth of a second of sound: more input may always be waiting on a busy machine, and who interrupts is not to wait for it."""

PR_SET_PDEATHSIG = 1

NICENESS = {"llm": 10}
"""By what an engine implements. Thinking goes on while the first clause is being spoken, and must not make it late."""


class Child:
    """Serves one worker over one socket."""

    def __init__(self, connection: socket.socket, *, together: bool = False) -> None:
        """`together`: what is given while more input waits is sent with what comes of that, HELD_STEPS_MAX at a time."""
        self._connection = connection
        self._incoming = connection.makefile("rb")  # what came together is read at once
        self._together = together
        self._held = bytearray()
        self._held_steps = 0
        self._inbox: queue.Queue[Frame] = queue.Queue(INBOX_ITEMS_MAX)
        self._newer: Frame | None = None
        self._cancelled = 0  # calls up to this number are to stop

    def serve(self) -> None:
        settings_frame = receive(self._incoming)
        if settings_frame is None:
            return
        pin(settings_frame[1].cores)
        worker = self._make(settings_frame[1])
        if worker is None:
            return
        tidy()  # loading leaves a tokenizer's or a graph's weight in pages that nobody needs any more
        self._send("ready")
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            kind, call, *_ = self._newer or self._when_idle(settings_frame[1].files.values())
            self._newer = None
            if kind == "open":
                self._run(worker, call)

    def _make(self, settings: EngineSettings) -> Worker | None:
        try:
            worker: Worker = resolve_name(ENGINES[settings.engine])(settings)
        except VoxmeterError as error:
            self._send("failed", 0, error.message, error.todo)
        except Exception as error:  # noqa: BLE001  whatever a model or a library throws ends here as one line
            self._send("failed", 0, f"{settings.engine} does not start: {_line(error)}", "run: voxmeter doctor")
        else:
            return worker
        return None

    def _run(self, worker: Worker, call: int) -> None:
        steps = worker.run(self._inputs(call))
        try:
            for output, usage in steps:
                self._step("step", call, output, usage)
                if self._cancelled >= call:
                    break
            self._send("end", call)
        except VoxmeterError as error:
            self._send("failed", call, error.message, error.todo)
        except Exception as error:  # noqa: BLE001  a broken call must not end the engine
            self._send("failed", call, _line(error), "")
        finally:
            with contextlib.suppress(Exception):  # whatever a model throws while it is let go of: how its call ended is told already
                steps.close()

    def _inputs(self, call: int) -> Iterator[Any]:
        taken = 0
        while True:
            kind, number, *item = frame = self._next()
            if number > call:
                self._newer = frame
            if number >= call and (kind != "item" or self._cancelled >= call):
                return
            if number == call:
                yield item[0]
                taken += 1
                if taken % TAKEN_TOLD == 0:
                    self._send("took", call, TAKEN_TOLD)

    def _next(self) -> Frame:
        """The next frame; first the one that a call left because it opens its successor."""
        frame, self._newer = self._newer, None
        if frame is None and self._inbox.empty():
            self._flush()
        return frame or self._inbox.get()

    def _when_idle(self, files: Iterable[Path]) -> Frame:
        """The next frame; meanwhile, if it does not come soon, memory is given back, and what is mapped of these files is there: a start
        is busy enough."""
        try:
            return self._inbox.get(timeout=TIDY_SECONDS)
        except queue.Empty:
            tidy()
            map_whole(files)
            return self._inbox.get()

    def _read(self) -> None:
        """Runs in its own thread until the parent is gone; then nothing is left to do here."""
        with contextlib.suppress(ConnectionError):  # a parent that was killed
            while (frame := receive(self._incoming)) is not None:
                if frame[0] == "cancel":
                    self._cancelled = max(self._cancelled, frame[1])
                if frame[0] == "open":
                    self._cancelled = max(self._cancelled, frame[1] - 1)
                self._inbox.put(frame)
        os._exit(0)

    def _step(self, *frame: Any) -> None:
        self._held += pack(frame)
        self._held_steps += 1
        if not self._together or self._held_steps >= HELD_STEPS_MAX or self._inbox.empty():
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._connection.sendall(self._held)
            self._held.clear()
            self._held_steps = 0

    def _send(self, *frame: Any) -> None:
        self._flush()
        self._connection.sendall(pack(frame))


def tidy() -> None:
    """Gives the system back what was freed."""
    ctypes.CDLL(None).malloc_trim(0)


def map_whole(files: Iterable[Path]) -> None:
    """Has all there that this process has mapped of the folders of these files: else a card is read when a word is heard for the first
    time, and memory grows with each."""
    folders, libc = {file.resolve().parent for file in files}, ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, *_, name = line.split(maxsplit=5)
        if Path(name).parent in folders:
            begin, end = (int(one, 16) for one in place.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_POPULATE_READ)


def pin(cores: tuple[int, ...]) -> None:
    """Keeps this process to these cores, as far as there are any; threads made from now on inherit it."""
    if able := os.sched_getaffinity(0) & set(cores):
        with contextlib.suppress(PermissionError):  # a service's sandbox refuses it; it is a matter of milliseconds, not of working
            os.sched_setaffinity(0, able)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def main() -> None:
    """Entry point: `python -m agent.engines.child ENGINE FD`; the engine's name is there for people reading `ps`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    part = sys.argv[1].split("_")[0]
    with contextlib.suppress(PermissionError):  # likewise
        os.nice(NICENESS.get(part, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    connection = socket.socket(fileno=int(sys.argv[2]))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Child(connection, together=part in TOGETHER).serve()


if __name__ == "__main__":
    main()
