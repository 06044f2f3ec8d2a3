"""Check the external links of the built book: `python tools/links.py`, after `make book`. Needs a network.

Each address is asked once, however often it stands in the book: HEAD, and GET where HEAD fails. Few requests
go out at a time, and one at a time to a host. What a host is known to answer to programs stands in
links.toml, with the reason. The exit status is 1 where a link is broken.
"""

from __future__ import annotations

import argparse
import http.client
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urldefrag, urlsplit

from bs4 import BeautifulSoup

import book_pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AGENT = "Mozilla/5.0 (compatible; memory-bound-links/1)"
TIMEOUT_S = 20.0
TRIES = 3
PAUSE_S = 2.0  # before a second try; twice that before a third
AT_ONCE = 8
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # may be otherwise in a moment
ALLOWED = Path(__file__).with_name("links.toml")
# Addresses that are examples or that only exist once a reader has started something.
LOCAL = re.compile(
    r"^(localhost|127\.|0\.0\.0\.0|\[::1\]|.*\.(example|invalid|test|local)$|example\.(com|org|net)$)"
)


@dataclass(frozen=True)
class Answer:
    """What came of asking for an address: a status, or in words why there is none."""

    address: str
    status: int
    words: str = ""

    def good(self, allowed: dict[str, dict[int, str]]) -> bool:
        host = urlsplit(self.address).hostname or ""
        return 200 <= self.status < 400 or self.status in allowed.get(host, {})


def external(html: Path) -> dict[str, list[str]]:
    """Every http address that a page of the book links to, without its fragment, and the pages that do."""
    found: dict[str, set[str]] = defaultdict(set)
    for page in sorted(html.rglob("*.html")):
        name = page.relative_to(html).as_posix()
        if name.startswith("_static/"):
            continue  # parts of a theme
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for link in soup.find_all("a", href=True):
            address = urldefrag(str(link["href"]).strip()).url
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and not LOCAL.match(parts.hostname or "localhost"):
                found[address].add(name)
    return {address: sorted(pages) for address, pages in sorted(found.items())}


def allowed_statuses(path: Path = ALLOWED) -> dict[str, dict[int, str]]:
    """From links.toml: host, status, reason.

    Raises  ValueError: an entry without a reason
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    found: dict[str, dict[int, str]] = {}
    for host, statuses in table.items():
        for status, reason in statuses.items():
            if not str(reason).strip():
                raise ValueError(f"{path.name}: {host} {status}: expected a reason")
            found.setdefault(host, {})[int(status)] = reason
    return found


def ask(
    address: str, *, timeout_s: float = TIMEOUT_S, tries: int = TRIES, pause_s: float = PAUSE_S
) -> Answer:
    """HEAD, then GET; again after a pause where the failure may pass."""
    answer = Answer(address, 0, "not asked")
    for attempt in range(tries):
        if attempt:
            time.sleep(pause_s * attempt)
        for method in ("HEAD", "GET"):
            answer = _once(address, method, timeout_s)
            if 200 <= answer.status < 400:
                return answer
        if answer.status and answer.status not in AGAIN:
            break
    return answer


def _once(address: str, method: str, timeout_s: float) -> Answer:
    headers = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Language": "en"}
    try:
        request = urllib.request.Request(quote(address, safe=SAFE), headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return Answer(address, reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return Answer(address, error.code, str(error.reason))
    except urllib.error.URLError as error:
        return Answer(address, 0, str(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(address, 0, f"{type(error).__name__}: {error}")


SAFE = "".join(map(chr, range(33, 127)))  # letters beyond ASCII and spaces are what needs quoting


def check(addresses: list[str], *, at_once: int = AT_ONCE, **options: float) -> list[Answer]:
    """Ask for every address, `at_once` at a time, one at a time of each host; in the order given."""
    turns: dict[str, threading.Lock] = defaultdict(threading.Lock)
    for address in addresses:  # made here: a defaultdict is not safe to grow from several threads
        turns[urlsplit(address).netloc]

    def in_turn(address: str) -> Answer:
        with turns[urlsplit(address).netloc]:
            return ask(address, **options)  # type: ignore[arg-type]

    # Neighbours in the list often have one host, and would wait for each other while others could go.
    spread = sorted(range(len(addresses)), key=lambda i: (_rank(addresses, i), i))
    with ThreadPoolExecutor(at_once) as pool:
        answers = dict(zip(spread, pool.map(in_turn, [addresses[i] for i in spread]), strict=True))
    return [answers[i] for i in range(len(addresses))]


def _rank(addresses: list[str], index: int) -> int:
    """How many addresses of the same host stand before this one."""
    host = urlsplit(addresses[index]).netloc
    return sum(urlsplit(address).netloc == host for address in addresses[:index])


def table(broken: list[Answer], pages: dict[str, list[str]]) -> str:
    """One line for each broken link, and the pages it stands on."""
    lines = []
    for answer in broken:
        lines.append(f"{answer.status or '---'}  {answer.address}  {answer.words}".rstrip())
        lines += [f"     {page}" for page in pages[answer.address]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=book_pages.ROOT, help="with _config.yml and _toc.yml")
    parser.add_argument("--list", action="store_true", help="print the addresses and ask nobody")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each request")
    options = parser.parse_args(argv)
    pages, allowed = external(book_pages.built(options.root.resolve())), allowed_statuses()
    if options.list:
        print("\n".join(pages))
        return 0
    answers = check(list(pages), timeout_s=options.timeout)
    broken = [answer for answer in answers if not answer.good(allowed)]
    if broken:
        print(table(broken, pages))
    print(f"Links: {len(pages)} addresses, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
