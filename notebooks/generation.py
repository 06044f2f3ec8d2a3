# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   teachkit:
#     stem: generation
#     modules: [decode, sampling, tokenizer]
#     objectives:
#       - Turn text into tokens with merge rules that you apply yourself, and say what a prompt's last character changes
#       - Write the generation loop, and count how often the model runs and what it is fed
#       - Define TTFT and TPOT exactly, measure both, and predict the time of an answer from them
#       - Build temperature, top-k and top-p, and show that what is drawn agrees with the probabilities
#       - Stop at a string without ever showing half of it
#       - Measure how long answers get, and compute what it costs a server that it cannot know
#     minutes: 60
#     lab: null
# ---

# %% [markdown]
# # One token at a time
#
# Two people send the same prompt, letter for letter, to the same model on the same machine. Nobody waits for anybody else. One
# has the whole answer more than ten times sooner than the other. **What could the server have known when the two requests came in?**
#
# Write your answer down in a line. In section 6 you will send the prompt 64 times.
#
# **Afterwards you can**
#
# - turn text into tokens with merge rules that you apply yourself, and say what a prompt's last character changes;
# - write the generation loop, and count how often the model runs and what it is fed;
# - define TTFT and TPOT exactly, measure both, and predict the time of an answer from them;
# - build temperature, top-k and top-p, and show that what is drawn agrees with the probabilities;
# - stop at a string without ever showing half of it;
# - measure how long answers get, and compute what it costs a server that it cannot know.
#
# **You need** the lessons on attention and on the model: tokens go in, and for each of them $V$ *logits* come out, one score for every token
# that could come next; their softmax is the model's probability for each. No GPU, and no network once `teachkit` is installed. Allow an hour, and
# half as much again for the exercises.

# %% tags=["setup", "hide-input"]
# Set-up. If teachkit is missing, as in a fresh Colab runtime, install it from the address that the published copy
# of this lesson carries; a copy without an address says what to do. If teachkit is there, nothing happens.
import importlib.util
import subprocess
import sys

ADDRESS = ""
if importlib.util.find_spec("teachkit") is None:
    if not ADDRESS:
        raise ModuleNotFoundError(
            "teachkit is not installed. In a clone of the repository: pip install -c constraints.txt -e '.[labs]'"
        )
    # No --upgrade and no pins: a torch that teachkit can work with stays as it is.
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", f"git+{ADDRESS}"], check=True
    )

# %% tags=["nbval-ignore-output", "hide-input", "remove-output"]
import itertools
import json
import math
import random
import re
import statistics
import time
from importlib import resources

import torch
from IPython.display import Markdown, display
from torch.nn.utils.rnn import pad_sequence

import teachkit as tk
from teachkit import figures

started = time.perf_counter()
about_this_run = display(Markdown(f"This run — {tk.measure.caption()[1:-1]}."), display_id=True)

# %% [markdown]
# ## 1. Text in pieces
#
# A model takes numbers. Letters would do as tokens, but then every `return` costs six passes through the model. Words would
# do, but a new one turns up in every file. *Byte-level byte-pair encoding*, BPE, lies between
# ([Sennrich et al. 2016](https://arxiv.org/abs/1508.07909) for the merges; on bytes in
# [GPT-2, section 2.2](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)):
#
# 1. Cut the text into words by a fixed rule, and write each word as its bytes. The bytes, 0 to 255, are the first tokens, so any text can be written.
# 2. In the training text, find the pair of neighbours that occurs most often. Make it one new token, and note the rule. Repeat until the vocabulary is full.
#
# What is left of the training is an ordered list of rules. It lies in the file `tokenizer.json` beside the model's weights:

# %%
model = tk.load("bundled")
tokenizer = model.tokenizer
V = model.config.vocab_size
START = tokenizer.bos  # in training, stands between one text and the next
folder = resources.files("teachkit") / "checkpoints" / "bundled"
bpe = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]

# In the file each byte is one printable sign: itself, or else the next free one from 256 on.
SIGN = {b: chr(b) for b in range(256) if chr(b).isprintable() and b != 32}
SIGN |= {b: chr(256 + n) for n, b in enumerate(sorted(set(range(256)) - SIGN.keys()))}
BYTE = {sign: byte for byte, sign in SIGN.items()}


def as_text(signs):
    return bytes(BYTE[sign] for sign in signs).decode()


print(f"{V:,} tokens: 256 bytes, {len(bpe['merges']):,} merges, 1 for the end of a text")
for left, right in bpe["merges"][:9]:
    print(f"{as_text(left)!r:8} + {as_text(right)!r:12} -> {as_text(left + right)!r}")

# %% [markdown]
# The text was Python, and what occurs most often in Python is indentation. Rule 7 builds on rule 5; rule 9 is *self*.
#
# **Build.** To encode a word, apply the earliest rule that fits any two neighbours, and again, until none fits. The rule that cuts words
# is one regular expression. Here a space belongs to the word *before* it, and the spaces of an indentation to the line end before them.

# %%
WORD = re.compile(r"[^\w\s]*\n+ *|[^\w\s]?[^\W\d]+ ?|\d ?|[^\w\s]+ ?|\s+")
RANK = {tuple(pair): rank for rank, pair in enumerate(bpe["merges"])}


def merge(word):
    """The word as a list of pieces: bytes, with the earliest rule first"""
    parts = [SIGN[byte] for byte in word.encode()]
    while pairs := list(itertools.pairwise(parts)):
        first = min(pairs, key=lambda pair: RANK.get(pair, math.inf))
        if first not in RANK:
            break
        at = pairs.index(first)
        parts[at : at + 2] = ["".join(first)]
    return parts


def encode(text):
    return [bpe["vocab"][part] for word in WORD.findall(text) for part in merge(word)]


# Files of the library that neither the model nor its tokenizer was trained on.
held_out = json.loads((folder / "heldout.json").read_text(encoding="utf-8"))
code = held_out["functools.py"]
line = "    return self._value\n"
print("a line      ", tokenizer.pieces(line))
print("a whole file", encode(code) == tokenizer.encode(code))
there_and_back = (tokenizer.decode(tokenizer.encode(text)) for text in held_out.values())
print("and back    ", list(there_and_back) == list(held_out.values()))
print("pieces join ", "".join(tokenizer.pieces(line)) == line)

# %% [markdown]
# **Predict.** On Python this tokenizer puts nearly four bytes into a token. How many does it put into a token of English prose,
# and of Greek?

# %%
# The first sentence of article 1 of the Universal Declaration of Human Rights
TEXTS = {
    "Python": code,
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
}
n_tokens = {name: len(tokenizer.encode(text)) for name, text in TEXTS.items()}
print("          bytes  tokens  bytes per token")
for name, text in TEXTS.items():
    n_bytes = len(text.encode())
    print(f"{name:8} {n_bytes:6} {n_tokens[name]:7} {n_bytes / n_tokens[name]:10.1f}")
print([tokenizer.decode([token]) for token in tokenizer.encode(TEXTS["English"])][:9])

# %% [markdown]
# **Explain.** No rule was learnt from Greek, so each of its bytes stays a token of its own, two for most letters. The sentence says the same in every language
# ([United Nations](https://www.un.org/en/about-us/universal-declaration-of-human-rights)); in Greek it takes six times the tokens, hence six times the passes through the
# model. Tokenizers of large models, trained on many languages, still differ several times over between languages
# ([Petrov et al. 2023](https://arxiv.org/abs/2305.15425)).
#
# ## 2. The loop
#
# The logits in the last row say what may follow the text. Choose a token, append it, and ask again. To take the most likely token each time is called
# *greedy*:


# %%
@torch.inference_mode()
def continue_greedily(ids, n):
    ids = list(ids)
    for _ in range(n):
        logits = model(torch.tensor([ids]))  # (1, T, V), of which one row is new
        ids.append(logits[0, -1].argmax().item())
    return ids[-n:]


def start_of(text):
    return [START, *tokenizer.encode(text)]


prompt = start_of("def read_config(path):\n    ")
ours = continue_greedily(prompt, 24)
theirs = tk.generate(model, prompt, max_new_tokens=24)
print(theirs.text)
print("same tokens:", ours == theirs.tokens)

# %% [markdown]
# The lesson on attention showed that what has been read stays read: no later token changes the keys and values of an earlier one. `tk.generate` keeps
# them in a *KV cache*, the subject of the next chapter, so each pass after the first is fed only the token just chosen. The logits are the
# same.
#
# **Predict.** The prompt has $P$ tokens and $n$ are written. How often does the model run, and how many tokens is it fed altogether, with the cache and
# without? Try $P = 6$, $n = 24$.
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# It runs $n$ times either way. With the cache: the prompt once, then one token at a time. The last token is chosen and fed to nobody, so $P + n - 1 = 29$. Without:
# $P$, then $P + 1$, and so on, $nP + n(n-1)/2 = 420$.
#
# </details>


# %%
def tokens_fed(call):
    """How many tokens each pass of the model was given"""
    fed = []

    def count(_, inputs):
        fed.append(inputs[0].numel())

    hook = model.register_forward_pre_hook(count)
    call()
    hook.remove()
    return fed


with_cache = tokens_fed(lambda: tk.generate(model, prompt, max_new_tokens=24))
without = tokens_fed(lambda: continue_greedily(prompt, 24))
for name, fed in {"with cache": with_cache, "without": without}.items():
    print(f"{name:10}  {len(fed)} passes, {sum(fed):3} tokens: {fed[:6]} ...")

# %% [markdown]
# ### Where a prompt ends
#
# **Predict.** Two pairs of prompts, each alike but for white space at the end. Does it change what follows?

# %%
header = "def read_config(path):"
for text in ("import", "import ", header + "\n", header + "\n    "):
    answer = tk.generate(model, start_of(text), max_new_tokens=8)
    last = tokenizer.pieces(text)[-1]
    print(f"last token {last!r:9} then {answer.text!r:42} finish: {answer.finish}")

# %% [markdown]
# **Explain.** The statement is the token `import␣`, with its space. A bare `import` is the
# beginning of another word, and the model completes one: *importing*. After the function's colon, the line end and four spaces are one token. A line
# end alone is another token, which says that no indentation follows: so here is no body, and the likeliest token is the *end of
# text* (`START`, which separates texts in training). Same letters for you, other tokens for the model. If the end of a prompt is yours to
# choose, end it where a token ends.

# %% [markdown]
# ## 3. Two phases, two times
#
# The first pass feeds the whole prompt. It is called **prefill**. Each later pass feeds one token per answer: **decode**. A reader who waits feels them
# separately:
#
# - **TTFT**, *time to first token*: from the call until the first new token is known. It contains tokenizing, prefill and the first choice; on a busy server also the
#   time in the queue.
# - **TPOT**, *time per output token*: the mean distance between tokens after the first. With the last of $n$ tokens known at $t_n$,
#
# $$\mathrm{TPOT} = \frac{t_n - t_1}{n - 1}, \qquad \text{latency} = t_n = \mathrm{TTFT} + (n - 1)\,\mathrm{TPOT}$$
#
# `tk.generate` returns the moment at which each token was known. Before it measures, the definition:

# %%
known_s = [0.30, 0.35, 0.45, 0.50]  # an example: when each of four tokens was known
example = tk.Generation(text="", tokens=[1, 2, 3, 4], finish="length", times_s=known_s)
print(f"TTFT {example.ttft_s:.2f} s, TPOT {example.tpot_s:.3f} s")
run = tk.generate(model, prompt, max_new_tokens=24)
latency_s = run.ttft_s + (len(run.tokens) - 1) * run.tpot_s
print("one time per token:", len(run.times_s) == len(run.tokens) == 24)
print("latency is the last time:", math.isclose(latency_s, run.times_s[-1]))

# %% [markdown]
# **Predict.** The prompt grows from 16 tokens to 896. By what factor does TTFT grow, and by what factor TPOT? (The prompts below are token ids already,
# so tokenizing takes no part, and nobody waits in a queue.)

# %% tags=["nbval-ignore-output"]
document = start_of(code)
n_prompts, n_new = (16, 64, 256, 896), 32
runs = {n: [] for n in n_prompts}
for n in n_prompts * 4:  # in turn: a slow spell of the machine falls on all alike
    runs[n].append(tk.generate(model, document[:n], max_new_tokens=n_new))
ttft_s = {n: statistics.median(run.ttft_s for run in runs[n][1:]) for n in n_prompts}
tpot_s = {n: statistics.median(run.tpot_s for run in runs[n][1:]) for n in n_prompts}
rows = "\n".join(
    f"| {n} | {ttft_s[n] * 1e3:.0f} ms | {tpot_s[n] * 1e3:.1f} ms | {n / ttft_s[n]:,.0f} | {1 / tpot_s[n]:,.0f} |"
    for n in n_prompts
)
short, long = n_prompts[0], n_prompts[-1]
ttft_growth, tpot_growth = ttft_s[long] / ttft_s[short], tpot_s[long] / tpot_s[short]
best = max(n_prompts, key=lambda n: n / ttft_s[n])
advantage = best / ttft_s[best] * tpot_s[best]
small = (
    "hardly changes"
    if tpot_growth < 1.3
    else "grows far less"
    if tpot_growth < ttft_growth / 3
    else "grows, too"
)
first, last = ttft_s[64] / ttft_s[16], ttft_s[896] / ttft_s[256]
ends_of_curve = (
    "Fewer than four at the short end: part of each pass is a price that does not depend on its length. "
    if first < 3
    else ""
) + (
    "More than in proportion at the long end: the table of attention weights grows with the square."
    if last > 4
    else ""
)
Markdown(f"""
| prompt, tokens | TTFT | TPOT | tokens/s in prefill | tokens/s in decode |
| ---: | ---: | ---: | ---: | ---: |
{rows}

From {short} tokens to {long}, TTFT grows {ttft_growth:.0f} times, TPOT {tpot_growth:.1f} times: it {small}. At {best} tokens, prefill handles {advantage:.0f} times as many
tokens per second as decode.

In steps: from 16 tokens to 64, four times as many, TTFT grows {first:.1f} times; from 256 to 896, {896 / 256:.1f} times as many, {last:.1f} times. {ends_of_curve}

{tk.measure.caption()}
""")

# %% tags=["nbval-ignore-output", "hide-input"]
shown = {n: sorted(runs[n][1:], key=lambda run: run.times_s[-1])[1] for n in (short, long)}


def draw_times():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for marker, (n, run) in zip("os", shown.items()):
        count = range(1, len(run.times_s) + 1)
        ax.plot(
            [t * 1e3 for t in run.times_s],
            count,
            marker=marker,
            markersize=3,
            label=f"prompt of {n} tokens",
        )
    ax.axvline(
        shown[long].ttft_s * 1e3, color=figures.colours()["muted"], linewidth=0.8, linestyle=":"
    )
    ax.annotate(
        "TTFT",
        (shown[long].ttft_s * 1e3, n_new),
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    ax.set(xlabel="ms since the call", ylabel="tokens known", xlim=(0, None), ylim=(0, None))
    ax.legend(loc="center")
    return fig


display(
    figures.static(
        draw_times,
        alt=f"Tokens known over time for prompts of {short} and {long} tokens. The first token comes after "
        f"{shown[short].ttft_s * 1e3:.0f} and {shown[long].ttft_s * 1e3:.0f} ms; from there on a token comes every "
        f"{shown[short].tpot_s * 1e3:.1f} and {shown[long].tpot_s * 1e3:.1f} ms.",
    )
)
Markdown(f"*Where a line begins is TTFT; its slope is 1/TPOT.* {tk.measure.caption()}")

# %% [markdown]
# **Explain.** Prefill computes every token of the prompt; TTFT grows with that work. A step of decode feeds one token, however long the prompt was; only its attention reads the
# past, and that share of the step is all that can grow with the prompt.
#
# What is strange is the last two columns. A token of the prompt and a token of the answer pass through the same matrices, so they
# cost nearly the same arithmetic. Yet one kind is much cheaper. Two suspects: a step of decode starts as many operations as a whole
# prefill, and it fetches as many weights; both for a single token. Which one it is on which machine is the question of Part II. And decode cannot do what prefill
# does, take many tokens at once: token $i + 1$ has to wait until token $i$ has been chosen.

# %% [markdown]
# ## 4. Choosing
#
# The model does not give a token. It gives a distribution, and somebody has to choose. Greedy takes the top. For longer texts that goes
# wrong in a peculiar way. The function below continues several prompts in one batch with any way of choosing; the cache may hold rows of different lengths.


# %%
def up_to(ends, tokens):
    """The tokens up to and including the first that is in `ends`"""
    at = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: at + 1]


@torch.inference_mode()
def write(prompts, steps, choose, ends=()):
    """New tokens of each prompt: `steps` of them, or up to the first in `ends`"""
    n = [len(ids) for ids in prompts]
    tokens = pad_sequence([torch.tensor(ids) for ids in prompts], batch_first=True)
    cache = tk.cache.ContiguousCache(model.config, len(n), max(n) + steps)
    logits = model(tokens, step=cache.plan(n))[range(len(n)), torch.tensor(n) - 1]
    rows, ended = [], torch.zeros(len(n), dtype=torch.bool)
    for _ in range(steps):
        rows.append(choose(logits))
        ended |= torch.isin(rows[-1], torch.tensor(ends, dtype=torch.long))
        if ended.all():
            break
        logits = model(rows[-1][:, None], cache=cache)[:, -1]
    written = torch.stack(rows, 1).tolist()
    return [up_to(ends, row) for row in written]


def repeated(tokens, n=4):
    """Share of the runs of n tokens that stood in the text before"""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


print(tk.generate(model, start_of("import "), max_new_tokens=32).text)

# %% [markdown]
# **Predict.** Six prompts, 120 tokens each. In greedy text, what share of all runs of four tokens has stood there before? For comparison: the same model,
# when each token is drawn with the probability that it was given; and real source code, which repeats itself, too.

# %%
openings = ["import ", "class Queue:\n    ", "def read(self, size):\n    "]
openings += ["for i in ", "try:\n    import ", "# The "]
openings = [start_of(text) for text in openings]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


generator = torch.Generator().manual_seed(0)
sample = tk.sampler(temperature=1.0)
greedy_texts = write(openings, 120, tk.greedy)
drawn_texts = write(openings, 120, lambda logits: sample(logits, generator))
real_texts = [document[i : i + 120] for i in range(400, 6400, 1000)]
share = {
    "greedy": mean(map(repeated, greedy_texts)),
    "drawn": mean(map(repeated, drawn_texts)),
    "source code": mean(map(repeated, real_texts)),
}
alone = tk.generate(model, openings[0], max_new_tokens=32).tokens
print("greedy, batched = alone:", greedy_texts[0][:32] == alone)
print("greedy repeats more than half of its runs:", share["greedy"] > 0.5)
print("drawn, less than a quarter of that:", share["drawn"] < share["greedy"] / 4)

# %% tags=["nbval-ignore-output"]
verdict = (
    "Drawn text repeats about as much as people do."
    if 0.5 < share["drawn"] / share["source code"] < 2
    else "Drawn text repeats less than the library's authors did."
    if share["drawn"] < share["source code"]
    else "Drawn text repeats more than the library's authors did."
)
Markdown(f"""
| | runs of four tokens that stood in the text before |
| --- | ---: |
| greedy | {share["greedy"]:.0%} |
| drawn from the model's distribution | {share["drawn"]:.0%} |
| source code, not used in training | {share["source code"]:.0%} |

{verdict}

{tk.measure.caption()}
""")

# %% [markdown]
# **Explain.** A repetition makes its own next repetition likelier: the model has learnt to copy (lesson on attention, section 8), and greedy choosing never leaves
# the loop. Each choice was the likeliest; the text is not. [Holtzman et al. 2019](https://arxiv.org/abs/1904.09751) show this for large models.
#
# Drawing from the whole distribution has the opposite fault. Thousands of tokens that make no sense here have a tiny probability each, and together enough to be hit now and then.
# Three settings stand between the two:
#
# - **Temperature** $\tau$ divides the logits before the softmax: $p_i \propto e^{z_i / \tau}$. Below 1 the likely get likelier, above 1 less so; $\tau \to 0$ is greedy.
# - **Top-k** keeps the $k$ most likely tokens ([Fan et al. 2018](https://arxiv.org/abs/1805.04833)).
# - **Top-p**, or *nucleus*, keeps the most likely tokens until their probabilities reach $p$: few where the model is sure, many where it is not
#   ([Holtzman et al. 2019](https://arxiv.org/abs/1904.09751)).
#
# What is left is divided by its sum. The order matters: `teachkit` takes temperature first, then top-k, then top-p of what top-k has left. Others apply them in
# another order, and with the same three numbers draw from another distribution (exercise 2).
#
# **Predict.** Four tokens are equally likely, and top-p is 0.5. How many remain?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Two: the first two reach 0.5, and reaching is enough. Which two? The definition does not say; `teachkit` takes equals in the order of the
# vocabulary, as greedy does.
#
# </details>
#
# **Build.** Plainly, in Python's own numbers:


# %%
def distribution(logits, temperature=1.0, top_k=None, top_p=1.0):
    """(V,) logits -> (V,) probabilities that are drawn from"""
    order = logits.argsort(descending=True, stable=True).tolist()[:top_k]
    highest = logits.max().item()
    weight = [math.exp((logits[i].item() - highest) / temperature) for i in order]
    total, reached, kept = sum(weight), 0.0, []
    for w in weight:
        kept.append(w)
        reached += w / total
        if reached >= top_p:
            break
    probs = torch.zeros(len(logits))
    probs[order[: len(kept)]] = torch.tensor(kept) / sum(kept)
    return probs


generator = torch.Generator().manual_seed(1)
noise = 2 * torch.randn(300, generator=generator)
with torch.inference_mode():
    real = model(torch.tensor([start_of("    for i in ")]))[0, -1]
settings = [
    {"temperature": 0.5},
    {"top_k": 5},
    {"top_p": 0.5},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.7},
]
print("equals teachkit            kept: four equal  noise  real")
for setting in settings:
    same, kept = [], []
    for logits in (torch.zeros(4), noise, real):
        ours = distribution(logits, **setting)
        theirs = tk.sampling.probabilities(logits, **setting)
        same.append(torch.allclose(ours, theirs, atol=1e-5))
        kept.append(int((theirs > 0).sum()))
    print(f"{all(same)!s:24} {kept[0]:14} {kept[1]:9} {kept[2]:6}   {setting}")

# %% [markdown]
# Move the controls and watch three things: how many tokens can be drawn, which of them, and how uncertain the choice is. The *entropy*
# $-\sum p \log_2 p$ is 0 bits for a certain choice and $\log_2 n$ for $n$ equally likely ones.

# %% tags=["nbval-ignore-output"]
NAMES = [tokenizer.decode([token]) or "<end>" for token in range(V)]


@torch.inference_mode()
def next_logits(texts):
    """(N, V): the logits after each text"""
    tokens = [torch.tensor([start_of(text)]) for text in texts]
    return torch.cat([model(row, last_only=True)[:, -1] for row in tokens])


PROMPTS = ["import ", "    for i in ", "    return ", header + "\n    ", "        raise Value"]
explorer = figures.next_token(PROMPTS, next_logits(PROMPTS), NAMES)
explorer

# %% [markdown]
# **Explain.** After `raise Value` there is one continuation, and no setting short of an extreme one changes it. After `import` there are dozens of good
# ones, and top-k with a small k throws good ones away. Top-p keeps few tokens in the first case and many in the second with the same setting. Now put high temperature and no cut
# together, and read the last row: the share of all the tokens that have no row.
#
# With a kernel, on a prompt of your own. Mind the space at the end.


# %% tags=["nbval-ignore-output"]
def look(text, temperature=0.8, top_p=0.95):
    settings = {"temperature": temperature, "top_p": top_p}
    return figures.next_token([text], next_logits([text]), NAMES, **settings)


PROMPT = "    def __init__(self, "
ranges = {"temperature": (0.0, 2.0, 0.05), "top_p": (0.05, 1.0, 0.05)}
figures.live(look, look(PROMPT), text=PROMPT, **ranges)

# %% [markdown]
# **Measure.** Is what is drawn distributed as it was computed? A computer draws with a random number $u$ between 0 and 1. Lay the probabilities end to end on a line of length 1; the
# token on whose piece $u$ falls is drawn. The control draws from the same logits at another temperature, and must fail the same test.


# %%
def pick(probs, u):
    """(B, V) probabilities, (B,) numbers from 0 to 1 -> (B,) tokens"""
    borders = probs.cumsum(-1)
    token = torch.searchsorted(borders, u[:, None], right=True)[:, 0]
    return token.clamp_max(probs.shape[-1] - 1)  # where rounding leaves the last below 1


def agrees(tokens, probs, n_sigma=5):
    """Is every token's count within 5 standard deviations of its expectation?"""
    n = len(tokens)
    counts = torch.bincount(tokens, minlength=len(probs))
    allowed = n_sigma * (n * probs * (1 - probs)).sqrt() + 3
    return bool(((counts - n * probs).abs() <= allowed).all())


n_draws, setting = 2000, {"temperature": 0.8, "top_p": 0.9}
logits = next_logits(["import "]).expand(n_draws, V)
expected = tk.sampling.probabilities(logits[0], **setting)
generator = torch.Generator().manual_seed(2)
drawn = {
    "ours": pick(expected.expand(n_draws, V), torch.rand(n_draws, generator=generator)),
    "teachkit": tk.sampler(**setting)(logits, generator),
    "control": tk.sampler(temperature=1.0, top_p=0.9)(logits, generator),
}
for name, tokens in drawn.items():
    print(f"{name:8} agrees with the probabilities: {agrees(tokens, expected)}")

# %% [markdown]
# The same numbers $u$ give the same text: that is what `seed` does. On another processor a sum may be rounded differently, and where $u$ falls close to a border, the text goes another way
# from there on.

# %% [markdown]
# ## 5. When does it end?
#
# Nothing in the loop ends it. Four things do: the model chooses the end-of-text token; the text contains a *stop string*; the number of new
# tokens that was asked for is reached; or the context is full.

# %%
ends = {
    "end of text": tk.generate(model, start_of("def read_config(path):\n"), 8),
    "stop string": tk.generate(model, start_of("import "), 64, stop="\nfrom"),
    "tokens asked for": tk.generate(model, start_of("import "), 8),
    "context": tk.generate(model, document[:1020], 64),
}
for why, answer in ends.items():
    print(
        f"{why:17} finish {answer.finish:8} {len(answer.tokens)} tokens, text {answer.text[:24]!r}"
    )

# %% [markdown]
# **Predict.** The stop string was `⏎from`. It is two tokens long: `⏎` and `from␣`. A reader watches the text as it comes. When the token `⏎` has just been chosen, may it be
# shown?
#
# <details>
# <summary>Answer, once you have yours</summary>
#
# Not yet. If `from` follows, the answer has ended *before* the line end, and what has been shown cannot be taken back. If anything else follows, it must be
# shown after all. So a stream has to hold back whatever may be the beginning of a stop string.
#
# </details>


# %%
def until_stop(pieces, stop):
    """Pass text on; end before `stop`, and never show a part of it"""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        keep = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held


stop, streamed = "\nfrom", []
ids = ends["stop string"].tokens
tk.generate(model, start_of("import "), 64, stop=stop, stream=streamed.append)
pieces = [tokenizer.decode([token]) for token in ids]
print("tokens       ", pieces)
print("ours         ", [piece for piece in until_stop(pieces, stop) if piece])
print("teachkit     ", streamed)
false_alarm = ["a", "\n", "import", "\n", "from ", "b"]
print("a false alarm", list(until_stop(false_alarm, stop)))

# %% [markdown]
# There is a second reason to hold text back. A token may end inside a character: on bytes, most letters that are not English are made of several tokens.

# %%
ids = tokenizer.encode("naïve 🙂")
print("each token alone", [tokenizer.decode([token]) for token in ids])
print("streamed        ", list(tokenizer.stream(ids)))

# %% [markdown]
# So the first *text* may come later than the first *token*. TTFT as defined in section 3 is about the token; what a reader sees may lag behind.

# %% [markdown]
# ## 6. How long will it be?
#
# Now the puzzle. The request: *complete this docstring*. The answer ends where the quotes close, so the model decides its length. Sixty-four people send it; each answer is
# drawn from the model's own distribution, with no cut.
#
# **Predict.** How many tokens do the shortest answer, the middle one and the longest have? No answer may have more than 192.

# %%
LIMIT = 192
CLOSING = [token for token, name in enumerate(NAMES) if '"""' in name or token == START]
request = start_of('def read_config(path):\n    """')


def at_random(seed):
    generator = torch.Generator().manual_seed(seed)

    def choose(logits):
        return pick(logits.softmax(-1), torch.rand(len(logits), generator=generator))

    return choose


answers = write([request] * 64, LIMIT, at_random(3), CLOSING)
lengths = sorted(map(len, answers))
control = {len(answer) for answer in write([request] * 3, LIMIT, tk.greedy, CLOSING)}
print("different lengths among 64 answers: more than 20:", len(set(lengths)) > 20)
print("longest more than ten times the shortest:", lengths[-1] > 10 * lengths[0])
print("half of them shorter than a quarter of the limit:", lengths[32] < LIMIT / 4)
print("some reach the limit:", lengths[-1] == LIMIT)
print("control, greedy: different lengths:", len(control))

# %% [markdown]
# The request was the same, so nothing *in the request* told them apart. But different requests may: perhaps long prompts get long answers. Below are 64 places in files
# that the model was not trained on, each just behind the opening quotes of a docstring. The prompt is what stands before, cut to 16 tokens at one place, 18 at the next, up to
# 142. And for each place there is an answer by somebody who knew what they wanted to say: the docstring that stands there.

# %%
PLACE = re.compile(r'def [^\n]*:\n +"""')
places = [(text, m.end()) for text in held_out.values() for m in PLACE.finditer(text)]
places = random.Random(0).sample(places, 64)
requests, by_author = [], []
for i, (text, end) in enumerate(places):
    before = tokenizer.encode(text[max(0, end - 2000) : end])
    requests.append([START, *before[-(15 + 2 * i) :]])
    after = tokenizer.encode(text[end : end + 4000])
    by_author.append(len(up_to(CLOSING, after[:LIMIT])))
by_model = [len(answer) for answer in write(requests, LIMIT, at_random(4), CLOSING)]
prompt_length = [len(ids) for ids in requests]
print("prompts from", min(prompt_length), "to", max(prompt_length), "tokens")


def rank_correlation(x, y):
    """1: the longer the one, the longer the other; 0: neither; -1: the longer, the shorter"""
    x, y = (torch.tensor(v, dtype=torch.float) for v in (x, y))
    ranks = [(v[:, None] > v).sum(1) + (v[:, None] == v).sum(1) / 2 for v in (x, y)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


shuffle = random.Random(1)
shuffled = [shuffle.sample(by_model, len(by_model)) for _ in range(500)]
by_chance = sorted(abs(rank_correlation(prompt_length, row)) for row in shuffled)[474]
knows = {
    "the model's": rank_correlation(prompt_length, by_model),
    "the author's": rank_correlation(prompt_length, by_author),
}
print("a length knows itself:", round(rank_correlation(by_model, by_model), 2))
print("prompt's length foretells the answer's:", abs(knows["the model's"]) > 0.5)

# %% tags=["nbval-ignore-output", "hide-input"]
groups = {
    "one prompt, 64 times": lengths,
    "64 places, the model": sorted(by_model),
    "64 places, the author": sorted(by_author),
}


def draw_survival():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for name, values in groups.items():
        going = [sum(v > n for v in values) / len(values) for n in range(LIMIT)]
        ax.step(range(LIMIT), going, where="post", label=name)
    ax.set(
        xlabel="tokens written",
        ylabel="share still being written",
        xlim=(0, LIMIT),
        ylim=(0, 1),
    )
    ax.legend()
    return fig


rows = "\n".join(
    f"| {name} | {values[0]} | {values[32]} | {values[57]} | {sum(v == LIMIT for v in values)} |"
    for name, values in groups.items()
)
within = {name: abs(value) <= by_chance for name, value in knows.items()}
verdict = (
    "Neither is more than chance gives"
    if all(within.values())
    else "Both are more than chance gives, and far from a forecast"
    if not any(within.values())
    else f"Only that of {' and '.join(name for name in knows if not within[name])} is more than chance gives, and far from a forecast"
)
display(
    figures.static(
        draw_survival,
        alt="Share of answers still being written after so many tokens. Medians: "
        + "; ".join(f"{name}, {values[32]} tokens" for name, values in groups.items())
        + ".",
    )
)
Markdown(f"""
| docstrings, in tokens | shortest | median | one in ten has at least | stopped at {LIMIT} |
| --- | ---: | ---: | ---: | ---: |
{rows}

Rank correlation of the prompt's length with the answer's: {knows["the model's"]:+.2f} for the model's answers, {knows["the author's"]:+.2f} for the authors'. In 95 of 100
shufflings chance alone gives up to ±{by_chance:.2f}. {verdict}.

{tk.measure.caption()}
""")

# %% [markdown]
# **Explain.** Each token is drawn, the choice is fed back, and the next distribution depends on it. Once *Return the path.* is written, closing quotes are likely; once *Options:* is, they are far away. Whether there is another paragraph is
# decided on the way. Nor does it take a weak model for that: the last row of the table is people's own writing, and it spreads over tens of tokens, too.
#
# A server that cannot know at the start may hope to know more as the answer goes on.
#
# **Predict.** An answer has 40 tokens already, which is longer than most. Is it nearly done?

# %%
everything = lengths + by_model


def median_left(n, values):
    """Median of the tokens still to come, over the answers longer than n tokens"""
    return statistics.median(v - n for v in values if v > n)


longer_left = median_left(40, everything) > median_left(0, everything)
# A control with the same median in which waiting tells nothing: every step ends with the same probability.
stop_probability = 1 - 0.5 ** (1 / statistics.median(everything))
coin = random.Random(0)
log_stay = math.log(1 - stop_probability)
steady = [math.ceil(math.log(1 - coin.random()) / log_stay) for _ in range(10000)]
print("after 40 tokens more is still to come than at the start:", longer_left)
left = median_left(40, steady) / median_left(0, steady)
print("for the control, within a fifth the same:", 0.8 < left < 1.2)

# %% tags=["nbval-ignore-output"]
rows = "\n".join(
    f"| {n} | {sum(v > n for v in everything)} | "
    f"{'at least ' if n + median_left(n, everything) >= LIMIT else ''}{median_left(n, everything):.0f} | {median_left(n, steady):.0f} |"
    for n in (0, 10, 20, 40, 80)
)
tail = (
    "The longer it has been going on, the *longer* it can be expected to go on: what is still there after 40 tokens is seldom a one-line docstring."
    if longer_left
    else "What is still to come does shrink as the answer grows, but it stays as uncertain."
)
Markdown(f"""
| tokens so far | answers still going, of {len(everything)} | median still to come | control |
| ---: | ---: | ---: | ---: |
{rows}

{tail}

{tk.measure.caption()}
""")

# %% [markdown]
# ## 7. What follows
#
# With the TTFT and TPOT of section 3 and the lengths of section 6, for the one prompt of the puzzle:

# %% tags=["nbval-ignore-output"]
n_row = len(request) + LIMIT  # positions to reserve for a request that may use its limit
unused = 1 - mean((len(request) + n) / n_row for n in lengths)
groups_of = random.Random(2)
batches = [groups_of.sample(lengths, 8) for _ in range(500)]
idle = 1 - sum(map(sum, batches)) / sum(8 * max(batch) for batch in batches)


def latency_of(n):
    return ttft_s[short] + (n - 1) * tpot_s[short]


low, middle, high = (latency_of(lengths[i]) for i in (0, 32, 57))
Markdown(f"""
**The puzzle.** The server could have known the time to the first token, about {ttft_s[short] * 1e3:.0f} ms, and the time per token after that, about
{tpot_s[short] * 1e3:.1f} ms. It could not have known $n$ in

$$\\text{{latency}} = \\mathrm{{TTFT}} + (n - 1)\\,\\mathrm{{TPOT}}$$

Alone on this machine the shortest of the 64 answers would take {low * 1e3:.0f} ms, the middle one {middle * 1e3:.0f} ms, and one in ten at least {high * 1e3:,.0f} ms.

| a server that does not know $n$ and | pays |
| --- | --- |
| reserves cache for every request up to its limit of {LIMIT} new tokens | {unused:.0%} of what it reserved is never used |
| lets 8 requests run as a batch until the longest is done | {idle:.0%} of the places in the batch stand idle |
| promises when the whole answer will be there | is wrong, or promises the time of the limit, {latency_of(LIMIT) / middle:.0f} times that of the middle answer |

TTFT and TPOT as measured in section 3, for a short prompt; lengths from section 6. {tk.measure.caption()}
""")

# %% [markdown]
# Each line has an answer, and none of them needs to know $n$. Show the text as it comes, and promise TTFT and TPOT instead. Take memory in small blocks as the answer grows, and give them back when it ends.
# Decide at *every step* who is in the batch. The last two are Part IV.
#
# ## 8. How fast is fast enough
#
# If the reader reads as the text comes, TPOT has a natural bound: the reader's own speed. A talk on inference takes 250 words a minute as the average reader's
# (Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*). A review of 190 studies arrives at 238 for English non-fiction and 260 for fiction
# ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). How many milliseconds per token that leaves depends on the tokenizer.
#
# **Predict.** With the rule of thumb of 3/4 of a word per token ([OpenAI](https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them)), what TPOT keeps up with 250 words a minute?
# And with the tokenizer of section 1, which cuts English smaller: does it have to be faster or may it be slower?

# %%
words_per_token = len(TEXTS["English"].split()) / n_tokens["English"]


def reading_ms(words_per_minute, words_per_token):
    """TPOT that keeps up with a reader, in ms"""
    return 60_000 / words_per_minute * words_per_token


print(f"3/4 of a word per token      {reading_ms(250, 0.75):.0f} ms")
print(
    f"our tokenizer, {words_per_token:.2f} of a word  {reading_ms(250, words_per_token):.0f} ms"
)

# %% [markdown]
# Smaller tokens must come faster. A bound on TPOT therefore belongs to a tokenizer, a language and a kind of text; tokens per second of two models with different
# tokenizers do not compare.
#
# ## What real systems do
#
# - **They promise TTFT and TPOT.** [DistServe](https://arxiv.org/abs/2401.09670) gives each application a bound for both and counts the requests per second that meet them, *goodput*.
# - **They stream**, commonly as [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html): one HTTP response that stays open, a line per piece of text.
# - **They schedule each step.** [Orca](https://www.usenix.org/conference/osdi22/presentation/yu) lets requests join and leave the batch between two steps.
#   [vLLM](https://arxiv.org/abs/2309.06180) takes cache memory in blocks; in the systems it was compared with, 20.4 to 38.2 % of the cache memory held tokens.
# - **They guess lengths all the same.** From what the prompt *asks* (not its length) a length can be guessed roughly, well enough to sort requests
#   ([Zheng et al. 2023](https://arxiv.org/abs/2305.13144)). A guess may be wrong; none of the answers above depends on one.
# - **They take several tokens per pass.** In *speculative decoding* a small model guesses some tokens ahead, and the large one checks them in one pass, prefill's way. The rule of
#   acceptance leaves the distribution exactly as it was ([Leviathan et al. 2022](https://arxiv.org/abs/2211.17192)).
# - **They mask logits.** For output that must be valid JSON, tokens that the grammar does not allow get $-\infty$ before the softmax
#   ([Willard and Louf 2023](https://arxiv.org/abs/2307.09702)).
#
# ## What the sources claim, checked

# %% tags=["nbval-ignore-output"]
target_ms = reading_ms(250, 0.75)
worst_ms = max(tpot_s.values()) * 1e3
keeps_up = (
    "Every TPOT of section 3 is below that"
    if worst_ms < target_ms
    else "Not every TPOT of section 3 is below that"
)
spread = f"{lengths[0]} to {lengths[-1]} tokens from one prompt (the limit is {LIMIT})"
repeats = "Seen here" if share["greedy"] > 2 * share["source code"] else "Not seen here"
Markdown(f"""
| claim | where | verdict |
| --- | --- | --- |
| The average reader reads 250 words a minute; a model whose latency is below that does not bore anybody | T. Lacroix, *Exploring the Latency/Throughput & Cost Space for LLM Inference*, talk | About right: 238 to 260 ([Brysbaert 2019](https://doi.org/10.1016/j.jml.2019.104047)). At 3/4 of a word per token it is {target_ms:.0f} ms per token ({target_ms * 238 / 250:.0f} to {target_ms * 250 / 238:.0f} for 260 to 238 words). {keeps_up}. It bounds TPOT only: a slow first token bores, too, and so does a slow answer that a program waits for. |
| Unknown response length means unknown latency | *LLM-Systems Basics*, EECS 598, University of Michigan, January 2024 | Right for the whole answer: {spread}. TTFT and TPOT can be known: they depend on the prompt, the machine and its load. |
| Choosing the likeliest token makes text repeat itself | [Holtzman et al. 2019](https://arxiv.org/abs/1904.09751), abstract | {repeats}: {share["greedy"]:.0%} of greedy text's runs of four tokens had occurred before, against {share["source code"]:.0%} in source code. |

{tk.measure.caption()}
""")

# %% [markdown]
# ## Exercises
#
# **1. Learn the rules yourself.** Write `learn(text, n)`: the first $n$ merges, from the words of `text`, each time the most frequent pair of neighbours. Run it on `code`. How many of your first 20 are
# among the first 200 of the file?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# from collections import Counter
#
# def learn(text, n):
#     words = Counter(tuple(SIGN[b] for b in word.encode()) for word in WORD.findall(text))
#     rules = []
#     for _ in range(n):
#         pairs = Counter()
#         for word, count in words.items():
#             for pair in zip(word, word[1:]):
#                 pairs[pair] += count
#         best = max(pairs, key=pairs.get)
#         rules.append(list(best))
#         merged = Counter()
#         for word, count in words.items():
#             parts, i = [], 0
#             while i < len(word):
#                 two = word[i : i + 2] == best
#                 parts.append("".join(best) if two else word[i])
#                 i += 2 if two else 1
#             merged[tuple(parts)] += count
#         words = merged
#     return rules
#
# mine = learn(code, 20)
# print([as_text(a + b) for a, b in mine])
# print(sum(rule in bpe["merges"][:200] for rule in mine), "of 20")
# ```
#
# Most of them. Of one file some rules are its own; ties and the order of the early ones differ.
#
# </details>
#
# **2. The order of the cuts.** Write `p_first(logits, top_k, top_p)`, which applies top-p to the whole distribution and top-k to what is left. On `real`, find settings for
# which it keeps another number of tokens than `tk.sampling.probabilities`. Which of the two can keep more?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def p_first(logits, top_k, top_p):
#     return min(top_k, int((distribution(logits, top_p=top_p) > 0).sum()))
#
# for top_k, top_p in [(5, 0.95), (10, 0.9), (50, 0.9)]:
#     k_first = int((tk.sampling.probabilities(real, top_k=top_k, top_p=top_p) > 0).sum())
#     print(top_k, top_p, "top-k first", k_first, "top-p first", p_first(real, top_k, top_p))
# ```
#
# Top-p first keeps at least as many. After top-k the rest is divided by its sum, every probability is larger, and $p$ is reached sooner.
#
# </details>
#
# **3. Sampling as an argmax.** Add to each logit, divided by the temperature, a random number $-\ln(-\ln u)$ with $u$ uniform between 0 and 1, and take the largest. Show with `agrees` that this draws from the softmax.
# What does it save?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# generator = torch.Generator().manual_seed(5)
# u = torch.rand(n_draws, V, generator=generator).clamp_min(1e-30)
# gumbel = -(-u.log()).log()
# drawn = (logits / 0.8 + gumbel).argmax(-1)
# print(agrees(drawn, tk.sampling.probabilities(logits[0], temperature=0.8)))  # True
# ```
#
# It needs no sum over the vocabulary and no running sum, so it can be done on logits that lie on several devices, each finding its own largest. It is known as the Gumbel-max trick.
#
# </details>
#
# **4. Ask the model.** Before the first token of an answer is drawn, the model gives a probability that the quotes close at once. Does it foretell the length of the answer? Use `requests` and `by_model`.
#
# <details>
# <summary>Answer</summary>
#
# ```python
# with torch.inference_mode():
#     first = [model(torch.tensor([ids]), last_only=True)[0, -1].softmax(-1) for ids in requests]
# closing = [probs[CLOSING].sum().item() for probs in first]
# print(rank_correlation(closing, by_model), "chance", by_chance)
# ```
#
# Compare the number with what chance gives. The end is seldom likely at the first token, and a length is decided by what is drawn later. A longer look ahead is possible: draw the answer and count. That
# is an answer's worth of work.
#
# </details>
#
# **5. Two stop strings.** Generalise `until_stop` to a list of stop strings. What is right when two of them begin at different places in the same piece?
#
# <details>
# <summary>Answer</summary>
#
# ```python
# def until_any(pieces, stops):
#     held = ""
#     for piece in pieces:
#         held += piece
#         found = [held.index(stop) for stop in stops if stop in held]
#         if found:
#             yield held[: min(found)]
#             return
#         keep = max(n for stop in stops for n in range(len(stop)) if held.endswith(stop[:n]))
#         yield held[: len(held) - keep]
#         held = held[len(held) - keep :]
#     yield held
#
# print("".join(until_any(["a b", "c d", "e f"], ["d", "c"])))  # a b
# ```
#
# The text ends before the one that begins first.
#
# </details>
#
# ## Check yourself
#
# **A.** Suppose that an answer of 101 tokens took 2.3 s, of which 0.3 s passed before its first token. What is TPOT?
#
# <details>
# <summary>Answer</summary>
#
# $(2.3 - 0.3) / 100 = 0.02$ seconds. There are 100 distances between 101 tokens.
#
# </details>
#
# **B.** With temperature 0.7, top-k 1 and top-p 0.9, how many different answers can a prompt get?
#
# <details>
# <summary>Answer</summary>
#
# One: top-k 1 is greedy whatever the temperature, and top-p always keeps at least one token.
#
# </details>
#
# **C.** A server sets a limit of 1,000 new tokens. Does that make latency known?
#
# <details>
# <summary>Answer</summary>
#
# It bounds it: no more than $\mathrm{TTFT} + 999\,\mathrm{TPOT}$. Most answers end long before, at a time that is still unknown. And an answer that the limit cuts is not the answer that was asked for.
#
# </details>
#
# ## Not covered here
#
# How the cache works: next chapter. Why a step of decode is slow: Part II. Penalties for repetition, beam search, and sampling methods beyond these three. How tokenizers treat special tokens and chat templates.

# %% tags=["nbval-ignore-output", "hide-input"]
about_this_run.update(
    Markdown(
        f"This run took {time.perf_counter() - started:.0f} s — {tk.measure.caption()[1:-1]}."
    )
)
