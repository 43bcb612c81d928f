"""What many tests need: a simulated clock, the models that scripts/setup fetched, WAVs made to order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from agent.sim.clock import SimulatedClock
from agent.sim.guests import QUESTIONS, hotel_guests
from agent.weights import catalog, verify

settings.register_profile("voxmeter", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("voxmeter")
"""How long an example takes says more of the machine than of us."""

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(seed=1)


@pytest.fixture(scope="session")
def models() -> Path:
    """Where the weights are. Without them the tests fail rather than skip: scripts/test fetches them first."""
    root = catalog.models_folder()
    for model in catalog.read().model:
        verify.paths(model, root)
    return root


@pytest.fixture(scope="session")
def recordings(models: Path) -> dict[str, Path]:
    return verify.paths(catalog.read().find("recordings"), models)


@pytest.fixture(scope="session")
def question(tmp_path_factory: pytest.TempPathFactory, recordings: dict[str, Path]) -> Path:
    """`What time does breakfast start in the morning?` in the guest's voice."""
    guests = hotel_guests(tmp_path_factory.mktemp("guests"), recordings["beckett.wav"])
    assert len(guests) == len(QUESTIONS) + 1
    return guests[0].wav


@pytest.fixture
def make_wav(tmp_path: Path) -> Callable[..., Path]:
    """Writes samples in [-1, 1] as a WAV of a given rate, channels and subtype."""

    def make(name: str, sound: np.ndarray, rate_hz: int = 16_000, subtype: str = "PCM_16", channels: int = 1) -> Path:
        path = tmp_path / name
        soundfile.write(path, np.repeat(sound[:, None], channels, axis=1), rate_hz, subtype=subtype, format="WAV")
        return path

    return make


def tone(seconds: float, rate_hz: int = 16_000, hertz: float = 220, size: float = 0.3) -> np.ndarray:
    sound: np.ndarray = np.sin(np.arange(int(seconds * rate_hz)) * (2 * np.pi * hertz / rate_hz)) * size
    return sound
