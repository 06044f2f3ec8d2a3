"""Every documented command is exercised, every example runs, every relative link leads somewhere.

COMMANDS says for each kind of command how it is exercised here; a command of no known kind fails.
A fence without a language holds commands: output is fenced as `text`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

import lesson_guards as guards
from teachgrade import cli as teachgrade_cli
from teachgrade.bubblewrap import available
from teachkit import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = guards.ROOT
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "book").glob("**/*.md")),
    *sorted((ROOT / "src").glob("**/*.md")),
    *sorted((ROOT / "training").glob("*.md")),
]
PROGRAMS = ("make", "python", "pip", "uv", "teachkit", "git", "pytest", "pre-commit", "jupyter", "source")
FENCED = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*(\{?[\w:-]*)[^\n]*\n(.*?)^[ \t]*\2[ \t]*$", re.M | re.S)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


# Commands in a text


def commands(text: str) -> list[list[str]]:
    """The commands that a page shows, in shell fences and in code spans, as words."""
    lines = []
    for _, _, language, body in FENCED.findall(text):
        if language in ("", "sh", "bash", "shell"):
            lines += body.replace("\\\n", " ").splitlines()
        elif language == "console":
            lines += [line.lstrip()[2:] for line in body.splitlines() if line.lstrip().startswith("$ ")]
    spans = SPAN.findall(FENCED.sub("", text))
    lines += [span for span in spans if " " in span and program(span.split()[0]) in PROGRAMS]
    return [words for line in lines for words in _split(line)]


def _split(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("&|;"):
            yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def program(word: str) -> str:
    """teachkit for .venv/bin/teachkit, python for python3.12."""
    return re.sub(r"^python[\d.]*$", "python", re.split(r"[/\\]", word)[-1].removesuffix(".exe"))


# How each kind of command is exercised


def run(words: list[str], folder: Path, **environment: str) -> str:
    """Run a command as somebody new would: empty home, no network, this environment active."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "HOME": str(home), "USERPROFILE": str(home), "HF_HUB_OFFLINE": "1"}
    env |= {"OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{shlex.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def make(words: list[str], folder: Path) -> None:
    """Expanded, not run: these tests are themselves part of make check and make test."""
    if shutil.which("make") is None:
        pytest.skip("no make on this system")
    assert run([*words, "-n"], folder).strip(), "the target does nothing"


def teachkit(words: list[str], folder: Path) -> None:
    """Run in this process, which has torch at hand; test_setup.py runs the installed program.

    With a model from the hub only the arguments are parsed, since the rest needs the network; an estimate
    needs none. A bench takes minutes: its arguments are parsed, and test_cli_bench.py runs a small one.
    `teachkit generate`, `teachkit estimate` or `teachkit replay` by itself is a command's name, not a
    command. A replay takes as long as its trace, or needs a server: test_cli_replay.py plays small ones.
    """
    if words[1:] in (["generate"], ["estimate"], ["replay"]):
        return
    arguments = cli._parser().parse_args(words[1:])
    if words[1] in ("bench", "replay"):
        return
    if words[1] == "estimate" or arguments.model == "bundled" or Path(arguments.model).is_dir():
        assert cli.main(words[1:]) == 0


def teachgrade(words: list[str], folder: Path) -> None:
    """Run in this process, in a folder with the labs and what the commands before it on a page have left.

    1 is an answer, too: an untouched notebook does not pass, a submission has no time.
    """
    if words[1] in ("doctor", "grade", "report") and not available():
        pytest.skip("no bubblewrap; on Debian and Ubuntu: apt-get install bubblewrap")
    (folder / "labs").symlink_to(ROOT / "labs")
    lab = next((word for word in words if re.fullmatch(r"labs/\w+", word)), "labs/kv_cache")
    (folder / "by-hand.csv").write_text("student,question,points\n", encoding="utf-8")
    (folder / "times.csv").write_text("student,handed_in\n", encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for made in ("submissions", "build/release"):
            assert teachgrade_cli.main(["release", lab, "--out", made]) == 0
        if words[1] == "report":
            assert teachgrade_cli.main(["grade", lab, "submissions", "--out", words[3]]) == 0
        assert teachgrade_cli.main(words[1:]) in (0, 1)
    finally:
        os.chdir(before)


def vllm(words: list[str], folder: Path) -> None:
    """Another program, for machines with a GPU: it is not here, and its options are looked up, not tried."""
    assert words[1] == "serve"


def install(words: list[str], folder: Path) -> None:
    """Options, files, extras and names are right. test_setup.py installs a clone; make runs the same line."""
    arguments = words[words.index("install") + 1 :]
    if "uv" not in words[:1]:
        run([sys.executable, "-m", "pip", "install", *arguments, "--help"], folder)
    takes_file, declared = ("-c", "-r", "--constraint", "--requirement"), extras()
    for before, word in zip(["", *arguments], arguments, strict=False):
        if before in takes_file:
            assert (ROOT / word).is_file(), f"there is no {word}"
        elif local := re.fullmatch(r"\.(?:\[([\w,]+)\])?", word):
            unknown = set(filter(None, (local[1] or "").split(","))) - declared
            assert not unknown, f"pyproject.toml has no extras {unknown}"
        elif not word.startswith("-"):
            Requirement(word)


def extras() -> set[str]:
    return set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
    )


def script(words: list[str], folder: Path) -> None:
    """Its --help, which must know every option that the command uses: these run for minutes or hours."""
    told = run([sys.executable, words[1], "--help"], folder)
    unknown = [word for word in words[2:] if word.startswith("-") and word.split("=")[0] not in told]
    assert not unknown, f"{words[1]} has no {unknown}"


def environment(words: list[str], folder: Path) -> None:
    """In a temporary folder, without pip, which would take seconds."""
    run([sys.executable, *words[1:-1], "--without-pip", str(folder / words[-1])], folder)


def activate(words: list[str], folder: Path) -> None:
    """In a new environment in a temporary folder; on Windows only the name is looked at."""
    if "\\" in words[-1] or os.name == "nt":
        assert re.split(r"[/\\]", words[-1])[-3:] in (
            [".venv", "Scripts", "activate"],
            [".venv", "bin", "activate"],
        )
        return
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], folder)
    line = f"cd {shlex.quote(str(folder))} && {shlex.join(words)} && command -v python"
    assert str(folder) in run(["bash", "-c", line], folder)


def pytest_(words: list[str], folder: Path) -> None:
    """Collects one file: the tests that the command names are running."""
    arguments = words[words.index("pytest") + 1 :]
    options = [word for word in arguments if not (ROOT / word.split("::")[0]).exists()]
    run([sys.executable, "-m", "pytest", *options, "--collect-only", "-q", "tests/test_setup.py"], folder)


def pre_commit(words: list[str], folder: Path) -> None:
    """Not installed here, and it would change .git: its configuration is there."""
    assert words[1:] in (["install"], ["run", "--all-files"])
    assert (ROOT / ".pre-commit-config.yaml").is_file()


def jupyter(words: list[str], folder: Path) -> None:
    """The program is there; a server would not end."""
    run([sys.executable, "-m", "jupyter", words[words.index("jupyter") + 1], "--version"], folder)


COMMANDS: list[tuple[str, Callable[[list[str], Path], None]]] = [
    (r"make( \w+=\S+)* [a-z]+( \w+=\S+)*", make),
    (r"teachkit (generate|info|estimate|bench|replay)\b.*", teachkit),
    (r"teachgrade (release|check|grade|report|doctor)\b.*", teachgrade),
    (r"vllm serve \S+.*", vllm),
    (r"python -m venv \S+", environment),
    (r"(source|\.) \S+activate|activate", activate),
    (r"(python -m )?pip install .+", install),
    (r"(python -m )?uv pip install .+", install),
    (r"python (tools|training|benchmarks)/\w+\.py\b.*", script),
    (r"(python -m )?pytest\b.*", pytest_),
    (r"pre-commit .+", pre_commit),
    (r"(python -m )?jupyter lab\b.*", jupyter),
]
TAKES_SECONDS = re.compile(r"teachkit|teachgrade|(python -m )?pytest")


def exercise(words: list[str], folder: Path) -> None:
    """
    Raises  AssertionError: the command fails; LookupError: COMMANDS does not know it
    """
    known = " ".join([program(words[0]), *words[1:]])
    for pattern, how in COMMANDS:
        if re.fullmatch(pattern, known):
            how([program(words[0]), *words[1:]], folder)
            return
    raise LookupError(f"{shlex.join(words)!r}: say in COMMANDS how it is exercised, or fence it as `text`")


def documented() -> list[object]:
    """Each command once, whatever pages show it."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES if path.is_file()]
    texts += [
        cell.source
        for path in guards.LESSONS
        for _, cell in guards.prose_cells(nbformat.read(path, as_version=4))
    ]
    found = dict.fromkeys((program(words[0]), *words[1:]) for text in texts for words in commands(text))
    marks = {words: [pytest.mark.slow] if TAKES_SECONDS.match(" ".join(words)) else [] for words in found}
    return [pytest.param(list(words), id=shlex.join(words), marks=marks[words]) for words in found]


@pytest.mark.parametrize("words", documented())
def test_documented_command(words, tmp_path):
    exercise(words, tmp_path)


def test_readme_shows_the_three_first_commands():
    shown = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    for command in (["make", "book"], ["make", "test"], ["teachkit", "generate", "def "]):
        assert command in shown


# Examples


def examples(path: Path) -> str:
    """All Python blocks of a page, as one program."""
    return "\n".join(
        body
        for _, _, language, body in FENCED.findall(path.read_text(encoding="utf-8"))
        if language == "python"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in PAGES if p.is_file() and examples(p)], ids=lambda p: p.stem)
def test_examples_run(path, tmp_path):
    # PyTorch's compiler imports a module of PyTorch that PyTorch itself has deprecated.
    theirs = "ignore::DeprecationWarning:torch.jit._script"
    run([sys.executable, "-W", "error", "-W", theirs, "-c", examples(path)], tmp_path)


# Links

LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]^]+\]:\s*(\S+)|\b(?:href|src)=\"([^\"]+)\"", re.M
)


def broken_links(text: str, folder: Path, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Relative links of a piece of Markdown that lead nowhere.

    endings  what may be left out of a file's name: Sphinx takes `notation` for notation.md
    """
    prose = SPAN.sub("", FENCED.sub("", text))
    targets = ["".join(groups) for groups in LINK.findall(prose)]
    relative = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|//", target)]
    return [target for target in relative if not _leads_somewhere(target, text, folder, endings)]


def _leads_somewhere(target: str, text: str, folder: Path, endings: tuple[str, ...]) -> bool:
    name, _, anchor = target.partition("#")
    if name:
        path = next((p for end in endings if (p := folder / f"{name}{end}").exists()), None)
        if path is None:
            return False
        text = page_text(path)
    return not anchor or anchor in anchors(text)


def page_text(path: Path) -> str:
    if path.suffix == ".ipynb":
        return "\n\n".join(cell.source for _, cell in guards.prose_cells(nbformat.read(path, as_version=4)))
    return path.read_text(encoding="utf-8") if path.suffix == ".md" else ""


def anchors(text: str) -> set[str]:
    """Headings as GitHub and Sphinx name them, and MyST targets."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", FENCED.sub("", text), flags=re.M)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w:.-]+)\)=", text, flags=re.M))


@pytest.mark.parametrize("path", [p for p in PAGES if p.is_file()], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_page(path):
    endings = ("", ".md", ".ipynb") if (ROOT / "book") in path.parents else ("",)
    assert broken_links(path.read_text(encoding="utf-8"), path.parent, endings) == []


@pytest.mark.parametrize("path", guards.LESSONS, ids=lambda p: p.stem)
def test_links_of_lesson(path):
    lesson = nbformat.read(path, as_version=4)
    whole = page_text(path)
    for i, cell in guards.prose_cells(lesson):
        found = [
            link for link in broken_links(cell.source, path.parent) if link.lstrip("#") not in anchors(whole)
        ]
        assert found == [], f"cell {i}"


# The checks can fail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nmake book\nmake test  # all\n```", [["make", "book"], ["make", "test"]]),
        ("```bash\nteachkit generate \\\n  'def '\n```", [["teachkit", "generate", "def "]]),
        ("```console\n$ make book\nBook: done\n```", [["make", "book"]]),
        ("```text\nBook: done\n```\n\n```python\nprint()\n```", []),
        (
            "Run `pip install pre-commit && pre-commit install`.",
            [["pip", "install", "pre-commit"], ["pre-commit", "install"]],
        ),
        ("The `make` program and the `tk.generate(model)` call.", []),
        ("   ```sh\n   make book\n   ```", [["make", "book"]]),
        ("Run `.venv/bin/teachkit info`.", [[".venv/bin/teachkit", "info"]]),
    ],
)
def test_commands_are_found(text, expected):
    assert commands(text) == expected


@pytest.mark.parametrize(
    "command", ["rm -rf build", "conda install teachkit", "python -c 1", "make", "teachkit serve"]
)
def test_unknown_command_fails(command, tmp_path):
    with pytest.raises(LookupError, match="COMMANDS"):
        exercise(shlex.split(command), tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        "make boook",
        "pip install -e '.[bokk]'",
        "pip install -c constraint.txt .",
        "pip install --editible .",
        "uv pip install -c constraint.txt .",
        "python tools/none.py",
        "python tools/build_book.py --frehs",
        "pre-commit uninstall",
        "source .venv/activate",
    ],
)
def test_wrong_command_fails(command, tmp_path):
    with pytest.raises(AssertionError):
        exercise(shlex.split(command), tmp_path)


@pytest.mark.slow
def test_wrong_option_of_pytest_fails(tmp_path):
    with pytest.raises(AssertionError, match="exit 4"):
        exercise(["pytest", "-m", "not slow and"], tmp_path)


def test_wrong_argument_of_teachkit_fails(tmp_path, capsys):
    with pytest.raises(SystemExit):
        exercise(["teachkit", "info", "--modle", "org/name"], tmp_path)
    assert "--modle" in capsys.readouterr().err


def test_hub_name_is_parsed_and_not_fetched(tmp_path):
    exercise(["teachkit", "info", "--model", "org/name"], tmp_path)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](there.md) [b](https://example.org) [c](#a-title) [d](mailto:a@b.c)\n\n# A title!", []),
        ("[a](gone.md)", ["gone.md"]),
        ("![a](gone.png)", ["gone.png"]),
        ("[a](there.md#a-part) and [b](there.md#no-part)", ["there.md#no-part"]),
        ("[a](#nowhere)", ["#nowhere"]),
        ("[a][b]\n\n[b]: gone.md", ["gone.md"]),
        ('<a href="gone.html">a</a>', ["gone.html"]),
        ("[a](there)", ["there"]),
        ("`[a](gone.md)`\n\n```md\n[a](gone.md)\n```", []),
    ],
)
def test_broken_links_are_found(tmp_path, text, broken):
    (tmp_path / "there.md").write_text("# There\n\n## A part\n")
    assert broken_links(text, tmp_path) == broken
    assert broken_links("[a](there)", tmp_path, ("", ".md")) == []
