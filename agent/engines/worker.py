"""What an engine is inside its process: a generator of steps, so that whoever drives it can stop it between any two."""

from collections.abc import Generator, Iterator
from typing import Any, Protocol, TypeAlias, TypeVar

from agent.ports import EngineSettings
from agent.values import StageUsage

Out = TypeVar("Out")

Step: TypeAlias = tuple[Out | None, StageUsage]
"""An output, or None for progress without one, and all that was used so far."""


class Worker(Protocol):
    """Made once from settings (loading its model), then run once per call."""

    def __init__(self, settings: EngineSettings) -> None: ...

    def run(self, inputs: Iterator[Any]) -> Generator[Step[Any]]:
        """Takes inputs as they come, yields steps. Closing the generator cancels the call; state kept for later calls stays whole.

        Raises EngineFailed for an input it can't take; the worker stays usable.
        """
        ...


def session_options(threads: int) -> Any:
    """ONNX Runtime options every engine shares: so many threads, and none that burns a core while it waits."""
    import onnxruntime  # noqa: PLC0415  the parent process never loads the runtime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # its plans, one per length of text, made memory grow from turn to turn
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
