"""Decides from counts and times alone whether a stream is alive, and what is done when it is not: pure.

    starting --first samples--> fine --nothing for DEAD_S--> dead
                                     --less than SLOW of the samples due--> slow
                                     --more than FAST of them, for longer than a burst lasts--> fast
                                     --only zeros--> zeros

Theory of operation. A stream that "runs" says nothing: drivers die with the stream open, or go on at half the rate. So samples got
are counted against samples due over a sliding window. A stall and the burst that makes good for it leave the window together after
WINDOW_S; a rate that stays above FAST for longer than that is the clock itself. Zeros are what a muted or unplugged microphone sends:
a live one has noise.

Sound servers may give or take seconds at once, and then nothing for as long: it is dead only when nothing came for longer than what
came last lasts. And what comes at once counts as one, so that the beginning of the window never lies within it.

What is done: dead, slow and zeros are reopened, for as long as it takes. Fast is reopened once; if it stays, the device is taken at
its word no more: the rate it really has is its rate, and is resampled. Zeros that stay after a reopening are most likely a switch, so
each further reopening waits twice as long.
"""

from collections import deque
from typing import Literal

WINDOW_S = 4.0
"""Long enough that a burst of 0.4 s more or less passes, short enough that a customer repeats himself once at most."""

WHOLE = 0.75
"""Of the window must have passed before a rate counts."""

SLOW, FAST = 0.8, 1.15
"""Crystals differ by less than a thousandth; what is outside of this is broken."""

START_S = 5.0
"""A stream that has given nothing by then gives nothing: sound servers take up to 2 s."""

DEAD_S = 1.0
"""Beyond the length of what came last."""

BURST_S = 0.1
"""What comes within so long comes at once."""

BURST_S_MOST = 3.0
"""A burst that is longer makes good for a stall, and says nothing of the next; servers have blocks of 2 s."""

ZEROS_S = 30.0
"""No microphone is silent to the last bit for so long, but for those with a gate; they lose half a second of silence by it."""

ZEROS_S_MOST = 600.0

STEADY_S = 15.0
"""A stream that was fine for so long is healed: its next trouble is a first one."""

RETRY_S_FIRST, RETRY_S_MOST = 0.25, 8.0
"""A plug pulled and pushed back is found at once, one that stays away costs nothing."""

Verdict = Literal["starting", "fine", "dead", "slow", "fast", "zeros"]

WHY: dict[Verdict, str] = {
    "dead": "stands still although it is open",
    "slow": "runs at only {rate:.0%} of its rate",
    "fast": "runs at {rate:.0%} of its rate",
    "zeros": "gives only zeros; is it muted?",
}

ENDED = "is gone"

Action = Literal["go on", "reopen", "retune"]


class Watch:
    """Judges one open stream."""

    def __init__(self, rate_hz: float, opened_at: float, zeros_s: float = float("inf")) -> None:
        self._rate_hz = rate_hz
        self._opened_at = opened_at
        self._zeros_s = zeros_s
        self._window: deque[tuple[float, int]] = deque()
        self._samples = 0
        self._burst_at = 0.0  # the newest in the window began
        self._fast_since: float | None = None
        self._zero_seconds = 0.0
        self.alive = False
        """There was something else than zeros."""

    def got(self, samples: int, at: float) -> None:
        """So many samples came, or were taken, at that time; times never fall."""
        if self._window and at - self._burst_at < BURST_S:
            self._window[-1] = (at, self._window[-1][1] + samples)
        else:
            self._window.append((at, samples))
            self._burst_at = at
        self._samples += samples
        while self._window[0][0] < at - WINDOW_S:
            self._samples -= self._window.popleft()[1]
        if (rate := self._counted()) is None or rate <= FAST:
            self._fast_since = None
        elif self._fast_since is None:
            self._fast_since = at

    def sounded(self, seconds: float, *, zeros: bool) -> None:
        """What came was so long, and had nothing but zeros in it or not."""
        self._zero_seconds = self._zero_seconds + seconds if zeros else 0.0
        self.alive = self.alive or not zeros

    def rate(self, now: float) -> float:
        """Samples got per samples due. Close to 1 in a live stream; 1 while nobody can know, 0 when it is dead."""
        if self.verdict(now) == "dead":
            return 0.0
        return 1.0 if (rate := self._counted()) is None else rate

    def verdict(self, now: float) -> Verdict:
        if not self._window:
            return "starting" if now - self._opened_at <= START_S else "dead"
        last, samples = self._window[-1]
        if now - last > DEAD_S + min(samples / self._rate_hz, BURST_S_MOST):
            return "dead"
        if (rate := self._counted()) is not None and rate < SLOW:
            return "slow"
        if self._fast_since is not None and last - self._fast_since > WINDOW_S:
            return "fast"
        return "zeros" if self._zero_seconds > self._zeros_s else "fine"

    def _counted(self) -> float | None:
        """What came first belongs to the time before it. None: too little was seen."""
        if not self._window:
            return None
        (first, samples), last = self._window[0], self._window[-1][0]
        if last - first < WINDOW_S * WHOLE:
            return None
        return (self._samples - samples) / ((last - first) * self._rate_hz)


class Cure:
    """Remembers what was tried, and decides what is tried next."""

    def __init__(self, zeros_s: float = ZEROS_S) -> None:
        self.zeros_s_first = zeros_s
        self.zeros_s = zeros_s
        """How long the next stream may give only zeros."""
        self.true_rate = 1.0
        """The device's rate per the one it claims."""
        self._fast_before = False
        self._pause_s = RETRY_S_FIRST
        self._fine_since: float | None = None

    def after(self, verdict: Verdict, rate: float, now: float, *, silent: bool = False) -> Action:
        """What is to be done about a stream. `rate` and `silent` (nothing but zeros yet) are what was seen of it."""
        if verdict in ("fine", "starting"):
            self._steady(verdict, now, silent=silent)
            return "go on"
        self._fine_since = None
        if verdict == "zeros":
            self.zeros_s = min(self.zeros_s * 2, max(ZEROS_S_MOST, self.zeros_s_first))
        if verdict == "fast" and self._fast_before:
            self.true_rate *= rate
            return "retune"
        self._fast_before = verdict == "fast"
        self.true_rate = 1.0
        return "reopen"

    def pause_s(self) -> float:
        """How long to wait before the next try to open: twice as long each time."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, RETRY_S_MOST)
        return pause_s

    def _steady(self, verdict: Verdict, now: float, *, silent: bool) -> None:
        if not silent:
            self.zeros_s = self.zeros_s_first
        if verdict == "starting":
            self._fine_since = None
        elif self._fine_since is None:
            self._fine_since = now
        elif now - self._fine_since > STEADY_S:
            self._pause_s = RETRY_S_FIRST
            self._fast_before = False
