"""The client against a server of our own: right answers, slow ones, and every kind of wrong one."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import unchecked
from teachkit.completions import replay
from teachkit.trace import Trace, TraceRequest


@contextmanager
def server(answer):
    """A server whose answers ``answer(handler, body)`` writes; yields its address and what was asked."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append((self.path, body))
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has hung up
                answer(self, body)

        def log_message(self, *_):
            """Silent."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}/v1", bodies
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def begin(handler, status=200):
    handler.send_response(status)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()


def event(handler, data):
    text = data if isinstance(data, str) else json.dumps(data)
    handler.wfile.write(f"data: {text}\n\n".encode())
    handler.wfile.flush()


def piece(text="", ids=None, finish=None):
    choice = {"index": 0, "text": text, "finish_reason": finish}
    return {"choices": [choice if ids is None else choice | {"token_ids": ids}]}


def usage(n):
    return {"choices": [], "usage": {"completion_tokens": n}}


def good(handler, body):
    """As vLLM answers: a piece for each token, then the reason, the count, and the end."""
    begin(handler)
    n = body["max_tokens"]
    for i in range(n):
        event(handler, piece(f"t{i} ", [i], "length" if i == n - 1 else None))
    event(handler, usage(n))
    event(handler, "[DONE]")


def request(arrival_s=0.0, n_new=3, prompt=(1, 2), **rest):
    return TraceRequest(arrival_s, n_new, prompt, **rest)


def play(url, *requests, ignore_eos=True, **options):
    return replay(url, "m", Trace("a", requests, ignore_eos), **options).outcomes


# What is asked


def test_each_request_asks_for_what_the_trace_says():
    sampled = request(0.02, 5, (7, 8), temperature=0.5, top_k=9, top_p=0.25, seed=4, stop=("a", "b"))
    with server(good) as (url, bodies):
        play(url, request(), sampled)
    (path, plain), (_, other) = sorted(bodies, key=lambda one: one[1]["max_tokens"])
    assert path == "/v1/completions"
    assert plain == {
        "model": "m",
        "prompt": [1, 2],
        "max_tokens": 3,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    added = {"temperature": 0.5, "top_k": 9, "top_p": 0.25, "seed": 4, "stop": ["a", "b"]}
    assert other == plain | {"prompt": [7, 8], "max_tokens": 5} | added


def test_a_trace_that_ends_with_the_text():
    with server(good) as (url, bodies):
        play(url + "/", request(), ignore_eos=False)
    assert bodies[0][0] == "/v1/completions"
    assert bodies[0][1]["ignore_eos"] is False


# Good answers


def test_tokens_text_and_reason():
    with server(good) as (url, _):
        played = replay(url, "m", Trace("a", (request(), request(n_new=1))))
    one, two = played.outcomes
    assert (one.tokens, one.text, one.finish, one.n_tokens) == ([0, 1, 2], "t0 t1 t2 ", "length", 3)
    assert (two.tokens, two.finish) == ([0], "length")
    assert two.tpot_s != two.tpot_s  # of one token there is none
    assert played.served_by == url
    assert one.queue_s != one.queue_s  # nobody tells
    assert played.elapsed_s == max(one.ended_s, two.ended_s)
    assert played.steps == ()


def test_times_are_those_of_the_stream():
    def slow(handler, body):
        begin(handler)
        time.sleep(0.2)
        for i in range(3):
            event(handler, piece("x", [i], "length" if i == 2 else None))
            time.sleep(0.4)
        event(handler, "[DONE]")

    with server(slow) as (url, _):
        [one] = play(url, request(0.1))
    assert 0.2 <= one.ttft_s < one.ended_s - 0.1
    assert one.tpot_s >= 0.3  # room for a first token that is read late, not for 0.8 s by three
    assert one.first_s >= 0.3
    assert one.ended_s >= one.last_s + 0.1


def test_several_tokens_in_a_piece_and_half_characters():
    """The first piece has two tokens and no text yet; the last only says why it ended."""

    def answer(handler, body):
        begin(handler)
        handler.wfile.write(b": a comment\nevent: message\n\n")
        event(handler, piece("", [5, 6]))
        event(handler, piece("é", [7]))
        event(handler, piece("", [], "stop"))
        event(handler, usage(3))
        event(handler, "[DONE]")

    with server(answer) as (url, _):
        [one] = play(url, request())
    assert (one.tokens, one.text, one.finish, one.n_tokens) == ([5, 6, 7], "é", "stop", 3)
    assert one.first_s < one.last_s


def test_a_server_that_does_not_tell_tokens():
    """Then a piece is a token, until the server has counted them."""

    def answer(handler, body):
        begin(handler)
        event(handler, piece("ab"))
        event(handler, piece("cd", finish="length"))
        event(handler, usage(4))
        event(handler, "[DONE]")

    with server(answer) as (url, _):
        [one] = play(url, request(n_new=4))
    assert (one.tokens, one.n_tokens, one.text) == ([], 4, "abcd")
    assert one.tpot_s == pytest.approx((one.last_s - one.first_s) / 3)


def test_requests_are_served_side_by_side():
    """None is answered before all three are there."""
    everyone = threading.Barrier(3, timeout=20)

    def answer(handler, body):
        everyone.wait()
        good(handler, body)

    with server(answer) as (url, _):
        assert [one.finish for one in play(url, *[request()] * 3)] == ["length"] * 3


def test_they_are_sent_when_they_come_in_any_order_of_the_file():
    came = {}

    def answer(handler, body):
        came[body["max_tokens"]] = time.perf_counter()
        good(handler, body)

    with server(answer) as (url, _):
        late, early = play(url, request(0.7, 2), request(0.1, 1))
    assert came[2] - came[1] >= 0.2
    assert early.first_s >= 0.1
    assert late.first_s >= 0.7


def test_it_shows_how_far_it_is():
    seen = []
    with server(good) as (url, _):
        play(url, request(), request(0.2), show=seen.append)
    assert seen[-1].done == seen[-1].total == 2
    assert seen[-1].tokens == 6
    assert seen[-1].n_blocks is None


# Wrong answers: each fails its own request, and the good one beside it does not notice


def beside_a_good_one(bad, **options):
    """The outcome of a request that ``bad`` answers, served together with one that is answered well."""

    def answer(handler, body):
        (bad if body["max_tokens"] == 7 else good)(handler, body)

    with server(answer) as (url, _):
        wrong, right = play(url, request(n_new=7), request(), **options)
    assert (right.finish, right.tokens, right.error) == ("length", [0, 1, 2], "")
    assert wrong.failed
    assert wrong.ended_s is not None
    return wrong


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, '{"error": {"message": "too long", "code": 400}}', "HTTP 400: too long"),
        (400, '{"object": "error", "message": "too long"}', "HTTP 400: too long"),
        (404, '{"detail": "Not Found"}', 'HTTP 404: {"detail": "Not Found"}'),
        (500, "Internal Server Error", "HTTP 500: Internal Server Error"),
        (503, "", "HTTP 503: no reason given"),
        (500, '["x"]', 'HTTP 500: ["x"]'),
    ],
)
def test_a_status_that_is_an_error(status, body, error):
    def answer(handler, _):
        begin(handler, status)
        handler.wfile.write(body.encode())

    assert beside_a_good_one(answer).error == error


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("{half", "malformed chunk: {half (after 1 token)"),
        ({"error": {"message": "out of memory"}}, "out of memory (after 1 token)"),
        ({"error": "out of memory"}, '{"error": "out of memory"} (after 1 token)'),
        ("[1]", "[1] (after 1 token)"),
        ({"choices": 3}, 'malformed chunk: {"choices": 3} (after 1 token)'),
        ({"choices": [3]}, 'malformed chunk: {"choices": [3]} (after 1 token)'),
        ({"choices": [{}]}, 'malformed chunk: {"choices": [{}]} (after 1 token)'),
        ({"choices": [], "usage": {}}, "the connection ended before the answer did (after 1 token)"),
        ({"choices": [], "usage": 4}, 'malformed chunk: {"choices": [], "usage": 4} (after 1 token)'),
        ("[DONE]", "the answer ended without saying why (after 1 token)"),
    ],
)  # fmt: skip
def test_a_piece_that_is_none(data, error):
    def answer(handler, _):
        begin(handler)
        event(handler, piece("x", [1]))
        event(handler, data)

    wrong = beside_a_good_one(answer)
    assert wrong.error == error
    assert (wrong.tokens, wrong.text) == ([1], "x")


def test_a_connection_that_ends_in_the_middle():
    def answer(handler, _):
        begin(handler)
        event(handler, piece("x", [1]))

    assert beside_a_good_one(answer).error == "the connection ended before the answer did (after 1 token)"


def test_a_connection_that_is_cut_in_the_middle_of_a_chunk():
    def answer(handler, _):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"ff\r\ndata: {")
        handler.wfile.flush()
        handler.close_connection = True

    error = beside_a_good_one(answer).error
    assert error.startswith(("connection: ", "malformed chunk: {", "the connection ended"))


def test_a_server_that_hangs_up_at_once():
    def answer(handler, _):
        handler.close_connection = True

    assert beside_a_good_one(answer).error.startswith("connection: ")


def test_a_server_that_says_nothing():
    def answer(handler, _):
        begin(handler)
        time.sleep(1.5)

    assert beside_a_good_one(answer, timeout_s=0.5).error == "no answer for 0.5 s"


def test_no_server():
    with server(good) as (url, _):
        pass
    [one] = play(url, request())
    assert one.failed
    assert "refused" in one.error.lower()


# Cancels


def test_a_client_that_goes_away_hangs_up():
    gone = threading.Event()

    def answer(handler, body):
        begin(handler)
        try:
            for _ in range(500):
                event(handler, piece("x", [1]))
                time.sleep(0.01)
        except (BrokenPipeError, ConnectionResetError):
            gone.set()

    with server(answer) as (url, _):
        [one] = play(url, request(cancel_s=1.0))
        assert gone.wait(timeout=20)
    assert (one.finish, one.error, one.failed) == ("cancelled", "", False)
    assert 0 < one.n_tokens < 500
    assert one.ended_s >= 1.0


def test_a_client_that_goes_away_while_nothing_comes():
    def answer(handler, body):
        begin(handler)
        time.sleep(2.0)

    with server(answer) as (url, _):
        [one] = play(url, request(cancel_s=0.2))
    assert one.finish == "cancelled"
    assert 0.2 <= one.ended_s < 2.0


def test_a_client_that_stays_until_the_end():
    with server(good) as (url, _):
        [one] = play(url, request(cancel_s=60.0))
    assert one.finish == "length"


# Bad input


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://localhost/v1", "http:///v1", ""])
def test_an_address_that_is_none(url):
    with pytest.raises(ValueError, match="url: expected one such as"):
        play(url, request())


def test_a_trace_without_prompts():
    with unchecked(), pytest.raises(ValueError, match=r"prompts as token ids; call trace.filled"):
        play("http://127.0.0.1:9/v1", TraceRequest(0.0, 3, prompt_tokens=4))
