"""Text to judge by and text to calibrate with: where from, how much, and never the same."""

from __future__ import annotations

import hashlib
import json

import pytest

from teachkit import weights
from teachkit.heldout import Texts, from_files, held_out, require_disjoint, sample, training

BUNDLED = weights.find("bundled")


def manifest(folder, files):
    """A checkpoint that was trained on ``files``: path -> (text, split)."""
    listed = [
        {"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest(), "split": split}
        for path, (text, split) in files.items()
    ]
    (folder / "manifest.json").write_text(json.dumps({"files": listed}), encoding="utf-8")


def test_held_out_of_the_bundled_model():
    found = held_out(BUNDLED)
    files = json.loads((BUNDLED / "heldout.json").read_text(encoding="utf-8"))
    assert found.texts == tuple(files.values())
    assert found.n_bytes == json.loads((BUNDLED / "manifest.json").read_text())["bytes"]["heldout"]
    assert found.source == "35 files kept out of the training of 'bundled'"


def test_training_text_is_what_was_trained_on_and_nothing_else(tmp_path):
    library = tmp_path / "library"
    (library / "test").mkdir(parents=True)
    files = {
        "a.py": ("training text a", "train"),
        "b.py": ("held out", "heldout"),
        "c.py": ("as it was", "train"),
        "test/d.py": ("a test", "train"),
        "gone.py": ("no longer there", "train"),
        "e.py": ("training text é", "train"),
    }
    for path, (text, _) in files.items():
        if path != "gone.py":
            (library / path).write_text("another version" if path == "c.py" else text, encoding="utf-8")
    manifest(tmp_path, files)
    assert set(training(tmp_path, library=library).texts) == {"training text a", "training text é"}
    (library / "a.py").unlink()
    (library / "e.py").unlink()
    with pytest.raises(
        ValueError, match=r"calibration: expected files that '.*' was trained on in .*library"
    ):
        training(tmp_path, library=library)


def test_training_text_of_the_bundled_model_is_not_held_out():
    """From this Python's library: files whose hashes are those of the manifest, cut in their middle."""
    try:
        found = training(BUNDLED)
    except ValueError:
        pytest.skip("this Python's library shares no file with the one that was trained on")
    assert 0 < found.n_bytes <= 100_000
    require_disjoint(found, held_out(BUNDLED))


def test_sample_takes_the_middle_of_each_text():
    whole = Texts("x", ("0123456789", "ab", "é" * 10))
    found = sample(whole, 13)  # 4 bytes of each; of é two
    assert found.texts == ("3456", "ab", "éé")
    assert found.n_bytes == 10
    assert found.source == "a sample of x"
    assert sample(whole, 999).texts == whole.texts


def test_sample_leaves_out_characters_that_are_cut():
    assert sample(Texts("x", ("aéa",)), 2).texts == ("é",)
    assert sample(Texts("x", ("éaé",)), 3).texts == ("a",)


@pytest.mark.parametrize("n_bytes", [2, 0, -1])
def test_sample_of_less_than_a_byte_a_text(n_bytes):
    with pytest.raises(ValueError, match=f"sample: expected a byte for each of 3 texts, got {n_bytes}"):
        sample(Texts("x", ("a", "b", "c")), n_bytes)


@pytest.mark.parametrize("calibration", ["abc", "b", "xabcx"], ids=["the same", "a part", "more"])
def test_calibration_that_is_judged_by(calibration):
    with pytest.raises(ValueError, match="calibration: expected other text than that to be judged by, got"):
        require_disjoint(Texts("x", ("other", calibration)), Texts("y", ("", "abc")))


def test_calibration_that_is_not():
    require_disjoint(Texts("x", ("abd", "", "xyz")), Texts("y", ("abc", "")))


def test_files(tmp_path):
    for name, data in {"a.txt": "é", "b.txt": "\r\nb"}.items():
        (tmp_path / name).write_bytes(data.encode())
    found = from_files([tmp_path / "a.txt", tmp_path / "b.txt"])
    assert (found.texts, found.n_bytes, found.source) == (("é", "\r\nb"), 5, "a.txt, b.txt")


def test_files_that_cannot_be(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "bytes.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"texts: expected at least one byte, got none from empty\.txt"):
        from_files([tmp_path / "empty.txt"])
    with pytest.raises(ValueError, match=r"bytes\.txt: expected text in UTF-8"):
        from_files([tmp_path / "bytes.txt"])
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        from_files([tmp_path / "missing.txt"])
