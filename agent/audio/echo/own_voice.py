"""Decides whether what is heard while the robot speaks can be its own voice: pure, levels in, a verdict per 10 ms out.

    expected echo = loudest that was played lately + coupling, the part of it that comes back: learnt while the robot speaks
    it is loud, if        after cleaning it is not so far below the expected echo as a canceller leaves it
                    or    before cleaning it is well above the expected echo: a canceller holds back the first 50 ms of a guest
                    and   it stands out of the background, which in a hall is other people's voices
    somebody speaks, if   it is loud, and would be in a hall with an echo as loud as may come

Loud lowers the voice at once, and costs nothing if it was wrong. Somebody stops it. Between the two lies what was learnt in a hall
without echo: none is expected there, and when one comes all the same, because a door is shut or the volume turned up, it is loud. It
takes a canceller a second to follow. So what is left after cleaning proves a guest only while the canceller is seen to take an echo out.
The price is paid by guests who are much softer than the robot where it hears no echo: it lowers its voice for them, and stops late.

Before anything was learnt the echo is expected loud: at first only who is louder than the robot gets through. Guests raise what is heard
and so the coupling, but slowly, and they stop talking or the robot does. While the robot is silent, everything may be a guest.
"""

import itertools
import math
from collections import deque

BLOCK_MS = 10

ECHO_MS_MAX = 300
"""Delay of the echo and the ring of the room: as long after a sound was played its echo may be heard."""

PLAYING_DB = -50.0
"""Softer than this, what was played has no echo that anybody would take for speech."""

COUPLING_DB_FIRST = -3.0

COUPLING_DB_MIN, COUPLING_DB_MAX = -40.0, 10.0
"""The loudspeaker far from the microphone; a microphone that is turned up."""

COUPLING_DB_STEP = 0.15
"""Per block of loud playing, towards the median: 10 dB take 0.7 s of speech."""

RESIDUAL_DB = -8.0
"""A canceller that follows takes more than this out of the echo, in a bare hall too; of a guest it takes less."""

MAY_COME_DB = -12.0
"""Coupling that must be reckoned with, whatever was learnt. At -11 guests as loud as the robot are heard 0.2 s later, at -14 more
echoes that come at once at -10 stop the robot."""

LEFT_DB_MAX = -13.0
"""A canceller that follows leaves less than this of an echo; one that has just lost it leaves more."""

LEFT_DB_STEP, LEFT_DB_FORGOTTEN = 0.1, 0.05
"""Per block of loud playing: towards the median, and towards nothing known while no echo comes, so that 15 dB take three seconds."""

NO_ECHO_DB = -20.0
"""Where less than this comes back there is no echo by which a canceller could be judged."""

ABOVE_ECHO_DB = 5.0
"""The echo's own level scatters by less around what is expected of it."""

BACKGROUND_DB_FIRST, BACKGROUND_DB_MIN = -70.0, -80.0

ABOVE_BACKGROUND_DB = 8.0

BACKGROUND_DB_UP, BACKGROUND_DB_DOWN = 0.06, 0.02
"""Per block: it settles where a quarter of all blocks are softer, and follows another hall within ten seconds."""

LEVEL_MS, BACKGROUND_MS = 30, 100
"""Levels are averaged over so much: one loud block is a click."""

HOLD_MS = 100
"""Between two syllables a guest still speaks."""

SILENT_DB = -100.0


class OwnVoiceGate:
    """One per microphone. Levels are in dB of full scale, of blocks of 10 ms."""

    def __init__(self) -> None:
        self._played: deque[float] = deque(maxlen=ECHO_MS_MAX // BLOCK_MS)
        self._heard: deque[float] = deque(maxlen=ECHO_MS_MAX // BLOCK_MS)
        self._cleaned: deque[float] = deque(maxlen=ECHO_MS_MAX // BLOCK_MS)
        self._heard_powers: deque[float] = deque(maxlen=LEVEL_MS // BLOCK_MS)
        self._cleaned_powers: deque[float] = deque(maxlen=BACKGROUND_MS // BLOCK_MS)
        self._background_db = BACKGROUND_DB_FIRST
        self._held = 0
        self.left_db = 0.0
        """Learnt so far: what cleaning leaves of what is heard while the robot speaks; near 0 nothing is known of the canceller."""
        self.coupling_db = COUPLING_DB_FIRST
        """Learnt so far: the echo's level less that of what was played."""
        self.loud_ms = 0
        """For so long without a gap it has been louder than the robot's own voice could be; 0 while the robot is silent."""

    def step(self, played_db: float, heard_db: float, cleaned_db: float) -> bool:
        """True: what is heard may be somebody else. `heard_db` is the microphone before, `cleaned_db` after cancelling."""
        self._played.append(played_db)
        self._heard.append(heard_db)
        self._cleaned.append(cleaned_db)
        self._heard_powers.append(10 ** (heard_db / 10))
        self._cleaned_powers.append(10 ** (cleaned_db / 10))
        loudest = max(self._played)
        heard, cleaned = _mean(self._heard_powers, LEVEL_MS), _mean(self._cleaned_powers, LEVEL_MS)
        loud = self._stands_out(heard, cleaned, loudest + self.coupling_db, cancelled=True)
        may_come, proven = loudest + max(self.coupling_db, MAY_COME_DB), self.left_db < LEFT_DB_MAX
        somebody = loud and self._stands_out(heard, cleaned, may_come, cancelled=proven)
        playing = loudest > PLAYING_DB
        self._learn(playing=played_db > PLAYING_DB)
        self.loud_ms = self.loud_ms + BLOCK_MS if loud and playing else 0
        self._held = HOLD_MS // BLOCK_MS if somebody else max(0, self._held - 1)
        return not playing or self._held > 0

    def _stands_out(self, heard: float, cleaned: float, expected: float, *, cancelled: bool) -> bool:
        left = cleaned > max(expected + RESIDUAL_DB, self._background_db + ABOVE_BACKGROUND_DB)
        return (cancelled and left) or heard > expected + ABOVE_ECHO_DB

    def _learn(self, *, playing: bool) -> None:
        if playing:
            coupling, left = max(self._heard) - max(self._played), max(self._cleaned) - max(self._heard)
            step = COUPLING_DB_STEP if coupling > self.coupling_db else -COUPLING_DB_STEP
            self.coupling_db = min(COUPLING_DB_MAX, max(COUPLING_DB_MIN, self.coupling_db + step))
            if coupling < NO_ECHO_DB:
                self.left_db = min(0.0, self.left_db + LEFT_DB_FORGOTTEN)
            else:
                self.left_db += LEFT_DB_STEP if left > self.left_db else -LEFT_DB_STEP
        louder = _mean(self._cleaned_powers, BACKGROUND_MS) > self._background_db
        self._background_db += BACKGROUND_DB_UP if louder else -BACKGROUND_DB_DOWN
        self._background_db = max(BACKGROUND_DB_MIN, self._background_db)


def _mean(powers: deque[float], ms: int) -> float:
    """The level of the mean of the last so many milliseconds."""
    blocks = min(len(powers), ms // BLOCK_MS)
    return 10 * math.log10(sum(itertools.islice(reversed(powers), blocks)) / blocks)
