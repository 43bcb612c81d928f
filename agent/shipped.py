"""Finds the data files that travel with the code: inside the package in a wheel, beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Folder or file `device_profiles`, `models/catalog.toml`, …; the packaged one wins."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name
