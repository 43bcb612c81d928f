"""How much a robot may send at once, by how much waits to be written: a crowd is slowed before it is turned away."""

from dataclasses import dataclass

from agent.contract.wire import INFLIGHT_MAX


@dataclass(frozen=True, slots=True)
class Window:
    """Limits by the number of batches that wait."""

    batches_max: int = INFLIGHT_MAX
    """Of one robot while nothing presses."""
    easy: int = 64
    """Batches that may wait before windows shrink: two transactions' worth."""
    full: int = 512
    """More are turned away: at 64 KiB each they fill 32 MiB, and the last one waits for about 2 s."""
    wait_ms_per_batch: int = 4
    """What a batch takes to be written."""

    def at(self, waiting: int) -> tuple[int, int]:
        """(window_batches, not_before_ms) for whoever is answered while so many wait."""
        if waiting <= self.easy:
            return self.batches_max, 0
        share = max(self.full - waiting, 0) / (self.full - self.easy)
        return max(1, int(self.batches_max * share)), waiting * self.wait_ms_per_batch

    def turned_away(self, waiting: int) -> int:
        """How long to wait before trying again, in ms; 0: come in."""
        return 0 if waiting < self.full else 2 * waiting * self.wait_ms_per_batch
