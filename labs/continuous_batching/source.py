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
# the end your scheduler plays a trace, and you see it step by step.
#
# Work from top to bottom. After each question a cell checks your code on a few small inputs; they are the visible
# part of what is checked. No tensors are needed: a scheduler counts tokens.

# %%
# teachgrade: show
# Set-up. If teachgrade is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lab carries; a copy without an address says what to do. If teachgrade is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachgrade") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachgrade is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that the course can work with stays as it is.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True)

from teachgrade import check

# %% [markdown]
# ## q1. What static batching computes
#
# `prompts` and `answers` are lists of lengths in tokens, of the same requests in the same order; every answer has at least one
# token. Static batching takes `batch_size` requests at a time (the last batch may be smaller), pads their prompts to the longest, and
# decodes until the longest answer of the batch is done. The first token of each answer comes from the prefill, so a batch whose
# longest answer has m tokens takes m - 1 passes of decoding, each with a row for every request of the batch.
#
# Write `static_batching(prompts, answers, batch_size)`: the pair `(computed, wanted)`, tokens that went through the model, padding
# and finished rows included, and those that were needed: all of each prompt, and all but the last token of each answer.
#
# <details><summary>Hint</summary>
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
# Write `plan_step(pending, budget)`: `pending` is a list of pairs `(name, tokens)`, oldest first; the result is a list of pairs
# `(name, n)`, n at least 1, in the same order: who has how many tokens computed in this step.
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
# - `Scheduler(budget, max_running)`
# - `add(name, n_prompt, n_answer)`: a request comes, with a prompt of n_prompt tokens and an answer of n_answer, both at least 1. It
#   waits at the end of the queue.
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
# <details><summary>Hint</summary>
# For each request keep two numbers: tokens known, and tokens computed. Pending is their difference.
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
# - `PagedScheduler(budget, n_blocks, P)`; how many run is limited by blocks alone.
# - `add(name, n_prompt, n_answer)` as above. A request whose prompt and answer, less the answer's last token, would not fit into all the
#   blocks there are is refused with `ValueError`, and nothing has changed.
# - `step()` returns the pair `(plan, preempted)`: the plan as above, and a list of names.
#     1. Those who run take their pending tokens, in the order in which they were let in, and the blocks that they then need. If too few are
#        free, the one let in *last* is preempted, again and again until there are enough: it gives all its blocks back, has nothing
#        computed any more, and waits at the *head* of the queue. The tokens of its answer so far stay known. It may be the one that asks; then
#        it takes nothing.
#     2. If nobody was preempted in this step, then while there is budget left and the first who waits could store *all* its known tokens in free
#        blocks, it is let in and takes its own, and the blocks for what it computes in this step.
#     3. As above: next tokens, and those who are done leave; their blocks are free from the next step on.
# - `finished` as above; `n_free`: free blocks.
#
# <details><summary>Hint</summary>
# Blocks needed by a request: its computed tokens over P, rounded up. The victims come from the end of the list of those who run.
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
            if request not in self.running or not n:
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
# Write `latencies(arrival_s, token_s)`: `token_s` is a list of the times at which the tokens of an answer came, at least one. The result
# is a dict: `"ttft"`, from the arrival to the first token; `"tpot"`, the mean time per token after the first; `"longest"`, the longest time
# between one token and the next. With a single token, the last two are `None`.
#
# <details><summary>Hint</summary>
# Between n tokens there are n - 1 gaps.
# </details>


# %%
def latencies(arrival_s, token_s):
    """{"ttft": ..., "tpot": ..., "longest": ...} in seconds."""
    ### BEGIN SOLUTION
    gaps = [b - a for a, b in zip(token_s, token_s[1:])]
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
# that each can take, integers.


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
# sentences: who gains, who loses, what happens to the sum of q6, and which change would make it safe?
#
# *Your answer here.*

# %% [markdown]
# ## Your scheduler on a trace
#
# Sixteen requests with lognormal lengths come at random. Each row is a request; a mark is a step in which it computed something, the larger the
# more tokens.

# %%
# teachgrade: show
import random

import matplotlib.pyplot as plt

draw = random.Random(1)
scheduler, comes, time = PagedScheduler(64, 40, 8), [], 0
for name in range(16):
    time += draw.expovariate(0.25)
    lengths = [min(80, max(2, round(draw.lognormvariate(mu, 0.7)))) for mu in (3.4, 3.0)]
    comes.append((time, name, *lengths))
steps, again = [], []
while len(scheduler.finished) < 16:
    while comes and comes[0][0] <= len(steps):
        scheduler.add(*comes.pop(0)[1:])
    plan, preempted = scheduler.step()
    again += [(len(steps), name) for name in preempted]
    steps.append(plan)
plt.figure(figsize=(8, 4))
for at, plan in enumerate(steps):
    for name, n in plan:
        plt.plot(at, name, "s", color="tab:blue" if n == 1 else "tab:orange", markersize=2 + n / 12)
for at, name in again:
    plt.plot(at, name, "x", color="tab:red")
plt.xlabel("step")
plt.ylabel("request")
plt.gca().invert_yaxis()
plt.title("blue: one token; orange: a chunk; red: preempted")
plt.show()
print(f"{len(steps)} steps, {sum(n for plan in steps for _, n in plan) / len(steps):.1f} tokens in each")
