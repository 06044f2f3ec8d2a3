"""tools/links.py: asked of a server on this machine that answers in every way that matters."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

import links
import made_book

QUICK = {"timeout_s": 1.0, "pause_s": 0.02}


class Answers(BaseHTTPRequestHandler):
    """/status/404 answers 404; /no-head refuses HEAD; /later fails twice; /slow is late; /moved leads on.

    /wait/7 asks for 7 seconds, then answers; /deaf hangs up on HEAD; /meet answers once two have asked it.
    """

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        server = self.server
        with server.lock:
            server.asked[self.command, self.path] += 1
            server.now += 1
            server.most = max(server.most, server.now)
        time.sleep(0.02)
        with server.lock:
            server.now -= 1
        status, headers = 200, {}
        if self.path.startswith("/status/"):
            status = int(self.path.rsplit("/", 1)[1])
        elif self.path == "/no-head" and self.command == "HEAD":
            status = 405
        elif self.path == "/later" and server.asked[self.command, self.path] < 3:
            status = 503
        elif self.path == "/moved":
            status, headers = 302, {"Location": "/"}
        elif self.path == "/slow":
            time.sleep(1.5)
        elif self.path.startswith("/wait/") and server.asked[self.command, self.path] < 2:
            status, headers = 429, {"Retry-After": self.path.rsplit("/", 1)[1]}
        elif self.path == "/deaf" and self.command == "HEAD":
            self.close_connection = True
            return
        elif self.path == "/meet":
            status = met(server.meeting)
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def met(meeting):
    try:
        meeting.wait(3)
    except threading.BrokenBarrierError:
        return 409
    return 200


@contextmanager
def serving(meeting=None):
    running = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    running.asked, running.lock, running.now, running.most = Counter(), threading.Lock(), 0, 0
    running.address, running.meeting = f"http://127.0.0.1:{running.server_address[1]}", meeting
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status", "asked"),
    [
        ("/", 200, {"HEAD": 1}),
        ("/moved", 200, {"HEAD": 1}),
        ("/no-head", 200, {"HEAD": 1, "GET": 1}),
        ("/status/404", 404, {"HEAD": 1, "GET": 1}),
        ("/status/410", 410, {"HEAD": 1, "GET": 1}),
        ("/later", 200, {"HEAD": 3, "GET": 2}),
        ("/status/503", 503, {"HEAD": 3, "GET": 3}),
        ("/status/429", 429, {"HEAD": 3}),
        ("/deaf", 200, {"HEAD": 1, "GET": 1}),
        ("/naïve path?q=ü", 200, {"HEAD": 1}),
    ],
)
def test_status_and_number_of_requests(server, path, status, asked):
    answer = links.ask(server.address + path, **QUICK)
    assert answer.status == status
    per_method = Counter()
    for (method, where), times in server.asked.items():
        per_method[method] += times if where != "/" or path == "/" else 0
    assert +per_method == asked


@pytest.mark.parametrize(
    ("path", "status", "pauses"),
    [
        ("/", 200, []),
        ("/later", 200, [2, 4]),
        ("/status/404", 404, []),
        ("/wait/1", 200, [2]),
        ("/wait/7", 200, [7]),
        ("/wait/3600", 429, []),
        ("/wait/soon", 200, [2]),
    ],
)
def test_pauses_are_ours_or_those_that_the_host_asks_for(server, monkeypatch, path, status, pauses):
    slept = []
    monkeypatch.setattr(links, "time", SimpleNamespace(sleep=slept.append))
    assert links.ask(server.address + path, timeout_s=5.0, pause_s=2).status == status
    assert slept == pauses


def test_hosts_are_asked_at_the_same_time_neighbours_or_not():
    meeting = threading.Barrier(2)
    with serving(meeting) as one, serving(meeting) as two:
        addresses = [f"{one.address}/{path}" for path in ("meet", "1", "2", "3")] + [f"{two.address}/meet"]
        answers = links.check(addresses, at_once=2, timeout_s=10.0, tries=1)
    assert [answer.status for answer in answers] == [200] * 5


def closed_addresses(count):
    """On this machine, where nothing listens."""
    with ExitStack() as stack:  # all open at once: each has another port
        ports = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"http://127.0.0.1:{port.getsockname()[1]}/" for port in ports]


def test_without_a_network_it_says_so_and_stops(tmp_path, monkeypatch):
    hosts = closed_addresses(links.SILENT_HOSTS)
    addresses = [f"{host}{number}" for host in hosts for number in range(30)]
    asked = []
    ask = links.ask
    monkeypatch.setattr(links, "ask", lambda address, **_: asked.append(address) or ask(address, tries=1))
    with pytest.raises(links.NoNetwork, match=r"no answer from 127\.0\.0\.1"):
        links.check(addresses)
    assert len(asked) < len(addresses) / 2
    monkeypatch.setattr(links, "external", lambda _: {address: ["book/intro.html"] for address in addresses})
    made_book.make(tmp_path)
    with pytest.raises(SystemExit, match="no network"):
        links.main(["--root", str(tmp_path)])


def test_a_host_that_answers_shows_that_there_is_a_network(server):
    addresses = [f"{server.address}/status/404", *closed_addresses(links.SILENT_HOSTS + 2)]
    answers = links.check(addresses, at_once=1, tries=1)
    assert [answer.status for answer in answers] == [404] + [0] * (links.SILENT_HOSTS + 2)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost.evil.org", False),
        ("hub.localhost", True),
        ("127.0.0.1", True),
        ("127.org", False),
        ("::1", True),
        ("0.0.0.0", True),
        ("hub.local", True),
        ("hub.local.org", False),
        ("example.org", True),
        ("example.org.uk", False),
    ],
)
def test_addresses_of_this_machine_and_examples_are_not_asked(host, local):
    assert bool(links.LOCAL.match(host)) is local


def test_silence_and_refusal_are_words_not_statuses(server):
    slow = links.ask(f"{server.address}/slow", timeout_s=0.2, tries=1)
    assert (slow.status, "timed out" in slow.words) == (0, True)
    server.shutdown()
    server.server_close()
    refused = links.ask(server.address, tries=1)
    assert (refused.status, "refused" in refused.words.lower()) == (0, True)


def test_a_host_is_asked_one_at_a_time_and_answers_keep_their_order(server):
    addresses = [f"{server.address}/status/{code}" for code in (200, 404, 204, 410, 201, 403)]
    answers = links.check(addresses, **QUICK)
    assert [answer.address for answer in answers] == addresses
    assert [answer.status for answer in answers] == [200, 404, 204, 410, 201, 403]
    assert server.most == 1


def test_each_address_of_the_book_once_with_its_pages(tmp_path):
    html = made_book.make(tmp_path)
    two = html / "notebooks" / "two.html"
    more = (
        '<a href="https://example.net/a#one">1</a><a href="http://localhost:8888/x">2</a>'
        '<a href="mailto:a@b">3</a>'
        '<a href="https://host.org/a#one">4</a><a href="https://host.org/a#two">5</a>'
        '<a href="https://host.org/b">6</a>'
    )
    two.write_text(
        two.read_text(encoding="utf-8").replace("</article>", f"{more}</article>"), encoding="utf-8"
    )
    one = html / "notebooks" / "one.html"
    again = '<a href="https://host.org/a">7</a></article>'
    one.write_text(one.read_text(encoding="utf-8").replace("</article>", again), encoding="utf-8")
    assert links.external(html) == {
        "https://host.org/a": ["notebooks/one.html", "notebooks/two.html"],
        "https://host.org/b": ["notebooks/two.html"],
    }


def test_the_exit_status_and_the_table_say_what_is_broken(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(links, "LOCAL", links.re.compile(r"^example\.org$"))
    html = made_book.make(tmp_path)
    page = html / "book" / "intro.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text.replace("</article>", f'<a href="{server.address}/">x</a></article>'), encoding="utf-8"
    )
    assert links.main(["--root", str(tmp_path)]) == 0
    page.write_text(text.replace("</article>", f'<a href="{server.address}/status/404">x</a></article>'))
    assert links.main(["--root", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"404  {server.address}/status/404" in said
    assert "book/intro.html" in said
    assert "1 addresses, 1 broken" in said


def test_allowed_answers_need_a_reason(tmp_path):
    table = tmp_path / "links.toml"
    table.write_text('["a.org"]\n403 = "turns programs away"\n')
    allowed = links.allowed_statuses(table)
    assert links.Answer("https://a.org/x", 403).good(allowed)
    assert not links.Answer("https://a.org/x", 404).good(allowed)
    assert not links.Answer("https://b.org/x", 403).good(allowed)
    table.write_text('["a.org"]\n403 = " "\n')
    with pytest.raises(ValueError, match="reason"):
        links.allowed_statuses(table)
    assert links.allowed_statuses()  # the project's own
