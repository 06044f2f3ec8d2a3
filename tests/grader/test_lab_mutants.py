"""Is every line of a reference solution looked at? Each is changed a little, and the scenarios must notice.

A line of a solution that ends in `# no mutate: <reason>` is left alone: its changes are no faults.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys

import jupytext
import pytest

from at_hand import LABS, ROOT, key_of, lab_named
from teachgrade.cells import is_shown_only
from teachgrade.lab import seen_by
from teachgrade.source import regions, without_markers

sys.path.insert(0, str(ROOT / "tools"))
import mutate

LEAST, LIMIT_S, SAMPLE = 0.95, 30, 8
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")


def cells(stem):
    """(code without markers, lines of it that belong to solutions) of each cell that has any."""
    for cell in jupytext.reads(lab_named(stem).source, fmt="py:percent").cells:
        found = regions(cell.source) if cell.cell_type == "code" and not is_shown_only(cell.source) else []
        if found:
            # Each marker above takes a line away.
            inside = {n - 2 * at - 1 for at, r in enumerate(found) for n in range(r.first + 1, r.last)}
            yield without_markers(cell.source), inside


def mutants(stem):
    return [
        (code, mutant)
        for code, inside in cells(stem)
        for mutant in mutate.mutants(code)
        if mutant.line in inside and "# no mutate" not in code.split("\n")[mutant.line - 1]
    ]


def is_rejected(stem, source):
    """Whether some scenario of a question that the cell answers gives something else, or does not end."""
    process = multiprocessing.get_context("fork").Process(target=_try, args=(stem, source))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    return process.exitcode != 0


def _try(stem, source):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    key, names = key_of(stem), dict(lab_named(stem).reference)
    before = dict(names)
    exec(source, names)
    defined = {name for name in names if names[name] is not before.get(name)}
    wanted = [q.id for q in key.lab.questions if defined & set(q.names)]
    for question in wanted:
        for at in key.places(question):
            if key.verdict(at, seen_by(names, key.recorded[at])).message:
                os._exit(1)
    os._exit(0)


def survivors(stem, chosen):
    return [
        f"line {m.line}: {m.what}: {code.split(chr(10))[m.line - 1].strip()}"
        for code, m in chosen
        if not is_rejected(stem, m.source)
    ]


@needs_fork
@pytest.mark.parametrize("stem", LABS)
def test_sample_of_mutants_is_rejected(stem):
    all_of_them = mutants(stem)
    chosen = random.Random(0).sample(all_of_them, min(SAMPLE, len(all_of_them)))
    assert survivors(stem, chosen) == []


@needs_fork
@pytest.mark.stress
@pytest.mark.parametrize("stem", LABS)
def test_mutants_are_rejected(stem, capsys):
    all_of_them = mutants(stem)
    alive = survivors(stem, all_of_them)
    with capsys.disabled():
        print(f"\n{stem}: {len(all_of_them) - len(alive)} of {len(all_of_them)} mutants rejected")
        print("\n".join(alive))
    assert len(alive) <= (1 - LEAST) * len(all_of_them)


def test_a_solution_that_is_right_is_not_rejected():
    (code, _), *_ = cells("attention")
    assert not is_rejected("attention", code)
    assert is_rejected("attention", "def softmax(x):\n    return x\n")
