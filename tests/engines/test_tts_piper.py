"""Text for the voice: what can't be spoken, and how long text is cut. Piper itself runs in its own process, in test_contract."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.engines.host import start
from agent.values import Speech
from tests.engines.helpers import settings


def speak(models: Path, *texts: str) -> list[Speech]:
    async def main() -> list[Speech]:
        host: Any = await start(settings("tts_piper", models), SystemClock())
        try:
            call = host.open()
            for text in texts:
                await call.send(text)
            await call.finish()
            return [speech async for speech in call]
        finally:
            await host.aclose()

    return asyncio.run(main())


def test_each_piece_of_sound_covers_its_text(models: Path) -> None:
    first, second = speak(models, "Breakfast is at seven.", "Enjoy it.")
    assert (first.text, second.text) == ("Breakfast is at seven.", "Enjoy it.")
    assert len(first.pcm) > len(second.pcm) > 2 * first.rate_hz * 0.3


@pytest.mark.parametrize("text", ["\0", "🙂🏨", "!?…", " ", "\u202e\u200b"])
def test_what_has_no_sound_is_silent_and_accounted_for(models: Path, text: str) -> None:
    assert [(speech.pcm, speech.text) for speech in speak(models, text)] == [(b"", text)]


@pytest.mark.parametrize("text", ["مرحبا بكم في الفندق", "[[ not phonemes ]] hello", "Room\0 12 🙂"])
def test_odd_text_is_spoken_as_far_as_it_can_be(models: Path, text: str) -> None:
    assert len(b"".join(speech.pcm for speech in speak(models, text))) > 0


def test_100_000_characters_come_in_bounded_pieces_and_can_be_stopped(models: Path) -> None:
    text = "word " * 20_000

    async def main() -> None:
        host: Any = await start(settings("tts_piper", models), SystemClock())
        try:
            call = host.open()
            await call.send(text)
            await call.finish()
            pieces = []
            async for speech in call:
                pieces.append(speech.text)
                if len(pieces) == 3:
                    break
            await call.cancel()
            assert all(0 < len(piece) <= 240 for piece in pieces)
            assert text.startswith("".join(pieces))
            assert call.usage.characters < 5_000
        finally:
            await host.aclose()

    asyncio.run(main())
