"""A draft makes recognition cheaper and changes nothing but how it is rounded."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from agent.audio import wav
from agent.engines.moonshine.network import END, START, Network, Samples
from agent.engines.moonshine.vocabulary import read_vocabulary, text_of
from agent.engines.worker import session_options
from agent.values import RATE_HZ
from tests.conftest import GOLDEN, tone
from tests.engines.helpers import settings

TIE = 1.0
"""Logits. A token this near to the best one, as a run of one token sees it, is as good: int8 rounding decides (see the module)."""


@pytest.fixture(scope="module")
def network(models: Path) -> Network:
    files = settings("asr_moonshine", models).files
    return Network(files["encoder_model.ort"], files["decoder_model_merged.ort"], session_options(1))


@pytest.fixture(scope="module")
def vocabulary(models: Path) -> list[bytes]:
    return read_vocabulary(settings("asr_moonshine", models).files["tokenizer.bin"])


def samples(path: Path) -> Samples:
    return np.frombuffer(b"".join(wav.read(path)), "<i2").astype(np.float32) / np.float32(32768)


def tokens(network: Network, sound: Samples, draft: list[int]) -> list[int]:
    return [token for settled in network.tokens(sound, draft) for token in settled]


def behind(network: Network, sound: Samples, ids: list[int]) -> float:
    """How far, in logits, the worst of these tokens and the end lies behind the best one, judged token by token."""
    heard, most = network._encode(sound)
    cache, worst = network._empty, 0.0
    said = [START, *ids, END] if len(ids) < most else [START, *ids]
    for at, (token, following) in enumerate(itertools.pairwise(said)):
        now = {"input_ids": np.array([[token]], np.int64), "use_cache_branch": np.array([at > 0])}
        logits, *present = network._decoder.run(None, heard | now | cache)
        cache = network._kept(cache, dict(zip(network._present, present, strict=True)), at + 1)
        worst = max(worst, float(logits[0, -1].max() - logits[0, -1, following]))
    return worst


@pytest.mark.parametrize("clip", ["question", "sense-0880.wav"])
def test_whatever_the_draft_each_token_is_the_best_there_or_as_good(clip: str, network: Network, question: Path) -> None:
    sound = samples(question if clip == "question" else GOLDEN / "librivox" / clip)
    plain = tokens(network, sound, [])
    assert behind(network, sound, plain) == 0
    prefixes = [tokens(network, sound[: int(len(sound) * share)], []) for share in (0.4, 0.85)]
    strange = [plain[:4] + list(range(300, 340)), plain * 3, plain[1:]]
    for draft in [*prefixes, *strange]:
        assert behind(network, sound, tokens(network, sound, draft)) <= TIE


def test_of_a_whole_question_the_words_are_the_same(network: Network, question: Path) -> None:
    sound = samples(question)
    plain = tokens(network, sound, [])
    for share in (0.5, 0.8):
        assert tokens(network, sound, tokens(network, sound[: int(len(sound) * share)], [])) == plain


def test_a_right_draft_takes_one_run_and_a_wrong_one_no_more_than_none(network: Network, question: Path) -> None:
    sound = samples(question)
    plain = list(network.tokens(sound, []))
    ids = [token for settled in plain for token in settled]
    assert list(network.tokens(sound, ids)) == [ids]
    assert len(list(network.tokens(sound, [300, 301, 302]))) <= len(plain) + 1
    assert len(list(network.tokens(sound, ids[:-4]))) <= 6


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(RATE_HZ * 2),
        np.random.default_rng(1).normal(0, 0.1, RATE_HZ * 3),
        tone(3.0, hertz=440),
        tone(3.0, hertz=50, size=0.2),
        np.concatenate([tone(0.5, hertz=hertz) for hertz in (262, 294, 330, 392, 440, 523)]),
        np.sign(tone(3.0, hertz=200)),
    ],
    ids=["silence", "noise", "tone", "hum", "melody", "clipping"],
)
def test_what_is_no_speech_has_no_words_and_an_end(network: Network, vocabulary: list[bytes], sound: Samples) -> None:
    ids = tokens(network, sound.astype(np.float32), [])
    assert text_of(ids, vocabulary) == ""
    assert len(ids) <= 6.5 * len(sound) / RATE_HZ + 8


def test_a_loop_ends_at_the_limit_with_a_draft_and_without(network: Network) -> None:
    hum = tone(3.0, hertz=50, size=0.2).astype(np.float32)
    looped = tokens(network, hum, [])
    assert len(looped) == int(3 * 6.5) + 8
    assert tokens(network, hum, looped + looped[-4:] * 9) == looped
