"""What is left of the points of a submission that came late. Decided at export: nothing is graded again for
it.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from dataclasses import dataclass
from datetime import datetime

HOUR_S, DAY_S = 3_600, 86_400


@dataclass(frozen=True)
class Late:
    """A policy.

    due      with a time zone
    per_day  share of the points lost for each day begun
    most     share lost at most
    grace_s  seconds that are not counted
    """

    due: datetime
    per_day: float = 0.1
    most: float = 1.0
    grace_s: float = 0.0

    def factor(self, handed_in: datetime) -> float:
        """What is left of the points."""
        late_s = (handed_in - self.due).total_seconds() - self.grace_s
        return 1.0 if late_s <= 0 else 1 - min(self.most, self.per_day * math.ceil(late_s / DAY_S))


def factors(options: argparse.Namespace) -> dict[str, float]:
    """By student, from the arguments of ``teachgrade report``. Raises ValueError."""
    if (options.due is None) != (options.handed_in is None):
        raise ValueError("late submissions: expected both --due and --handed-in")
    if options.due is None:
        return {}
    if not (0 <= options.late_per_day <= 1 and 0 <= options.late_most <= 1 and options.grace_hours >= 0):
        raise ValueError("late submissions: expected shares from 0 to 1, and no negative grace")
    policy = Late(
        _time(options.due, "--due"), options.late_per_day, options.late_most, options.grace_hours * HOUR_S
    )
    times = read_times(options.handed_in.read_text(encoding="utf-8-sig"))
    return {student: policy.factor(time) for student, time in times.items()}


def read_times(text: str) -> dict[str, datetime]:
    """When each student's work came, from CSV with the columns student, handed_in. Raises ValueError."""
    reader = csv.DictReader(io.StringIO(text))
    if not {"student", "handed_in"} <= set(reader.fieldnames or ()):
        raise ValueError(f"times: expected the columns student, handed_in; got {reader.fieldnames}")
    found: dict[str, datetime] = {}
    for row in reader:
        if row["student"] in found:
            raise ValueError(f"times, line {reader.line_num}: {row['student']} stands there twice")
        found[row["student"]] = _time(row["handed_in"], f"times, line {reader.line_num}")
    return found


def _time(text: str | None, where: str) -> datetime:
    try:
        # Python 3.10 does not know the Z.
        found = datetime.fromisoformat((text or "").strip().replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{where}: expected a time such as 2026-12-01T23:59+01:00, got {text!r}") from None
    if found.tzinfo is None:
        raise ValueError(f"{where}: expected a time zone, as in 2026-12-01T23:59+01:00, got {text!r}")
    return found
