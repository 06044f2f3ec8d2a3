"""Check the external links of the built book: `python tools/links.py`, after `make book`. Needs a network.

Each address is asked for once, however often it stands in the book: by HEAD, by GET where HEAD is refused,
and again after a pause where the failure may pass. Few requests go out at a time, and one at a time to a
host. What a host is known to answer to programs stands in links.toml, with the reason. The exit status is 1
where a link is broken.
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
PAUSE_S = 2.0  # before a second try; twice that before a third; longer where the host asks for it
LONGEST_PAUSE_S = 30.0  # a host that asks for more is not asked again
AT_ONCE = 8
AGAIN = {0, 408, 425, 429, 500, 502, 503, 504}  # may be otherwise in a moment; 0: no answer
NO_GET = {0, 429}  # GET after HEAD would fare no better at once
SILENT_HOSTS = 4  # so many without an answer, and none with one: there is no network
ALLOWED = Path(__file__).with_name("links.toml")
# Addresses that are examples or that only exist once a reader has started something.
LOCAL = re.compile(
    r"^(localhost|127(\.\d+){3}|0\.0\.0\.0|::1|.*\.(example|invalid|test|local|localhost)|example\.(com|org|net))$"
)


class NoNetwork(RuntimeError):
    """No host answers."""


@dataclass(frozen=True)
class Answer:
    """What came of asking for an address: a status, or 0 and in words why there is none.

    wait_s  how long the host asks to wait before it is asked again
    """

    address: str
    status: int
    words: str = ""
    wait_s: float = 0.0

    @property
    def reached(self) -> bool:
        return 200 <= self.status < 400

    def good(self, allowed: dict[str, dict[int, str]]) -> bool:
        host = urlsplit(self.address).hostname or ""
        return self.reached or self.status in allowed.get(host, {})


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
    """HEAD, then GET; again after a pause where the failure may pass, after silence by GET alone."""
    answer = Answer(address, 0, "not asked")
    for attempt in range(tries):
        if attempt:
            time.sleep(max(pause_s * attempt, answer.wait_s))
        methods = ("GET",) if attempt and not answer.status else ("HEAD", "GET")
        for method in methods:
            answer = _once(address, method, timeout_s)
            if answer.reached or answer.status in NO_GET:
                break
        if answer.reached or answer.status not in AGAIN or answer.wait_s > LONGEST_PAUSE_S:
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
        wait = error.headers.get("Retry-After", "")
        return Answer(address, error.code, str(error.reason), float(wait) if wait.isdecimal() else 0.0)
    except urllib.error.URLError as error:
        return Answer(address, 0, str(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(address, 0, f"{type(error).__name__}: {error}")


SAFE = "".join(map(chr, range(33, 127)))  # letters beyond ASCII and spaces are what needs quoting


def check(addresses: list[str], *, at_once: int = AT_ONCE, **options: float) -> list[Answer]:
    """Ask for every address, `at_once` at a time, one at a time of each host; in the order given.

    Raises  NoNetwork: the first SILENT_HOSTS hosts have not answered
    """
    turns: dict[str, threading.Lock] = defaultdict(threading.Lock)
    for address in addresses:  # made here: a defaultdict is not safe to grow from several threads
        turns[urlsplit(address).netloc]

    silent: set[str] = set()
    heard = threading.Event()

    def in_turn(address: str) -> Answer:
        host = urlsplit(address).netloc
        with turns[host]:
            if not heard.is_set() and len(silent) >= SILENT_HOSTS:
                raise NoNetwork(f"no network: no answer from {', '.join(sorted(silent))}")
            answer = ask(address, **options)
            if answer.status:
                heard.set()
            else:
                silent.add(host)
            return answer

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
    try:
        answers = check(list(pages), timeout_s=options.timeout)
    except NoNetwork as error:
        raise SystemExit(str(error)) from None
    broken = [answer for answer in answers if not answer.good(allowed)]
    if broken:
        print(table(broken, pages))
    print(f"Links: {len(pages)} addresses, {len(broken)} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
