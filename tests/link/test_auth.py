"""The API key: from systemd before the file, from nobody else's hands, and one line or nothing."""

from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.link.auth import api_key


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "api"


def put(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def test_the_key_in_the_file_is_read_at_each_call(file: Path) -> None:
    read = api_key(file)
    put(file, b"vx_1_secret\n")
    assert read() == "vx_1_secret"
    put(file, b"vx_2_secret\n")
    assert read() == "vx_2_secret"


def test_the_credential_of_systemd_wins(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(file, b"vx_of_the_file\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert api_key(file)() == "vx_of_the_file"
    put(tmp_path / "api-key", b"vx_of_systemd", 0o440)
    assert api_key(file)() == "vx_of_systemd"


def test_without_a_key_one_line_says_what_to_do(file: Path) -> None:
    with pytest.raises(BadInput, match=r"no API key.*register this robot"):
        api_key(file)()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_open_to_others_is_refused(file: Path, mode: int) -> None:
    put(file, b"vx_1_secret\n", mode)
    with pytest.raises(BadInput, match=r"open to others.*chmod 600"):
        api_key(file)()


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\nb", b"a\r\nx-evil: 1", "schlüssel".encode(), b"\xff", b"a" * 5_000])
def test_what_is_no_key_is_refused(file: Path, content: bytes) -> None:
    put(file, content)
    with pytest.raises(BadInput, match="does not hold an API key"):
        api_key(file)()


def test_a_folder_or_a_pipe_in_its_place_is_one_line(file: Path) -> None:
    file.mkdir(0o700)
    with pytest.raises(BadInput, match="check the rights"):
        api_key(file)()
