"""A bundle that is not whole, not ours or not for this machine is told in one line, before anything is changed."""

import json
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.installing import manifest as manifests
from agent.installing.manifest import check_machine
from agent.installing.reading import Bundle
from tests.installing.made import archive


def test_a_whole_bundle_is_read_and_named_after_its_contents(tmp_path: Path) -> None:
    one, other = Bundle(archive(tmp_path / "a.tar")), Bundle(archive(tmp_path / "b.tar", profile="other"))
    assert one.name.startswith("1.0-")
    assert one.name != other.name
    assert one.name == Bundle(archive(tmp_path / "c.tar")).name


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9, 0.99])
def test_half_a_bundle_is_refused(share: float, tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadInput, match=r"cut short|no bundle"):
        Bundle(tmp_path / "half.tar")


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\0" * 10_240])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(content)
    with pytest.raises(BadInput, match="no bundle"):
        Bundle(tmp_path / "no.tar")


def test_one_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        Bundle(tmp_path / "none.tar")


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", changed={"models/ears/one.bin": b"WEIGHTS" * 99})
    with pytest.raises(BadInput, match=r"one\.bin is not what was packed"):
        Bundle(path)


def test_a_file_that_nobody_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="extra is not in its manifest"):
        Bundle(archive(tmp_path / "a.tar", changed={"extra": b""}))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "./a"])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    told = {"format": 1, "version": "1", "platform": "x86_64", "python": "3.11", "profile": "p", "models": []}
    told |= {"file": [{"path": path, "sha256": "0" * 64, "size": 1}]}
    with pytest.raises(BadInput, match="do not use it"):
        manifests.parsed(json.dumps(told).encode())


@pytest.mark.parametrize("change", [{"version": "../1"}, {"models": ["a/b"]}, {"models": [".."]}, {"version": ""}])
def test_names_that_lead_out_are_refused(change: dict[str, object]) -> None:
    told = {"format": 1, "version": "1", "platform": "x86_64", "python": "3.11", "profile": "p", "models": [], "file": []}
    with pytest.raises(BadInput, match="do not use it"):
        manifests.parsed(json.dumps(told | change).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 1, "file": 7}', b"\xff"])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="manifest is damaged"):
        manifests.parsed(content)


def test_a_newer_format_names_who_can_read_it() -> None:
    with pytest.raises(BadInput, match="format 2, this voxmeter knows 1"):
        manifests.parsed(b'{"format": 2}')


def test_it_is_for_one_architecture_and_one_python(tmp_path: Path) -> None:
    held = Bundle(archive(tmp_path / "a.tar")).manifest
    check_machine(held, "x86_64", "3.11")
    check_machine(held, "amd64", "3.11")
    with pytest.raises(BadInput, match=r"is for x86_64, this machine is arm64; make one with: --platform aarch64"):
        check_machine(held, "arm64", "3.11")
    with pytest.raises(BadInput, match=r"is for Python 3\.11, this machine has 3\.13; make one with: --python 3\.13"):
        check_machine(held, "x86_64", "3.13")
