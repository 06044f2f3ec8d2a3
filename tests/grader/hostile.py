"""Submissions that are broken or mean harm, by kind: what each does, and what must become of it.

A case is the solved lab with something changed or added. ``target`` is a function that one question asks
for; where a case says ``lost``, that question alone must lose its points, and every other must keep them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from teachgrade.lab import Lab
from teachgrade.source import without_markers, without_solutions


@dataclass(frozen=True)
class Target:
    """A question that a case attacks: its id, the name it asks for, how many of its parameters are given."""

    question: str
    name: str


@dataclass(frozen=True)
class Case:
    """kind, as in the list of threats; make: the submission's bytes.

    status  of the whole; of the attacked question in ``lost`` (None: it passes)
    notes   a text that must stand among the notes
    """

    kind: str
    make: Callable[[Lab, Target], bytes]
    status: str = "graded"
    lost: tuple[str, ...] | None = None
    notes: str = ""
    nothing: bool = False  # no point at all is to be had
    spoils: bool = False  # it may harm its other answers as well, which run in the same process
    limit_s: float = 120.0


def notebook(source: str, change: Callable[[Any], None] | None = None) -> bytes:
    """The bytes of a notebook in py:percent form."""
    made = jupytext.reads(source, fmt="py:percent")
    made.metadata = nbformat.from_dict({"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    made.nbformat, made.nbformat_minor = 4, 5
    for number, cell in enumerate(made.cells):
        cell["id"] = f"c{number}"
    if change is not None:
        change(made)
    return nbformat.writes(made).encode()


def solved(lab: Lab) -> str:
    return without_markers(lab.source)


def adding(code: str, change: Callable[[Any], None] | None = None) -> Callable[[Lab, Target], bytes]:
    """The solved lab and one more cell at its end; {name} is the target's."""
    return lambda lab, target: notebook(
        solved(lab) + "\n\n# %%\n" + code.replace("{name}", target.name), change
    )


def before(code: str) -> Callable[[Lab, Target], bytes]:
    """The solved lab with a cell in front of everything."""

    def make(lab: Lab, target: Target) -> bytes:
        def put_first(made: Any) -> None:
            made.cells.insert(0, nbformat.v4.new_code_cell(code.replace("{name}", target.name), id="first"))

        return notebook(solved(lab), put_first)

    return make


def doing(body: str) -> Callable[[Lab, Target], bytes]:
    """The target does this instead, whatever it is called with; ``right`` is the right solution."""
    indented = "\n".join("    " + line for line in body.split("\n"))
    return adding(f"right = {{name}}\n\n\ndef {{name}}(*args, **kwargs):\n{indented}\n")


def changed(change: Callable[[Any], None]) -> Callable[[Lab, Target], bytes]:
    return lambda lab, target: notebook(solved(lab), change)


def raw(content: bytes) -> Callable[[Lab, Target], bytes]:
    return lambda lab, target: content


def from_bytes(change: Callable[[bytes], bytes]) -> Callable[[Lab, Target], bytes]:
    return lambda lab, target: change(notebook(solved(lab)))


def _version_3(content: bytes) -> bytes:
    found = json.loads(content)
    cells = [
        {
            "cell_type": "code",
            "input": cell["source"],
            "language": "python",
            "outputs": [],
            "collapsed": False,
        }
        for cell in found["cells"]
        if cell["cell_type"] == "code"
    ]
    return json.dumps(
        {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}
    ).encode()


def _markdown_instead(lab: Lab, target: Target) -> bytes:
    def change(made: Any) -> None:
        for cell in made.cells:
            if f"def {target.name}(" in cell.source:
                cell.cell_type = "markdown"
                for name in ("outputs", "execution_count"):
                    cell.pop(name, None)

    return notebook(solved(lab), change)


def _no_checks(made: Any) -> None:
    made.cells = [cell for cell in made.cells if "check(" not in cell.source]


def _checks_say_passed(made: Any) -> None:
    for cell in made.cells:
        if "check(" in cell.source:
            cell.source = "print('passed')"
    made.cells += [nbformat.v4.new_code_cell("passed = True", id=f"extra{n}") for n in range(3)]


def _all_twice(made: Any) -> None:
    made.cells = [
        *made.cells,
        *[nbformat.from_dict(dict(cell, id=f"again{n}")) for n, cell in enumerate(made.cells)],
    ]


def _metadata(made: Any) -> None:
    made.metadata["teachgrade"] = {"points": 1000, "status": "graded"}
    for cell in made.cells:
        cell.metadata = nbformat.from_dict(
            {"nbgrader": {"grade": True, "points": 1000, "locked": False}, "tags": ["skip"]}
        )


def _outputs(made: Any) -> None:
    text = "<script>alert(1)</script>" * 100_000
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text=text)]


def _kernel(made: Any) -> None:
    made.metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}


ENDED = ("timeout", "crashed", "out_of_memory")
FAILED = ("failed",)

CASES = [
    Case("blank", lambda lab, target: notebook(without_solutions(lab.source)), nothing=True),
    Case("empty notebook", raw(notebook("")), nothing=True),
    Case("wrong", doing("return None"), lost=FAILED),
    Case("raises", doing("raise RuntimeError('no')"), lost=FAILED),
    Case(
        "raises something of its own",
        doing("class Odd(BaseException):\n    def __str__(self):\n        raise self\nraise Odd"),
        lost=FAILED,
    ),
    Case("syntax error in one cell", adding("def broken(:\n    pass"), notes="SyntaxError"),
    Case("raises at top level", adding("1 / 0"), notes="ZeroDivisionError"),
    Case("raises in its first cell", before("raise ValueError('first')"), notes="ValueError"),
    # Loops
    Case("endless loop at top level", adding("while True:\n    pass"), "partial", notes="left out"),
    Case("endless loop in the first cell", before("while True:\n    pass"), "partial", notes="left out"),
    Case("endless loop in a function", doing("while True:\n    pass"), "partial", lost=("timeout",)),
    Case(
        "endless loop that ignores signals",
        doing(
            "import signal\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nwhile True:\n    pass"
        ),
        "partial",
        lost=("timeout",),
    ),
    Case(
        "endless loop that catches everything",
        doing(
            "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
        ),
        "partial",
        lost=("timeout",),
    ),
    Case("sleeps", doing("import time\ntime.sleep(10_000)"), "partial", lost=("timeout",)),
    # Ends the process
    Case("sys.exit at top level", adding("import sys\nsys.exit(0)"), notes="SystemExit"),
    Case("sys.exit in a function", doing("import sys\nsys.exit(0)"), lost=FAILED),
    Case("os._exit at top level", adding("import os\nos._exit(0)"), "partial", notes="left out"),
    Case("os._exit in a function", doing("import os\nos._exit(0)"), "partial", lost=("crashed",)),
    Case("segmentation fault", doing("import ctypes\nctypes.string_at(0)"), "partial", lost=("crashed",)),
    Case("abort", doing("import os\nos.abort()"), "partial", lost=("crashed",)),
    Case(
        "kills itself",
        doing("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
        "partial",
        lost=("crashed",),
    ),
    Case(
        "kills everything it can",
        # Itself, or in a namespace of its own all others, of which there are none.
        doing(
            "import os, signal\ntry:\n    os.kill(-1, signal.SIGKILL)\nexcept ProcessLookupError:\n    os.kill(os.getpid(), signal.SIGKILL)"
        ),
        "partial",
        lost=("crashed",),
    ),
    Case("deep recursion", doing("return {name}()"), lost=FAILED),
    Case(
        "deeper recursion",
        doing("import sys\nsys.setrecursionlimit(10**9)\nreturn {name}()"),
        "partial",
        lost=("crashed", "out_of_memory"),
    ),
    Case(
        "closes its pipes",
        doing("import os\nos.closerange(0, 256)\nwhile True:\n    pass"),
        "partial",
        lost=ENDED,
    ),
    # Cells
    Case("check cells deleted", changed(_no_checks)),
    Case("check cells edited", changed(_checks_say_passed)),
    Case("all cells twice", changed(_all_twice)),
    Case("a solution turned to text", _markdown_instead, lost=("missing",)),
    Case("metadata edited", changed(_metadata)),
    Case("unknown kernel", changed(_kernel)),
    Case("huge outputs", changed(_outputs)),
    # Files
    Case("cut off", from_bytes(lambda content: content[: len(content) // 2]), "unreadable", nothing=True),
    Case("empty file", raw(b""), "unreadable", nothing=True),
    Case("JSON, no notebook", raw(b'{"a": [1, 2]}'), "unreadable", nothing=True),
    Case("a number", raw(b"17"), "unreadable", nothing=True),
    Case("deep JSON", raw(b"[" * 200_000), "unreadable", nothing=True),
    Case("HTML page", raw(b"<!doctype html><title>Sign in</title>"), "unreadable", nothing=True),
    Case("UTF-16", from_bytes(lambda content: content.decode().encode("utf-16")), "unreadable", nothing=True),
    Case("nbformat 3", from_bytes(_version_3)),
    Case(
        "sources that are no text",
        raw(b'{"cells": [{"cell_type": "code", "source": [1, {}]}]}'),
        "unreadable",
        nothing=True,
    ),
    Case("200 MB", raw(b" " * 200_000_000), "unreadable", nothing=True),
    # What notebooks have
    Case(
        "magics",
        adding("%matplotlib inline\n!pip install torch\nx = !ls\n?print\nprint?\nkept = 1"),
        notes="ignored",
    ),
    Case("a cell of another language", adding("%%bash\nrm -rf /"), notes="ignored"),
    Case(
        "Colab",
        before("from google.colab import drive\ndrive.mount('/content')"),
        notes="ModuleNotFoundError",
    ),
    Case("input", adding("name = input('who?')"), notes="EOFError"),
    Case("get_ipython", adding("get_ipython().system('ls')"), notes="NameError"),
    Case(
        "prints and warnings",
        doing(
            "import sys, warnings\nwarnings.warn('look')\nprint('here')\nprint('there', file=sys.stderr)\nreturn right(*args, **kwargs)"
        ),
    ),
    # Takes what it can
    Case(
        "memory bomb",
        doing("held = []\nwhile True:\n    held.append(bytearray(2**26))"),
        "partial",
        lost=("out_of_memory",),
    ),
    Case(
        "memory bomb of tensors",
        doing("import torch\nheld = []\nwhile True:\n    held.append(torch.ones(2**24))"),
        "partial",
        lost=("out_of_memory",),
    ),
    Case(
        "fork bomb",
        doing("import os\nwhile True:\n    os.fork()"),
        "partial",
        lost=("crashed", "out_of_memory"),
    ),
    Case(
        "a thread left running",
        before(
            "import threading\ndef spin():\n    while True:\n        pass\nthreading.Thread(target=spin, daemon=True).start()"
        ),
        spoils=True,  # a question of speed is lost to its own thread
        limit_s=300.0,
    ),
    Case(
        "a child left running",
        before("import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])"),
        limit_s=300.0,
    ),
    Case("output flood", doing("print('x' * 1000 * 1000 * 50)\nreturn right(*args, **kwargs)")),
    Case(
        "disk fill",
        doing("with open('/tmp/full', 'wb') as file:\n    while True:\n        file.write(bytes(2**20))"),
        lost=FAILED,
    ),
    Case(
        "many files",
        doing(
            "number = 0\nwhile True:\n    with open(f'/tmp/{number}', 'wb') as file:\n        file.write(bytes(2**20))\n    number += 1"
        ),
        lost=FAILED,
    ),
    # Reaches out
    Case("TCP", doing("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=2)"), lost=FAILED),
    Case(
        "UDP",
        doing(
            "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))"
        ),
        lost=FAILED,
    ),
    Case("name lookup", doing("import socket\nsocket.getaddrinfo('example.org', 80)"), lost=FAILED),
    Case(
        "loopback",
        doing("import os, socket\nsocket.create_connection(('127.0.0.1', 8888), timeout=2)"),
        lost=FAILED,
    ),
    # Looks for answers
    Case("imports teachkit", doing("import teachkit\nreturn teachkit.attention"), lost=FAILED),
    Case("imports the grader", doing("from teachgrade.lab import load\nreturn load"), lost=FAILED),
    Case(
        "looks for the lab",
        doing(
            "import pathlib\nfound = [p for p in pathlib.Path('/').rglob('hidden.py') if 'proc' not in p.parts]\nif not found:\n    raise FileNotFoundError('nothing')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "looks for other submissions",
        doing(
            "import pathlib\nif not list(pathlib.Path('/').rglob('*.ipynb')):\n    raise FileNotFoundError('nothing')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "looks into the environment",
        doing(
            "import os\nif not any('SECRET' in name for name in os.environ):\n    raise KeyError('SECRET')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "looks into /proc",
        doing(
            "import pathlib\nseen = b''.join(p.read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*/environ'))\nif b'SECRET' not in seen:\n    raise KeyError('SECRET')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "writes results",
        doing(
            "import json, pathlib\nfor folder in ('/', '/results', '/kit', '/packages', '/given'):\n    path = pathlib.Path(folder)\n    path.mkdir(exist_ok=True)\n    (path / 'result.json').write_text('{}')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    # Tampers
    Case(
        "patches torch",
        before(
            "import torch\nfor name in ('allclose', 'equal', 'isclose', 'eq'):\n    setattr(torch, name, lambda *a, **k: True)"
        ),
        limit_s=300.0,
    ),
    Case(
        "patches torch and is wrong",
        doing(
            "import torch\nfor name in ('allclose', 'equal', 'isclose'):\n    setattr(torch, name, lambda *a, **k: True)\nreturn torch.zeros(1)"
        ),
        lost=FAILED,
    ),
    Case(
        "patches numpy.testing",
        doing("import numpy.testing\nnumpy.testing.assert_allclose = lambda *a, **k: None\nreturn 0"),
        lost=FAILED,
    ),
    Case(
        "patches builtins",
        doing(
            "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.all = lambda *a: True\nreturn 0"
        ),
        lost=(*FAILED, *ENDED),
        spoils=True,
    ),
    Case("patches time", before("import time\ntime.monotonic = time.time = time.perf_counter = lambda: 0.0")),
    Case(
        "patches the compiler",
        before(
            "import ast, builtins\nreal = builtins.compile\nbuiltins.compile = lambda source, *a, **k: real('pass' if isinstance(source, str) and 'assert' in source else source, *a, **k)"
        ),
    ),
    Case(
        "import hooks",
        before(
            "import sys\nclass Hook:\n    def find_spec(self, name, path=None, target=None):\n        return None\nsys.meta_path.insert(0, Hook())"
        ),
    ),
    Case(
        "patches the worker",
        doing(
            "import teachgrade.operations, teachgrade.worker\nteachgrade.worker.play = lambda *a: []\nteachgrade.operations.play = lambda *a: []\nreturn 0"
        ),
        lost=FAILED,
        spoils=True,
    ),
    # Pretends
    Case(
        "equals everything",
        doing(
            "class Equal:\n    def __eq__(self, other):\n        return True\n    def __getattr__(self, name):\n        return self\n    def __call__(self, *a, **k):\n        return self\nreturn Equal()"
        ),
        lost=FAILED,
    ),
    Case(
        "a tensor that is none",
        doing(
            "import torch\nclass Mine(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, func, types, args=(), kwargs=None):\n        return torch.tensor(True)\nreturn torch.ones(2, 3).as_subclass(Mine)"
        ),
        lost=FAILED,
    ),
    Case(
        "a string that is none",
        doing("class Text(str):\n    def __eq__(self, other):\n        return True\nreturn Text('x')"),
        lost=FAILED,
    ),
    Case(
        "an int that is none",
        doing("class Number(int):\n    def __eq__(self, other):\n        return True\nreturn Number(3)"),
        lost=FAILED,
    ),
    Case(
        "looks at its callers",
        doing(
            "import sys\nframe = sys._getframe()\nwhile frame:\n    for name, value in {**frame.f_locals}.items():\n        if 'expected' in name:\n            return value\n    frame = frame.f_back\nraise LookupError('nothing expected')"
        ),
        lost=FAILED,
    ),
    Case(
        "looks through memory",
        doing(
            "import gc\nfor found in gc.get_objects():\n    if isinstance(found, dict) and 'expected' in found and 'looks' in found:\n        return found['expected']\nraise LookupError('nothing expected')"
        ),
        lost=FAILED,
    ),
    Case(
        "a payload to unpickle",
        doing(
            "class Payload:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch /tmp/pwned',)\nreturn Payload()"
        ),
        lost=FAILED,
    ),
    Case("NaN", doing("import torch\nreturn torch.full((2, 3), float('nan'))"), lost=FAILED),
    Case("meta tensor", doing("import torch\nreturn torch.empty(2, 3, device='meta')"), lost=FAILED),
    Case("sparse tensor", doing("import torch\nreturn torch.eye(3).to_sparse()"), lost=FAILED),
    Case(
        "very large tensor",
        doing("import torch\nreturn torch.zeros(1).expand(2**33)"),
        lost=FAILED,
    ),
    Case("list that holds itself", doing("found = []\nfound.append(found)\nreturn found"), lost=FAILED),
    Case(
        "changes its arguments",
        doing(
            "import torch\nout = right(*args, **kwargs)\nfor x in args:\n    if isinstance(x, torch.Tensor):\n        x.zero_()\nreturn out"
        ),
        lost=FAILED,
    ),
    Case(
        "tensors that want gradients",
        doing(
            "import torch\nout = right(*args, **kwargs)\nreturn out.requires_grad_() if isinstance(out, torch.Tensor) and out.is_floating_point() else out"
        ),
    ),
    # Talks to the grader
    Case(
        "noise on standard output",
        doing("import os\nos.write(1, b'\\x00' * 100)\nreturn right(*args, **kwargs)"),
    ),
    Case(
        "noise on every pipe",
        doing(
            "import os\nfor number in range(3, 64):\n    try:\n        os.write(number, b'\\xff' * 100)\n    except OSError:\n        pass\nreturn right(*args, **kwargs)"
        ),
        "partial",
        lost=("crashed",),
    ),
    Case(
        "an answer that was not asked for",
        doing(
            "import os\nfrom teachgrade.values import pack\nfor number in range(3, 64):\n    try:\n        os.write(number, pack({'id': 10**6, 'seen': []}))\n    except OSError:\n        pass\nreturn right(*args, **kwargs)"
        ),
        "partial",
        lost=("crashed",),
    ),
    Case(
        "an answer that is too long",
        doing(
            "import os, struct\nfor number in range(3, 64):\n    try:\n        os.write(number, struct.pack('<IQ', 2**31, 2**60))\n    except OSError:\n        pass\nreturn right(*args, **kwargs)"
        ),
        "partial",
        lost=("crashed",),
    ),
    Case("script in a message", doing("raise ValueError('<script>alert(1)</script>')"), lost=FAILED),
]


def write(folder: Path, cases: list[Case], lab: Lab, target: Target) -> dict[str, Case]:
    """Write the submissions into a folder, one for each case; which student handed in which."""
    found = {}
    for number, case in enumerate(cases):
        student = f"{number:03d} {case.kind}".replace("/", "-")
        (folder / f"{student}.ipynb").write_bytes(case.make(lab, target))
        found[student] = case
    return found
