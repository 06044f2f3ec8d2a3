"""Train the byte-level BPE tokenizer of the bundled checkpoint.

python training/bpe.py --out build/training
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import corpus
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SEPARATOR = "<|endoftext|>"
# A word keeps one punctuation mark before it and one space after it (".name", "(self", "def "), so
# that a prompt that ends in a space ends where a token ends; a line break keeps the punctuation before
# it and the indentation after it (":\n    "). Measured on the held-out text: 3.67 bytes per token,
# against 3.44 with GPT-2's pattern at the same vocabulary of 4096.
PATTERN = (
    r"[^\s\p{L}\p{N}_]*\n+ *"
    r"|[^\s\p{L}\p{N}_]?[\p{L}_]+ ?"
    r"|\p{N} ?"
    r"|[^\s\p{L}\p{N}_]+ ?"
    r"|\s+"
)


def train(texts: list[str], vocab_size: int = 4096) -> Tokenizer:
    """A byte-level BPE whose every byte is a token, so that no text is out of its reach."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, context: int = 1024) -> None:
    """tokenizer.json, and the tokenizer_config.json that transformers wants beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SEPARATOR,
        "eos_token": SEPARATOR,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    out = parser.parse_args().out
    save(train(corpus.texts(corpus.collect(), "train")), out)
    print(out / "tokenizer.json")


if __name__ == "__main__":
    main()
