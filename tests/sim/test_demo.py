"""The demo: three guests, three replies, one picture, and books that hold."""

from pathlib import Path

import matplotlib.image
import pytest
import soundfile

from tests.e2e.helpers import voxmeter


@pytest.mark.long
def test_three_guests_are_heard_answered_and_billed_and_it_can_be_run_twice(tmp_path: Path, models: Path) -> None:
    for run in (1, 2):
        ended = voxmeter("demo", "--out", tmp_path, "--json")
        assert ended.status == 0, ended.err
        told = ended.told
        heard = [turn["transcript"] for turn in told["turns"]]
        assert heard[:2] == ["What time does breakfast start in the morning?", "What is the password on the wireless network?"]
        assert heard[2].lower().startswith("ever tried, ever failed")
        assert "6:30" in told["turns"][0]["reply"]
        assert "bluewave24" in told["turns"][1]["reply"]
        assert (told["records"], told["whole"]) == (1 + 12 * run, True)
        for number in (1, 2, 3):
            assert soundfile.info(tmp_path / f"reply-{number}.wav").duration > 0.5
    picture = matplotlib.image.imread(tmp_path / "waterfall.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
