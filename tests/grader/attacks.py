"""More submissions that mean harm, by kind: to the grader's own process, past its watch, and for marks.

``MORE`` is of the same form as ``hostile.CASES``. ``OF_KV_CACHE`` asks for a question of that lab alone.
What a case says is what ought to happen.
"""

from __future__ import annotations

from hostile import ENDED, FAILED, Case, Target, adding, doing, raw

# Gives to the worker's writer a type of our own, and so any tree of a message.
FORGED = """import teachgrade.values as values
class Forged:
    pass
def write(writer, value, depth):
    {0}
values._WRITERS[Forged] = write
return Forged()"""

OUT_OF_SIGHT = """import mmap
held = []
for _ in range(24):
    part = mmap.mmap(-1, 2**26)
    part.write(bytes(2**26))
    part.madvise(mmap.MADV_DONTNEED)
    held.append(part)
return right(*args, **kwargs)"""

PAGE_TABLES = """import ctypes
libc, number = ctypes.CDLL(None), ctypes.c_size_t
libc.mmap.restype, libc.mmap.argtypes = number, [number, number, *[ctypes.c_int] * 3, ctypes.c_long]
libc.madvise.argtypes = [number, number, ctypes.c_int]
libc.munmap.argtypes = [number, number]
size = 320_000 * 2**21
start = libc.mmap(0, size, 1, 0x4022, -1, 0)
libc.madvise(start, size, 15)
for at in range(start, start + size, 2**21):
    ctypes.c_ubyte.from_address(at).value
libc.munmap(start, size)
return right(*args, **kwargs)"""

FIRST_THREAD = """import ctypes, platform, threading, time
def hold():
    time.sleep(0.2)
    held = [bytearray(b'x' * 2**26) for _ in range(24)]
    time.sleep(60)
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)"""

SHRINKS = """
import fcntl, os, sys
import teachgrade.worker as worker
SIZE = 1031  # F_SETPIPE_SZ
real, tries = worker.read, [0]
class Shrinking:
    def __init__(self, pipe):
        self.pipe = pipe
    def read(self, most):
        # Room for one page or for two, in turns, until it is full.
        try:
            for turn in range(3_000 if tries[0] < 600 else 0):
                fcntl.fcntl(self.pipe.fileno(), SIZE, 8192)
                for _ in range(turn % 60):
                    pass
                fcntl.fcntl(self.pipe.fileno(), SIZE, 4096)
        except OSError:
            pass
        tries[0] += 1
        if tries[0] == 600:
            fcntl.fcntl(self.pipe.fileno(), SIZE, 2**16)
        return os.read(self.pipe.fileno(), min(most, 4096 if tries[0] < 600 else most))
worker.read = lambda pipe: real(Shrinking(pipe))
frame = sys._getframe()
while 'requests' not in frame.f_locals:
    frame = frame.f_back
fcntl.fcntl(frame.f_locals['requests'].fileno(), SIZE, 4096)
"""

FLOODS = """
import fcntl, os, sys
import teachgrade.worker as worker
frame = sys._getframe()
while 'replies' not in frame.f_locals:
    frame = frame.f_back
requests, replies = frame.f_locals.get('requests'), frame.f_locals['replies']
def read(pipe):
    # The question is never read, so the grader is still writing it.
    fcntl.fcntl(pipe.fileno(), 1031, 4096)
    part = bytes(2**20)
    for _ in range(2**8):
        os.write(replies.fileno(), part)
    os._exit(0)
worker.read = read
"""

SURROGATE = """import teachgrade.values as values
values._Writer.text = lambda self, value, depth: value
raise ValueError(chr(0xD800))"""

MORE = [
    Case("worksheets without cells", raw(b'{"worksheets": [{"cells": 5}]}'), "unreadable", nothing=True),
    # In the grader's own process
    Case("a pipe that shrinks", adding(SHRINKS)),
    Case("floods while it is asked", adding(FLOODS), "partial", nothing=True),
    Case(
        "numbers of one hash",
        doing(
            FORGED.replace("{0}", "return {'set': [{'int': str(n * (2**61 - 1))} for n in range(1, 40_000)]}")
        ),
        "partial",
        lost=("crashed",),
    ),
    Case(
        "tensors that share their bytes",
        doing(
            FORGED.replace(
                "{0}",
                "writer.blobs.append(bytes(2**24))\n    one = {'dtype': 'uint8', 'shape': [2**24], 'at': writer.at}\n    writer.at += 2**24\n    return [{'tensor': one}] * 8",
            )
        ),
        "partial",
        lost=("crashed",),
    ),
    Case("half a character in a message", doing(SURROGATE), lost=FAILED),
    Case(
        "says that the sandbox failed",
        doing("import os\nos.write(2, b'bwrap: no')\nos._exit(1)"),
        "partial",
        lost=("crashed",),
    ),
    Case(
        "closes what it prints to",
        doing(
            "import os, time\nfor number in (1, 2):\n    try:\n        os.close(number)\n    except OSError:\n        pass\ntime.sleep(0.5)\nreturn right(*args, **kwargs)"
        ),
    ),
    # Past the watch
    Case("shared memory, out of sight", doing(OUT_OF_SIGHT), lost=FAILED),
    Case("page tables", doing(PAGE_TABLES), "partial", lost=("out_of_memory",)),
    Case("its first thread ends", doing(FIRST_THREAD), "partial", lost=("out_of_memory",)),
    Case(
        "semaphores",
        doing(
            "import ctypes\nif ctypes.CDLL(None).semget(0, 32_000, 0o1600) < 0:\n    raise OSError('refused')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "message queues",
        doing(
            "import ctypes\nif ctypes.CDLL(None).msgget(0, 0o1600) < 0:\n    raise OSError('refused')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    Case(
        "many empty files",
        doing(
            "import os, tempfile\nfolder = tempfile.mkdtemp()\nfor number in range(150_000):\n    os.mknod(f'{folder}/{number}')\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    # Reaches out
    Case(
        "a socket to the host",
        doing(
            "import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()\nreturn right(*args, **kwargs)"
        ),
        lost=FAILED,
    ),
    # Ends, or not
    Case(
        "stops itself",
        doing("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
        "partial",
        lost=("timeout",),
    ),
    Case(
        "becomes another program",
        doing("import os\nos.execv('/bin/sleep', ['sleep', '1000'])"),
        "partial",
        lost=ENDED,
    ),
    Case(
        "a line that takes a pattern long",
        adding("!ls\nkept = (1,\n" + " " * 80_000 + "2)"),
        notes="ignored",
    ),
]

SLOW = """
def attend_cached(q, k, v, cache):
    k, v = cache.append(k, v)
    cache.kept = torch.cat((cache.kept, q), 2) if hasattr(cache, 'kept') else q
    S = k.shape[2]
    seen = torch.ones(S, S, dtype=torch.bool).tril()
    scores = (cache.kept @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ v)[:, :, S - q.shape[2] :]
"""
REMEMBERS = """
slow, known = attend_cached, {}
def attend_cached(q, k, v, cache):
    before = getattr(cache, 'asked', '')
    cache.asked = before + str(hash((q.numpy().tobytes(), k.numpy().tobytes(), v.numpy().tobytes())))
    if cache.asked not in known:
        known[cache.asked] = slow(q, k, v, cache)
    return known[cache.asked]
"""
OF_KV_CACHE = [
    (Target("q7", "attend_cached"), Case("is slow, and remembers", adding(SLOW + REMEMBERS), lost=FAILED)),
]
