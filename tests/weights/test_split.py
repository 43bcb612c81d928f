"""Where a voice is cut: found by what nodes do, and what comes out of the parts is what came out of the whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from agent.weights import verify
from agent.weights.catalog import Model
from agent.weights.split import NoCut, cut, piper_split
from tests.weights.voices import HOP, toy_voice

QUIET = {"input": np.arange(9)[None], "input_lengths": np.array([9]), "scales": np.array([0, 1, 0], np.float32)}


def run(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, wanted), strict=True))


@pytest.mark.parametrize("speakers", [1, 3])
def test_the_parts_make_the_sound_of_the_whole(speakers: int) -> None:
    feeds = QUIET | ({"sid": np.array([2])} if speakers > 1 else {})
    model = toy_voice(speakers=speakers)
    parts, told = cut(model)
    assert told == {"cut": True, "durations": "lengths", "hop": HOP}
    assert {value.name for value in parts[1].graph.input} == {"thoughts", "e"}
    made = feeds
    for part in parts:
        made = made | run(part, made)
    assert made["sound"] == pytest.approx(run(model, feeds)["sound"], abs=1e-6)
    assert made["lengths"].shape == (1, 1, 9)


def test_no_weight_is_kept_twice() -> None:
    model = toy_voice()
    parts, _ = cut(model)
    kept = [weight.name for part in parts for weight in part.graph.initializer]
    assert sorted(kept) == sorted({weight.name for weight in model.graph.initializer} - {"last"})


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (toy_voice(without="ConvTranspose"), "no upsampling"),
        (toy_voice(without="Ceil"), "0 times a rounding of durations"),
        (toy_voice(twice="Ceil"), "2 times a rounding of durations"),
        (toy_voice(without="RandomNormalLike"), "0 times a source of noise"),
        (toy_voice(twice="RandomNormalLike"), "2 times a source of noise"),
    ],
    ids=["no upsampling", "no durations", "two durations", "no noise", "two noises"],
)
def test_a_graph_of_another_build_stays_whole(tmp_path: Path, model: Any, says: str) -> None:
    with pytest.raises(NoCut, match=says):
        cut(model)
    onnx.save(model, tmp_path / "voice.onnx")
    made = piper_split(tmp_path / "voice.onnx", tmp_path)
    assert [path.name for path in made] == ["encoder.onnx", "flow.onnx", "decoder.onnx", "split.json"]
    assert made[0].read_bytes() == (tmp_path / "voice.onnx").read_bytes()
    assert [path.stat().st_size for path in made[1:3]] == [0, 0]
    assert json.loads(made[3].read_text())["cut"] is False


def test_a_voice_pulled_before_it_was_cut_is_to_be_pulled_again(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/voice.onnx").write_bytes(b"whole")
    verify.seal(tmp_path / "toy", ("voice.onnx",))
    held = {"name": "voice.onnx", "source": "wheel:toy==1:voice.onnx", "sha256": verify.sha256_of(tmp_path / "toy/voice.onnx"), "size": 5}
    convert = {"recipe": "piper_split", "source": "voice.onnx", "makes": ["encoder.onnx"]}
    whole = {"name": "toy", "role": "tts", "licence": "MIT", "about": "", "file": [held]}
    assert verify.problems(Model.model_validate(whole), tmp_path, thorough=False) == []
    cut_now = Model.model_validate(whole | {"convert": convert})
    assert verify.problems(cut_now, tmp_path, thorough=False) == ["encoder.onnx has no entry in manifest.json"]
