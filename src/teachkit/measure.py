"""How this project measures: warm up, synchronise, repeat; median and spread; one record per result."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

Kind = Literal["measured", "predicted", "simulated"]


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has done what was asked of it; a CPU has done so already."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one repeated measurement."""

    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.times_s)

    @property
    def iqr_s(self) -> float:
        """Distance between the quartiles: half of the calls lie within it."""
        if len(self.times_s) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.times_s, n=4, method="inclusive")
        return high - low


def time_call(
    call: Callable[[], object],
    *,
    device: torch.device | str = "cpu",
    warmup: int = 2,
    repeats: int = 10,
    budget_s: float = 10.0,
) -> Timing:
    """Time ``call``: warm-up runs not counted, then up to ``repeats`` runs within ``budget_s``, at least 3.

    Why  the median: on a shared machine the mean is the mean of the disturbances
    """
    for _ in range(warmup):
        call()
    synchronise(device)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - begin < budget_s):
        start = time.perf_counter()
        call()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return Timing(tuple(times))


def time_calls(
    calls: dict[str, Callable[[], object]],
    *,
    device: torch.device | str = "cpu",
    warmup: int = 2,
    repeats: int = 10,
) -> dict[str, Timing]:
    """Time several calls in turn, A B A B, so that a slow spell of the machine falls on all alike."""
    for call in calls.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name] += time_call(call, device=device, warmup=0, repeats=1).times_s
    return {name: Timing(tuple(values)) for name, values in times.items()}


@dataclass(frozen=True)
class Result:
    """One result with its provenance; one JSON line when written.

    ``kind`` says whether the value was measured, predicted by a model, or simulated.
    """

    name: str
    kind: Kind
    value: float
    unit: str
    median: float | None = None
    iqr: float | None = None
    n: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    threads: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    date: str = ""


def result(
    name: str,
    value: float,
    unit: str,
    *,
    kind: Kind = "measured",
    timing: Timing | None = None,
    config: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = "",
) -> Result:
    """A result of this machine, now: fills in device, threads, versions, commit and date.

    timing  gives the median and spread in seconds, and n
    """
    return Result(
        name,
        kind,
        value,
        unit,
        median=timing.median_s if timing else None,
        iqr=timing.iqr_s if timing else None,
        n=len(timing.times_s) if timing else 1,
        config=config or {},
        dtype=str(dtype).removeprefix("torch."),
        **provenance(device),
    )


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """device, threads, versions, commit and date, as a result record has them."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "teachkit": _version()},
        "commit": _commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def caption(device: torch.device | str = "cpu", *, dtype: str = "float32", kind: Kind = "measured") -> str:
    """One line of Markdown to stand under a figure: kind, device, threads, number format, versions, date."""
    p = provenance(device)
    software = f"Python {p['versions']['python']}, PyTorch {p['versions']['torch']}"
    threads = f"{p['threads']} thread{'s' if p['threads'] > 1 else ''}"
    return f"*{kind}: {p['device']}, {threads}, {dtype}, {software}, {p['date']}*"


def device_name(device: torch.device | str = "cpu") -> str:
    """What the maker calls the device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def append(results: Iterable[Result], path: str | Path) -> None:
    """Add results to a file of JSON lines."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(r)) + "\n" for r in results)


def read(path: str | Path) -> list[Result]:
    """The results of a file that :func:`append` wrote."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [Result(**json.loads(line)) for line in lines if line]


def _version() -> str:
    try:
        return metadata.version("teachkit")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return ""


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not in a repository
        return ""
