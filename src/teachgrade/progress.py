"""Where a batch is: a bar with counts by status and the time left in a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from teachgrade.batch import Progress as Where

EVERY = 20  # submissions between two lines


@contextmanager
def showing(total: int) -> Iterator[Callable[[Where], object]]:
    """While this lasts, what it gives shows where the batch is. total: submissions"""
    console = Console(file=sys.stderr)
    if not console.is_terminal:

        def line(now: Where) -> None:
            if now.done == now.total or now.done % EVERY == 0:
                print(f"teachgrade: {now.done} of {now.total}: {counts(now)}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total)

        def move(now: Where) -> None:
            bar.update(task, completed=now.done, description=counts(now))

        yield move


def counts(now: Where) -> str:
    """Submissions by status, the most frequent first."""
    parts = [f"{n} {status}" for status, n in now.by_status.most_common()]
    if now.resumed:
        parts.append(f"({now.resumed} from before)")
    return ", ".join(parts)
