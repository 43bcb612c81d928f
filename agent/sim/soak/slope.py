"""How fast something grows: the median of the slopes between all pairs of points (Theil–Sen), with Sen's interval of 1968 by ranks.

A few wild points move neither. The interval takes the deviations from the line for independent; memory that steps up at chance
moments is not quite that, so a short run's interval is too narrow rather than too wide.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SIGMAS = 1.96
"""Of 95 % confidence, both sides together."""

POINTS_MIN = 3
"""Fewer have no interval."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Units of the second co-ordinate per unit of the first."""

    median: float
    lower: float
    upper: float


def theil_sen(points: Sequence[tuple[float, float]], sigmas: float = SIGMAS) -> Slope | None:
    """Of (x, y) with x rising; None of fewer than POINTS_MIN."""
    if len(points) < POINTS_MIN:
        return None
    slopes = _slopes(np.array(points, np.float64))
    reach = sigmas * math.sqrt(_variance(points))
    outside = max(0, math.floor((len(slopes) - reach) / 2) - 1)
    return Slope(float(np.median(slopes)), float(slopes[outside]), float(slopes[-1 - outside]))


def _slopes(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Between all pairs, smallest first."""
    first, second = np.triu_indices(len(points), 1)
    rise = points[second] - points[first]
    slopes: npt.NDArray[np.float64] = np.sort(rise[:, 1] / rise[:, 0])
    return slopes


def _variance(points: Sequence[tuple[float, float]]) -> float:
    """Of Kendall's S, with its correction for equal y."""
    count = len(points)
    ties = Counter(y for _, y in points).values()
    return (_term(count) - sum(map(_term, ties))) / 18


def _term(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)
