# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab: a scheduler for many requests
#
# A server computes one step after another, and before each somebody decides who takes part. You count what a batch wastes that is
# decided once, write a scheduler that decides at every step, give it a memory that can run out, and measure what users feel. At
# the end the bundled model serves requests as your scheduler says, and you see how much sooner they are done.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. No tensors are needed: a scheduler counts tokens. Use Python and its standard library; each answer may build on
# those above it. `teachkit`, in which all this exists, is not there when your answers are graded; only the last cells use it.

# %% tags=["setup", "hide-input"]
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address
# that the published copy of this lab carries; a copy without one says what to do.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. "
            "In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that the course can work with stays as it is.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True)

from teachgrade import check

# %% [markdown]
# ## q1. What static batching computes
#
# `prompts` and `answers` are lists of lengths in tokens, integers of at least 1, of the same requests in the same order; there is at least
# one request. Static batching takes `batch_size` requests at a time (the last batch may be smaller), pads their prompts to the longest, and
# decodes until the longest answer of the batch is done. The first token of each answer comes from the prefill, so a batch whose
# longest answer has m tokens takes m - 1 passes of decoding, each with a row for every request of the batch.
#
# Write `static_batching(prompts, answers, batch_size)`: the pair of integers `(computed, wanted)`, tokens that went through the model,
# padding and finished rows included, and those that were needed: all of each prompt, and all but the last token of each answer.
#
# <details><summary>Hint</summary>
# Take the batches one by one: `prompts[start : start + batch_size]`, and the same of the answers. What does one batch compute?
# </details>
# <details><summary>A further hint</summary>
# A batch of n computes n times its longest prompt, and n times its longest answer less one.
# </details>


# %%
def static_batching(prompts, answers, batch_size):
    """(tokens computed, tokens wanted) when batches are decided once."""
    ### BEGIN SOLUTION
    computed = 0
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        computed += len(prompts[batch]) * (max(prompts[batch]) + max(answers[batch]) - 1)
    return computed, sum(prompts) + sum(answers) - len(answers)
    ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q1", static_batching)

# %% [markdown]
# ## q2. One step under a budget
#
# A request has *pending* tokens: those known whose keys and values are not stored yet. Of a new request that is the whole prompt; of one
# that is writing, its newest token. A step computes pending tokens, oldest request first, up to a budget; what does not fit is cut.
#
# Write `plan_step(pending, budget)`: `pending` is a list of pairs `(name, tokens)`, oldest first; names are strings, all different, and tokens
# 0 or more. `budget` is an integer of at least 1. The result is a list of pairs `(name, n)`, in the same order: who has how many tokens
# computed in this step. n is at least 1: who gets nothing is not in the list.
#
# <details><summary>Hint</summary>
# Nobody behind a request that was cut gets anything: the budget is used up.
# </details>


# %%
def plan_step(pending, budget):
    """Who has how many tokens computed, oldest first, at most ``budget`` in all."""
    ### BEGIN SOLUTION
    plan = []
    for name, tokens in pending:
        n = min(tokens, budget)
        if n:
            plan.append((name, n))
            budget -= n
    return plan
    ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q2", plan_step)

# %% [markdown]
# ## q3. A batch that changes at every step
#
# Write the class `Scheduler`.
#
# - `Scheduler(budget, max_running)`: tokens in one step, and requests that run at a time, both at least 1.
# - `add(name, n_prompt, n_answer)`: a request comes, with a prompt of n_prompt tokens and an answer of n_answer, both at least 1; no two have
#   the same name. It waits at the end of the queue.
# - `step()`: plan and carry out one step; returns the plan, a list of pairs `(name, n)` as in q2.
#     1. Those who run take their pending tokens, in the order in which they were let in.
#     2. While there is budget left and fewer than `max_running` run, the first who waits is let in, and takes its own.
#     3. Whoever has had all its known tokens computed now gets its next token. If its answer is then complete, it leaves: its place
#        is free from the next step on.
# - `finished`: a list of the names of those who are done, in the order in which that happened; within a step, the one let in first
#   comes first.
#
# The last token of an answer is never computed: nothing comes after it. When nobody waits or runs, `step` returns an empty list.
#
# An example, with a budget of 4: a prompt of 6 and an answer of 3 take 4 tokens of the first step and 2 of the second, after which
# the first token of the answer is known. It is computed in the third step, the second token in the fourth; then the third is known, and the
# request is done.
#
# <details><summary>Hint</summary>
# For each request keep two numbers: tokens known, and tokens computed. Pending is their difference.
# </details>
# <details><summary>A further hint</summary>
# Keep two lists, `waiting` and `running`, and do the three parts of a step one after the other. In the third, walk over a copy of `running`: whoever has
# as many computed as known has one more known, and leaves when known is n_prompt + n_answer.
# </details>


# %%
class Scheduler:
    """First come, first served, up to a budget of tokens in each step."""

    def __init__(self, budget, max_running):
        """Nobody is here."""
        ### BEGIN SOLUTION
        self.budget, self.max_running = budget, max_running
        self.waiting, self.running, self.finished = [], [], []
        ### END SOLUTION

    def add(self, name, n_prompt, n_answer):
        """A request comes, and waits."""
        ### BEGIN SOLUTION
        self.waiting.append({"name": name, "known": n_prompt, "computed": 0, "final": n_prompt + n_answer})
        ### END SOLUTION

    def step(self):
        """Plan a step and carry it out: [(name, n), ...]."""
        ### BEGIN SOLUTION
        left, plan = self.budget, []

        def take(request):
            n = min(request["known"] - request["computed"], left)
            if n:
                request["computed"] += n
                plan.append((request["name"], n))
            return n

        for request in self.running:
            left -= take(request)
        while self.waiting and left and len(self.running) < self.max_running:
            self.running.append(self.waiting.pop(0))
            left -= take(self.running[-1])
        for request in list(self.running):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.finished.append(request["name"])
        return plan
        ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q3", Scheduler)

# %% [markdown]
# ## q4. When memory runs out
#
# Now tokens need memory: blocks of P tokens each. Write the class `PagedScheduler`.
#
# - `PagedScheduler(budget, n_blocks, P)`: all integers of at least 1. How many run is limited by blocks alone. A request that has m tokens
#   computed owns ⌈m / P⌉ blocks.
# - `add(name, n_prompt, n_answer)` as above. A request whose prompt and answer, less the answer's last token, would not fit into all the
#   blocks there are is refused with `ValueError`, and nothing has changed.
# - `step()` returns the pair `(plan, preempted)`: the plan as above, and a list of names.
#     1. Those who run take their pending tokens, in the order in which they were let in, and the blocks that they then need. If too few are
#        free, the one let in *last* is preempted, again and again until there are enough: it gives all its blocks back, has nothing
#        computed any more, and waits at the *head* of the queue. The tokens of its answer so far stay known. It may be the one that asks; then
#        it takes nothing.
#     2. If nobody was preempted in this step, then while there is budget left and the first who waits could store *all* its known tokens in free
#        blocks, it is let in and takes its own, and the blocks for what it computes in this step. Nobody is let in past the first.
#     3. As above: next tokens, and those who are done leave; their blocks are free from the next step on.
# - `finished` as above; `n_free`: an attribute or property, the number of free blocks.
#
# <details><summary>Hint</summary>
# Begin with your `Scheduler`, and give each request a number of blocks. Which blocks they are does not matter here, only how many.
# </details>
# <details><summary>A further hint</summary>
# To compute n more tokens, a request needs ⌈(computed + n) / P⌉ blocks, less those that it has. While these are more than are free: take the last of
# `running`, add its blocks to the free ones, set its blocks and its computed tokens to 0, and put it at place 0 of `waiting`. Stop if that was
# the one that asked.
# </details>
# <details><summary>A hint on walking over those who run</summary>
# The list changes while you walk over it. Walk over a copy, and pass over those who are not in `running` any more.
# </details>


# %%
class PagedScheduler:
    """The same over a pool of blocks; who came last gives way."""

    def __init__(self, budget, n_blocks, P):
        """Nobody is here, all blocks are free."""
        ### BEGIN SOLUTION
        self.budget, self.n_blocks, self.P = budget, n_blocks, P
        self.waiting, self.running, self.finished = [], [], []
        self.n_free = n_blocks
        ### END SOLUTION

    def add(self, name, n_prompt, n_answer):
        """A request comes, and waits; ValueError if it can never fit."""
        ### BEGIN SOLUTION
        if -(-(n_prompt + n_answer - 1) // self.P) > self.n_blocks:
            raise ValueError(f"{name} does not fit into {self.n_blocks} blocks")
        request = {"name": name, "known": n_prompt, "computed": 0, "final": n_prompt + n_answer, "blocks": 0}
        self.waiting.append(request)
        ### END SOLUTION

    def step(self):
        """Plan a step and carry it out: ([(name, n), ...], [names of those preempted])."""
        ### BEGIN SOLUTION
        left, plan, preempted = self.budget, [], []
        for request in list(self.running):
            n = min(request["known"] - request["computed"], left)
            if request not in self.running:
                continue
            while self._missing(request, n) > self.n_free and request in self.running:
                victim = self.running.pop()
                self.n_free += victim["blocks"]
                victim["blocks"] = victim["computed"] = 0
                self.waiting.insert(0, victim)
                preempted.append(victim["name"])
            if request in self.running:
                self._take(request, n, plan)
                left -= n
        while self.waiting and left and not preempted:
            request = self.waiting[0]
            if self._missing(request, request["known"]) > self.n_free:
                break
            self.running.append(self.waiting.pop(0))
            n = min(request["known"], left)
            self._take(request, n, plan)
            left -= n
        for request in list(self.running):
            if request["computed"] == request["known"]:
                request["known"] += 1
                if request["known"] == request["final"]:
                    self.running.remove(request)
                    self.n_free += request["blocks"]
                    self.finished.append(request["name"])
        return plan, preempted

    def _missing(self, request, n):
        return -(-(request["computed"] + n) // self.P) - request["blocks"]

    def _take(self, request, n, plan):
        missing = self._missing(request, n)
        self.n_free -= missing
        request["blocks"] += missing
        request["computed"] += n
        plan.append((request["name"], n))
        ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q4", PagedScheduler)

# %% [markdown]
# ## q5. What a user feels
#
# Write `latencies(arrival_s, token_s)`: `arrival_s` is the time at which a request came, `token_s` a list of the times at which the tokens of its
# answer came, at least one, in order; all are floats, in seconds. The result is a dict of floats: `"ttft"`, from the arrival to the first token;
# `"tpot"`, the mean time per token after the first; `"longest"`, the longest time between one token and the next. With a single token, the last two
# are `None`.
#
# <details><summary>Hint</summary>
# Between n tokens there are n - 1 gaps.
# </details>


# %%
def latencies(arrival_s, token_s):
    """{"ttft": ..., "tpot": ..., "longest": ...} in seconds."""
    ### BEGIN SOLUTION
    gaps = [token_s[i] - token_s[i - 1] for i in range(1, len(token_s))]
    return {
        "ttft": token_s[0] - arrival_s,
        "tpot": sum(gaps) / len(gaps) if gaps else None,
        "longest": max(gaps) if gaps else None,
    }
    ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q5", latencies)

# %% [markdown]
# ## q6. How long anyone can wait
#
# With first come, first served, the oldest request takes its tokens before all others and is never preempted. Alone with the whole budget it
# is done after at most ⌈(p + m) / budget⌉ + m steps, for a prompt of p tokens and an answer of m. Whoever came later is done after at
# most the sum of this over itself and all who came before.
#
# Write `bounds(requests, budget)`: `requests` is a list of pairs (p, m), in the order in which they came; the result is a list of the most steps
# that each can take, integers. With no requests it is empty.
#
# <details><summary>Hint</summary>
# A running sum. Rounding up comes before the sum: each request has its own last step that is full in part.
# </details>


# %%
def bounds(requests, budget):
    """For each request the most steps until it is done."""
    ### BEGIN SOLUTION
    total, out = 0, []
    for p, m in requests:
        total += -(-(p + m) // budget) + m
        out.append(total)
    return out
    ### END SOLUTION


# %%
# teachgrade: show
check("continuous_batching.q6", bounds)

# %% [markdown]
# ## q7. Shortest first
#
# A colleague proposes to let in the request with the shortest answer first, since the mean waiting time is then the smallest. In three or four
# sentences: who gains, who loses, what happens to the sum of q6, and which change would make it safe? (A person reads your answer.)
#
# *Your answer here.*

# %% [markdown]
# ## Your scheduler before a real model
#
# The cell below lets the bundled model serve 24 requests as your `Scheduler` says: every step is one pass through the model, over the tokens of the
# plan. It does so three times, and the scheduler is yours each time: one request at a time; eight at a time, where the next eight come only when
# all eight are done; and eight at a time, with a place taken as soon as it is free.

# %%
# teachgrade: show
import json
import random
import time
from importlib import resources

import matplotlib.pyplot as plt
import teachkit as tk
import torch
from teachkit.figures import plots

model = tk.load("bundled")
folder = resources.files("teachkit") / "checkpoints" / "bundled"
text = next(iter(json.loads((folder / "heldout.json").read_text(encoding="utf-8")).values()))
tokens = model.tokenizer.encode(text[:8000])
draw = random.Random(0)
requests = {}
for number in range(24):
    p, m = (min(72, max(4, round(draw.lognormvariate(mu, 0.8)))) for mu in (3.3, 2.6))
    at = draw.randrange(len(tokens) - p)
    requests[f"r{number}"] = (tokens[at : at + p], m)


class OnePass:
    """What the model asks of a cache: the tokens of several requests, one behind the other."""

    def __init__(self, stored, plan):
        self.stored, self.counts = [stored[name] for name, _ in plan], [n for _, n in plan]
        starts = [0 if one[0] is None else one[0][0].shape[2] for one in self.stored]
        places = [range(start, start + n) for start, n in zip(starts, self.counts, strict=True)]
        self.positions = torch.tensor([[p for one in places for p in one]])
        self.valid = torch.ones_like(self.positions, dtype=torch.bool)

    def layer(self, index):
        self.index = index
        return self

    def attend(self, q, k, v, *, scale=None):
        parts, out = (x.split(self.counts, 2) for x in (q, k, v)), []
        for stored, asks, *new in zip(self.stored, *parts, strict=True):
            past = stored[self.index] or [x[:, :, :0] for x in new]
            held = [torch.cat(pair, 2) for pair in zip(past, new, strict=True)]
            stored[self.index] = held
            attend = tk.attention.scaled_dot_product_attention
            out.append(attend(asks, *held, causal=True, scale=scale))
        return torch.cat(out, 2)


@torch.inference_mode()
def serve(scheduler, requests):
    """Run until all are done: their tokens, and of each step the plan and who was preempted."""
    known = {name: list(prompt) for name, (prompt, _) in requests.items()}
    computed = dict.fromkeys(requests, 0)
    stored = {name: [None] * model.config.n_layers for name in requests}
    for name, (prompt, m) in requests.items():
        scheduler.add(name, len(prompt), m)
    steps = []
    while len(scheduler.finished) < len(requests):
        found = scheduler.step()
        plan, preempted = found if isinstance(found, tuple) else (found, [])
        steps.append((plan, preempted))
        for name in preempted:
            computed[name], stored[name] = 0, [None] * model.config.n_layers
        if not plan:
            raise RuntimeError("a step without tokens, and not all requests are done")
        new = [t for name, n in plan for t in known[name][computed[name] : computed[name] + n]]
        logits = model(torch.tensor([new]), step=OnePass(stored, plan))[0]
        last = -1
        for name, n in plan:
            last, computed[name] = last + n, computed[name] + n
            if computed[name] == len(known[name]):
                known[name].append(int(logits[last].argmax()))
    return known, steps


def in_batches(size):
    """Batches that are decided once: the next comes when the last of one is done."""
    names, texts, steps = list(requests), {}, []
    for start in range(0, len(names), size):
        batch = {name: requests[name] for name in names[start : start + size]}
        found, more = serve(Scheduler(64, size), batch)
        texts, steps = texts | found, steps + more
    return texts, steps


ways = {
    "one at a time": lambda: serve(Scheduler(64, 1), requests),
    "eight, decided once": lambda: in_batches(8),
    "eight, a free place is taken": lambda: serve(Scheduler(64, 8), requests),
}
try:
    prompts, answers = zip(*((len(prompt), m) for prompt, m in requests.values()), strict=True)
    runs, n_answers = {}, sum(answers)
    for name in [*ways, *ways]:  # twice, and the faster one counts: others compute here, too
        start = time.perf_counter()
        found = (*ways[name](), time.perf_counter() - start)
        runs[name] = min(found, runs.get(name, found), key=lambda run: run[2])
    slowest = max(seconds for _, _, seconds in runs.values())
    print(f"{n_answers} tokens of answers to {len(requests)} requests")
    for name, (_, steps, seconds) in runs.items():
        speed = f"{n_answers / seconds:4.0f} tokens/s, {slowest / seconds:3.1f} times the slowest"
        print(f"{name:29} {len(steps):4} passes {seconds:6.2f} s {speed}")
    computed, wanted = static_batching(list(prompts), list(answers), 8)
    print(f"With padding and finished rows, batches of 8 would compute {computed} tokens,")
    print(f"of which {wanted} are needed: {1 - wanted / computed:.0%} would be for nothing.")
    with plots.style():
        plt.figure(figsize=(7, 3.5))
        for name, (_, steps, _) in list(runs.items())[1:]:
            sizes = [len(plan) for plan, _ in steps]
            plt.step(range(len(sizes)), sizes, where="post", label=name)
        plt.xlabel("step")
        plt.ylabel("requests in the step")
        plt.ylim(0, 10)
        plt.legend(loc="upper right", ncols=2)
        plt.title("Who decides once leaves places empty")
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q1 and q3.")

# %% [markdown]
# And now with memory for too few. Your `PagedScheduler` serves the same requests in 24 blocks of 8 tokens. Each row of the picture is a request, each mark a
# step in which it computed something. Whoever is preempted computes its tokens again, and writes the same text as before.

# %%
# teachgrade: show
try:
    scheduler = PagedScheduler(64, 24, 8)
    texts, steps = serve(scheduler, requests)
    n_computed = sum(n for plan, _ in steps for _, n in plan)
    needed = sum(len(prompt) + m - 1 for prompt, m in requests.values())
    again = [(at, name) for at, (_, preempted) in enumerate(steps) for name in preempted]
    print(f"{len(steps)} passes, {len(again)} times somebody was preempted;")
    print(f"{n_computed} tokens computed where {needed} would do with memory for all")
    same = texts == serve(Scheduler(64, 8), requests)[0]
    print("the same texts as with memory for all:", same)
    most = bounds([(len(prompt), m) for prompt, m in requests.values()], 64)
    done = {name: at for at, (plan, _) in enumerate(steps, 1) for name, _ in plan}
    shares = [done[name] / bound for name, bound in zip(requests, most, strict=True)]
    print(f"everybody done within {max(shares):.0%} of the bound of q6")
    with plots.style():
        one, more = "one token", "part of a prompt, or all again"
        marks = {one: [], more: [], "preempted": again}
        for at, (plan, _) in enumerate(steps):
            for name, n in plan:
                marks[one if n == 1 else more].append((at, name))
        plt.figure(figsize=(8, 4.5))
        rows = {name: row for row, name in enumerate(requests, 1)}
        for (label, found), shape, size in zip(marks.items(), "s|x", (2, 8, 6), strict=True):
            x, y = [at for at, _ in found], [rows[name] for _, name in found]
            plt.plot(x, y, shape, markersize=size, markeredgewidth=2, linestyle="", label=label)
        plt.xlabel("step")
        plt.ylabel("request")
        plt.gca().invert_yaxis()
        plt.legend(loc="lower left")
        plt.title("First come, first served, in 24 blocks")
        plt.show()
except NotImplementedError as missing:
    print(f"Not yet: {missing} is missing. This cell needs q3, q4 and q6.")
