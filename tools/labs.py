"""Write what is derived from labs/<stem>/source.py: the student notebook, and the data of the visible part.

    python tools/labs.py            write labs/<stem>/<stem>.ipynb and src/teachgrade/visible/<stem>.json
    python tools/labs.py --check    fail if they are not what the source makes

In the set-up cell the line `ADDRESS = ""` gets the repository's address from _config.yml, as in lessons.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from notebooks import repository_address
from teachgrade.lab import Lab, load
from teachgrade.release import make

ROOT = Path(__file__).resolve().parent.parent
VISIBLE = ROOT / "src" / "teachgrade" / "visible"


def derived(lab: Lab) -> dict[Path, str]:
    """What each derived file should hold."""
    made = make(lab, repository_address(ROOT))
    return {lab.folder / f"{lab.stem}.ipynb": made.student, VISIBLE / f"{lab.stem}.json": made.visible}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stems", nargs="*", help="all labs by default")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    stems = options.stems or sorted(path.parent.name for path in (ROOT / "labs").glob("*/lab.toml"))
    stale = []
    for stem in stems:
        for path, text in derived(load(ROOT / "labs" / stem)).items():
            if path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            stale.append(path.relative_to(ROOT))
            if not options.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'is not what its source makes; run tools/labs.py' if options.check else 'written'}")
    if options.check and not stale:
        print(f"{len(stems)} labs: derived files agree")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
