"""teachgrade: labs that a student fills in, and a grader that runs what comes back as what it is: untrusted.

A lab is four things: a source with marked solutions, *scenarios* (what is asked of a solution, inputs only),
a bank of wrong solutions, each with the misconception that it stands for, and other right ones. A scenario is
recorded once as a list of operations on plain data. The same list is played on the reference, on every wrong
solution, and on the submission, there inside a sandbox; what was seen is compared outside.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Late, since in the sandbox there is no such module.
    if name == "check":
        from teachgrade.self_check import check

        return check
    raise AttributeError(f"module 'teachgrade' has no attribute {name!r}")
