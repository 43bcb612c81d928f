"""Who is measured by `bench idle`, and what can't be."""

import asyncio
import os
import subprocess
import sys

import pytest

from agent.bench.idle import _called, run, spent_s
from agent.errors import BadInput


def test_a_profile_that_does_not_listen_is_refused() -> None:
    with pytest.raises(BadInput, match=r"scripted has no \[sound\]"):
        asyncio.run(run("scripted", 10))


def test_an_engine_that_was_replaced_meanwhile_counts_for_what_it_took_meanwhile() -> None:
    robot, ears, voice, ears_again = 10, 11, 12, 13
    before = {robot: 5.0, ears: 40.0, voice: 7.0}
    after = {robot: 5.0 + 0.5 + 41.0, voice: 7.25, ears_again: 2.0}  # the robot has buried the first ears, which had taken another second
    assert spent_s(before, after, robot) == {robot: pytest.approx(1.5), voice: 0.25, ears_again: 2.0}


def test_engines_go_by_their_names() -> None:
    words = (sys.executable, "-c", "input(1)", "agent.engines.child", "vad_silero", "18")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"1"  # it is what it was started as
        assert _called(child.pid, os.getpid()) == "vad_silero"
        assert _called(os.getpid(), os.getpid()) == "robot"
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
    assert _called(child.pid, os.getpid()) == str(child.pid)
