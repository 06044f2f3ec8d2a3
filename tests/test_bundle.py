"""tools/bundle.py: the same book gives the same bytes, nothing is missing or out of date, none leaves."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

import book_pages
import bundle
import chromium
import made_book
import pdf
import pdf_check
from test_figures import browser  # noqa: F401  (a fixture)

ADDRESSES = ("src", "href", "poster", "data")
IN_STYLE = re.compile(r"url\(\s*['\"]?([^)'\"]+)")


@pytest.fixture
def packed(tmp_path):
    """The small book's root, its archive, and the folder that the archive unpacks to."""
    html = made_book.make(tmp_path)
    printed, target = tmp_path / "small.pdf", tmp_path / "memory-bound-1.2.3.zip"
    printed.write_bytes(b"%PDF-1.7 made")
    bundle.pack(tmp_path, html, printed, target)
    out = tmp_path / "out"
    with zipfile.ZipFile(target) as archive:
        archive.extractall(out)
    return tmp_path, target, out / "memory-bound-1.2.3"


def missing(folder: Path) -> list[str]:
    """What a page or a style sheet under `folder` refers to and that is not there."""
    found = []
    for path in [*folder.rglob("*.html"), *folder.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        wanted = IN_STYLE.findall(text) if path.suffix == ".css" else list(of_page(text))
        for address in wanted:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            if not (path.parent / unquote(parts.path)).resolve().exists():
                found.append(f"{path.relative_to(folder).as_posix()}: {address}")
    return found


def of_page(text: str):
    soup = BeautifulSoup(text, "html.parser")
    for node in soup.find_all(True):
        yield from (str(node[key]) for key in ADDRESSES if key in node.attrs)
    for refresh in soup.find_all("meta", attrs={"http-equiv": re.compile("refresh", re.IGNORECASE)}):
        yield str(refresh["content"]).partition("url=")[2]


def test_the_same_book_gives_the_same_bytes(packed):
    root, target, _ = packed
    again = root / "again" / target.name
    copy = root / "copy"
    shutil.copytree(root / "_build" / "html", copy)
    for number, path in enumerate(sorted(copy.rglob("*"), reverse=True)):
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        path.chmod(0o755)
    bundle.pack(root, copy, root / "small.pdf", again)
    assert again.read_bytes() == target.read_bytes()


def test_a_change_in_a_page_changes_the_bytes(packed):
    root, target, _ = packed
    page = root / "_build" / "html" / "notebooks" / "one.html"
    page.write_text(page.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    other = root / "other" / target.name
    bundle.pack(root, root / "_build" / "html", root / "small.pdf", other)
    assert other.read_bytes() != target.read_bytes()


def test_all_lies_in_one_folder_in_order_with_readme_and_pdf(packed):
    _, target, folder = packed
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names == sorted(names)
    assert {name.split("/")[0] for name in names} == {"memory-bound-1.2.3"}
    assert (folder / "memory-bound.pdf").read_bytes() == b"%PDF-1.7 made"
    said = (folder / "README.txt").read_text()
    assert "index.html" in said
    assert "1.2.3" in said


def test_what_only_the_build_needs_stays_out(packed):
    _, _, folder = packed
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    built = made_book.make(folder / "again")
    made = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert made - names == {".buildinfo", "objects.inv"}
    assert names - made == {"memory-bound.pdf", "README.txt"}


def test_every_file_that_a_page_refers_to_is_there(packed):
    _, _, folder = packed
    assert missing(folder) == []
    (folder / "_images" / "light.png").unlink()
    (folder / "notebooks" / "two.html").unlink()
    assert {line.split(":")[0] for line in missing(folder)} == {
        "_static/book.css",
        "book/intro.html",
        "notebooks/one.html",
    }


def test_a_book_that_is_not_built_says_what_to_run(tmp_path):
    html = made_book.make(tmp_path)
    (html / "notebooks" / "two.html").unlink()
    with pytest.raises(SystemExit, match="make book"):
        bundle.main(["--root", str(tmp_path)])


def printer(monkeypatch, status=0):
    """In place of printing: each run writes another PDF, and returns `status`."""
    runs = []

    def main(arguments):
        runs.append(arguments)
        target = Path(arguments[1]) / "_build" / pdf.NAME
        target.write_bytes(b"%%PDF-1.7 of run %d" % len(runs))
        return status

    monkeypatch.setattr(pdf, "main", main)
    return runs


def printed_in(root):
    with zipfile.ZipFile(root / "dist" / "memory-bound-1.2.3.zip") as archive:
        return archive.read("memory-bound-1.2.3/memory-bound.pdf")


def test_the_pdf_is_printed_each_time_and_packed(tmp_path, monkeypatch, capsys):
    """Also where one lies there that is newer than every page: it may be of another version."""
    made_book.make(tmp_path)
    (tmp_path / "_build" / pdf.NAME).write_bytes(b"of another version")
    runs = printer(monkeypatch)
    assert bundle.main(["--root", str(tmp_path)]) == 0
    assert printed_in(tmp_path) == b"%PDF-1.7 of run 1"
    assert "memory-bound-1.2.3.zip" in capsys.readouterr().out
    assert bundle.main(["--root", str(tmp_path)]) == 0
    assert printed_in(tmp_path) == b"%PDF-1.7 of run 2"
    assert runs == [["--root", str(tmp_path)]] * 2
    assert [path.name for path in (tmp_path / "dist").iterdir()] == ["memory-bound-1.2.3.zip"]


def test_without_a_pdf_there_is_no_archive(tmp_path, monkeypatch):
    made_book.make(tmp_path)
    printer(monkeypatch, status=3)
    assert bundle.main(["--root", str(tmp_path)]) == 3
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("cite", [None, 'title: "Small: made for a test"\n'])
def test_a_missing_version_is_named_before_printing(tmp_path, monkeypatch, cite):
    made_book.make(tmp_path)
    (tmp_path / "CITATION.cff").unlink()
    if cite:
        (tmp_path / "CITATION.cff").write_text(cite)
    runs = printer(monkeypatch)
    with pytest.raises(SystemExit, match=r"CITATION\.cff: expected `version:`"):
        bundle.main(["--root", str(tmp_path)])
    assert runs == []


def test_an_interrupted_run_leaves_the_archive_of_the_last(packed, monkeypatch):
    root, target, _ = packed
    before = target.read_bytes()
    (root / "small.pdf").write_bytes(b"%PDF-1.7 another")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bundle.pack(root, root / "_build" / "html", root / "small.pdf", target)
    assert target.read_bytes() == before


@pytest.mark.browser
def test_the_same_book_printed_twice_gives_the_same_bytes(browser, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr(chromium, "browser", lambda: nullcontext(browser))
    archives = []
    for name, built in (("here", 1_600_000_000), ("there", 1_650_000_000)):
        html = made_book.make(tmp_path / name, pages_of_two=1)
        for path in html.rglob("*"):
            os.utime(path, (built, built))
        assert bundle.main(["--root", str(tmp_path / name)]) == 0
        archives.append((tmp_path / name / "dist" / "memory-bound-1.2.3.zip").read_bytes())
    assert archives[0] == archives[1]


@pytest.mark.browser
def test_a_pdf_that_fails_its_check_is_packed_at_no_try(browser, tmp_path, monkeypatch, capsys):  # noqa: F811
    made_book.make(tmp_path, pages_of_two=1)
    monkeypatch.setattr(chromium, "browser", lambda: nullcontext(browser))
    with monkeypatch.context() as planted:
        planted.setattr(pdf_check, "problems", lambda *_, **__: ["a planted problem"])
        for _ in range(2):
            assert bundle.main(["--root", str(tmp_path)]) == 1
            assert "a planted problem" in capsys.readouterr().err
            assert not (tmp_path / "dist").exists()
    assert bundle.main(["--root", str(tmp_path)]) == 0


def opens(browser, folder: Path, names: list[str]) -> list[str]:  # noqa: F811
    """What goes wrong when pages are opened from the disk, the network off: errors, requests that leave."""
    context = browser.new_context(offline=True)
    wrong: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))

    def fails(request):
        if "ERR_ABORTED" not in (request.failure or ""):  # given up on leaving the page, not refused
            wrong.append(f"{page.url}: {request.failure} {request.url}")

    page.on("requestfailed", fails)

    def leaves(request):
        if not request.url.startswith((folder.as_uri(), "data:", "blob:")):
            wrong.append(f"{page.url}: asks for {request.url}")

    page.on("request", leaves)
    for name in names:
        page.goto((folder / name).as_uri(), wait_until="load")
    page.goto((folder / "index.html").as_uri(), wait_until="load")
    page.wait_for_url(lambda url: url.endswith(".html") and not url.endswith("index.html"))
    context.close()
    return wrong


@pytest.mark.browser
def test_it_opens_from_the_disk_and_asks_nobody(browser, packed):  # noqa: F811
    _, _, folder = packed
    names = ["book/intro.html", "notebooks/one.html"]
    assert opens(browser, folder, names) == []
    page = folder / "notebooks" / "one.html"
    text = page.read_text(encoding="utf-8")
    planted = '<img src="https://planted.example/a.png" alt=""><img src="gone.png" alt="">'
    page.write_text(text.replace("</body>", f"{planted}</body>"), encoding="utf-8")
    said = "".join(opens(browser, folder, names))
    assert "planted.example" in said
    assert "gone.png" in said


@pytest.mark.slow
@pytest.mark.browser
def test_the_book_itself_is_whole_and_asks_nobody(browser, tmp_path):  # noqa: F811
    root = book_pages.ROOT
    html = root / "_build" / "html"
    if any(not (html / f"{name}.html").is_file() for name in book_pages.names()):
        pytest.skip("run `make book` first")
    for name, path in bundle.files(html):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    # Pages of a theme that no page of the book shows.
    shown = [
        line for line in missing(tmp_path) if not line.startswith("_static/") or ".css" in line.split(":")[0]
    ]
    assert shown == []
    lessons = [name for name in book_pages.names() if name.startswith("notebooks/")]
    assert opens(browser, tmp_path, [f"{name}.html" for name in ["book/intro", *lessons[:2]]]) == []
