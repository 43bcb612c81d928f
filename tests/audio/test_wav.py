"""WAVs of every kind come in as 16 kHz mono; what is not a whole WAV is refused in one line."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.audio import wav
from agent.errors import BadInput
from agent.values import FRAME_SAMPLES, RATE_HZ, Speech
from tests.conftest import tone

MakeWav = Callable[..., Path]


def samples(path: Path) -> np.ndarray:
    frames = list(wav.read(path))
    assert {len(frame) for frame in frames} == {FRAME_SAMPLES * 2}
    return np.frombuffer(b"".join(frames), "<i2").astype(np.float64) / 32768


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_width_and_channel_count(make_wav: MakeWav, rate_hz: int, subtype: str, channels: int) -> None:
    sound = samples(make_wav("a.wav", tone(0.7, rate_hz), rate_hz, subtype, channels))
    assert abs(len(sound) - 0.7 * RATE_HZ) <= FRAME_SAMPLES
    middle = sound[2000:9000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * RATE_HZ / len(middle) - 220) < 5
    assert abs(np.sqrt((middle**2).mean()) - 0.3 / np.sqrt(2)) < 0.02


def test_other_chunks_before_the_sound_are_passed_over(tmp_path: Path, make_wav: MakeWav) -> None:
    raw = make_wav("a.wav", tone(0.5)).read_bytes()
    listed = raw[:12] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + raw[12:]
    (tmp_path / "b.wav").write_bytes(listed[:4] + struct.pack("<I", len(listed) - 8) + listed[8:])
    assert len(samples(tmp_path / "b.wav")) == pytest.approx(8000, abs=FRAME_SAMPLES)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_a_stream_that_did_not_know_its_length_goes_to_the_end(tmp_path: Path, make_wav: MakeWav, size: int) -> None:
    raw = make_wav("a.wav", tone(0.5)).read_bytes()
    at = raw.index(b"data") + 4
    (tmp_path / "b.wav").write_bytes(raw[:at] + struct.pack("<I", size) + raw[at + 4 :])
    assert len(samples(tmp_path / "b.wav")) == pytest.approx(8000, abs=FRAME_SAMPLES)


def test_nan_and_clipping_do_no_harm(make_wav: MakeWav) -> None:
    sound = tone(0.3, size=5.0)
    sound[100] = np.nan
    sound[101] = np.inf
    heard = samples(make_wav("a.wav", sound, subtype="FLOAT"))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1


def good(make_wav: MakeWav) -> bytes:
    return make_wav("good.wav", tone(0.5)).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: b"", "the file is empty"),
        (lambda raw: b"hello, this is not sound at all", "not a WAV file"),
        (lambda raw: raw[:20], "header is cut short"),
        (lambda raw: raw[:40], "header is cut short"),
        (lambda raw: raw[:9000], "cut short"),
        (lambda raw: raw[:44], "no samples"),
        (lambda raw: raw[:40] + struct.pack("<I", 0), "no samples"),
        (lambda raw: raw.replace(b"fmt ", b"junk"), "nothing of the format"),
        (lambda raw: raw[:20] + b"\x77\x77" + raw[22:], "can be read"),
        (lambda raw: b"fLaC" + raw[4:], "not a WAV file"),
    ],
    ids=["empty", "text", "no fmt", "no data", "data cut", "header alone", "no samples", "no format", "codec", "another format"],
)
def test_what_is_not_a_whole_wav(tmp_path: Path, make_wav: MakeWav, change: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(change(good(make_wav)))
    with pytest.raises(BadInput, match=says) as caught:
        wav.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_truncated_rf64_is_refused_and_a_whole_one_heard(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, tone(0.5), 16_000, subtype="PCM_16", format="RF64")
    assert len(samples(path)) == pytest.approx(8000, abs=FRAME_SAMPLES)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(BadInput, match="cut short"):
        wav.read(path)


def test_a_folder_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="it is a folder"):
        wav.read(tmp_path)
    with pytest.raises(BadInput, match="no such file"):
        wav.read(tmp_path / "none.wav")


@pytest.mark.parametrize("at", range(0, 44, 3))
def test_any_changed_byte_of_the_header_is_read_or_refused(tmp_path: Path, make_wav: MakeWav, at: int) -> None:
    raw = bytearray(good(make_wav))
    for value in (0, 0x7F, 0xFF):
        changed = bytes(raw[:at]) + bytes([value]) + bytes(raw[at + 1 :])
        path = tmp_path / "changed.wav"
        path.write_bytes(changed)
        try:
            for _ in wav.read(path):
                pass
        except BadInput:
            pass


def test_a_long_recording_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 96_000, 2, "PCM_24") as file:
        for _ in range(60):
            file.write(np.zeros((96_000, 2)))
    frames = wav.read(path)
    assert os.path.getsize(path) > 30_000_000
    assert sum(1 for _ in frames) == pytest.approx(60 * RATE_HZ / FRAME_SAMPLES, abs=1)


def test_a_written_reply_reads_back(tmp_path: Path) -> None:
    pcm = (tone(0.5, 22_050) * 32767).astype("<i2").tobytes()
    assert wav.write(tmp_path / "r.wav", [Speech(pcm, 22_050, "a"), Speech(b"", 22_050, "b"), Speech(pcm, 22_050, "c")]) == 1000
    assert soundfile.info(tmp_path / "r.wav").frames == 22_050
    with pytest.raises(BadInput, match="can't be written"):
        wav.write(tmp_path / "no/such/folder.wav", [Speech(pcm, 22_050, "a")])
