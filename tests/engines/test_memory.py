"""What an engine must let go of by itself: Python looks for cycles late, and the system's libraries never give back what they lose."""

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np

from agent.engines.vits import Vits
from tests.engines.helpers import settings

COUNTED = """
from piper import espeakbridge
told = []
espeakbridge.set_voice = told.append
from agent.engines.tts_piper import keep_language
keep_language(), keep_language()
for language in ("en-us", "en-us", "de", "de", "en-us"):
    espeakbridge.set_voice(language)
print(*told)
"""


def test_a_sentence_that_was_spoken_takes_its_tensors_with_it(models: Path) -> None:
    voice = Vits(settings("tts_piper", models).files, 1, arena=False)
    ids = np.array([[1, 0, 20, 0, 2]])
    feeds = {"input": ids, "input_lengths": np.array([ids.size]), "scales": np.array([0.667, 1, 0.8], np.float32)}
    gc.disable()
    try:
        utterance = voice.encode(feeds)
        assert len(utterance.sound(0, utterance.frames))
        gone = weakref.ref(utterance)
        del utterance
        assert gone() is None
    finally:
        gc.enable()


def test_espeak_is_told_a_language_only_when_it_changes() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["en-us", "de", "en-us"]
