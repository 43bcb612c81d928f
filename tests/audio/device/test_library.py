"""PortAudio's own library, where it fails to begin anew."""

from types import SimpleNamespace

import pytest

from agent.audio.device.library import PortAudio
from agent.errors import MissingPart


class Initialised:
    """Counts as sounddevice does, and fails as often as told."""

    PortAudioError = RuntimeError

    def __init__(self, fails: int) -> None:
        self._initialized, self._fails = 1, fails

    def _initialize(self) -> None:
        if self._fails:
            self._fails -= 1
            raise RuntimeError("Error initializing PortAudio")
        self._initialized += 1

    def _terminate(self) -> None:
        if not self._initialized:
            raise RuntimeError("PortAudio not initialized")
        self._initialized -= 1


def test_a_sound_system_that_did_not_begin_anew_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.audio.device.library.devices", SimpleNamespace(library=lambda: Initialised(2), check_alsa=lambda: None))
    library = PortAudio()
    for _ in range(2):
        with pytest.raises(MissingPart, match="the sound system does not answer: Error initializing PortAudio"):
            library.renew()
    library.renew()
    library.renew()
    assert library._sounddevice._initialized == 1
