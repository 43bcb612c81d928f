"""What sound devices this machine has."""

from agent.errors import MissingPart


def names() -> list[str]:
    """Names of inputs and outputs. Raises MissingPart where the sound library is not installed."""
    try:
        import sounddevice  # noqa: PLC0415  loading it opens the sound system, which most commands do not need
    except ModuleNotFoundError as error:
        raise MissingPart("the Python package sounddevice is not installed", "pip install 'voxmeter[audio]'") from error
    except OSError as error:
        raise MissingPart("PortAudio is not installed", "apt-get install libportaudio2 (files work without it)") from error
    try:
        return [str(device["name"]) for device in sounddevice.query_devices()]
    except sounddevice.PortAudioError as error:
        raise MissingPart(f"the sound system does not answer: {error}", "check it with: aplay -l") from error
