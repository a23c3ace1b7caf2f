"""How much a day adds, and when a limit will be reached if that goes on.

The trend is the median of the slopes between any two days (Theil and Sen): a single large push, or a clean-up, is an
event and no trend, and does not move it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil
from statistics import median

LEAST_DAYS, MOST_DAYS = 3, 30
FARTHEST_DAYS = 3650
"""What grows so slowly that it is full in more than ten years is as good as not growing."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """`trend` is how much a day adds, none where too little is known; `full_in` is in days, none where it is not."""

    trend: float | None
    full_in: int | None


def trend(values: Sequence[int]) -> float | None:
    """What each day adds to a level, of its values at the end of each of the last days; older ones do not count."""
    recent = list(enumerate(values[-MOST_DAYS:]))
    if len(recent) < LEAST_DAYS:
        return None
    return median((later - earlier) / (to - at) for (at, earlier), (to, later) in combinations(recent, 2))


def full_in(a_day: float | None, room: int | None, within: int = FARTHEST_DAYS) -> int | None:
    """About how many days the room that is left lasts: 0 where none is left, none where there is no limit, where it
    does not grow, or where that is more than so many days away."""
    if room is None:
        return None
    if room <= 0:
        return 0
    if a_day is None or a_day <= 0 or room > a_day * within:
        return None
    return ceil(room / a_day)


def forecast(values: Sequence[int], room: int | None, within: int = FARTHEST_DAYS) -> Forecast:
    a_day = trend(values)
    return Forecast(a_day, full_in(a_day, room, within))
