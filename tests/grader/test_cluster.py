"""The same marks from a dask.distributed cluster as from the pool of one process."""

from __future__ import annotations

import shutil
import zipfile
from io import BytesIO

import pytest

from at_hand import ROOT, lab_named, needs_sandbox, results_in, teachgrade
from hostile import notebook, solved
from teachgrade.cluster import executor, pack_lab
from teachgrade.source import without_solutions

STEM = "kv_cache"


@needs_sandbox
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_local_cluster_gives_the_marks_of_the_pool(tmp_path, capsys):
    from distributed import LocalCluster

    folder, lab = tmp_path / "in", lab_named(STEM)
    folder.mkdir()
    for number in range(3):
        (folder / f"right{number}.ipynb").write_bytes(notebook(solved(lab)))
    wrong = solved(lab).replace("torch.arange(S - T, S)", "torch.arange(T)")
    (folder / "wrong.ipynb").write_bytes(notebook(wrong))
    (folder / "blank.ipynb").write_bytes(notebook(without_solutions(lab.source)))
    (folder / "none.ipynb").write_bytes(b"{")
    exits = solved(lab) + "\n\n# %%\nimport os\nos._exit(0)\n"
    (folder / "exits.ipynb").write_bytes(notebook(exits))
    where = ROOT / "labs" / STEM
    teachgrade("grade", where, folder, "--out", tmp_path / "pool", "--seed", "s")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        teachgrade("grade", where, folder, "--out", tmp_path / "dask", "--seed", "s", "--scheduler", address)
    pool, dask = (results_in(tmp_path / name) for name in ("pool", "dask"))
    for one in (*pool.values(), *dask.values()):
        del one["time_s"], one["date"]
    assert len(pool) == 7
    assert dask == pool
    teachgrade("grade", where, folder, "--out", tmp_path / "dask", "--seed", "s", "--json")
    assert '"resumed": 7' in capsys.readouterr().out  # the keys are the same as well


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr("teachgrade.cluster.PATIENCE_S", 1)
    with pytest.raises(ValueError, match="nothing answers"), executor("tcp://127.0.0.1:1"):
        pass


def test_without_a_sandbox_nothing_is_sent_to_others(tmp_path, capsys):
    (tmp_path / "a.ipynb").write_text("{}", encoding="utf-8")
    words = ("--scheduler", "tcp://127.0.0.1:1", "--unsafe-no-sandbox")
    teachgrade("grade", ROOT / "labs" / STEM, tmp_path / "a.ipynb", "--out", tmp_path / "o", *words, expect=2)
    assert "not without a sandbox" in capsys.readouterr().err


def test_a_packed_lab_is_the_same_bytes_for_the_same_files(tmp_path):
    here, there = ROOT / "labs" / STEM, tmp_path / STEM
    shutil.copytree(here, there)
    assert pack_lab(here) == pack_lab(there)
    with zipfile.ZipFile(BytesIO(pack_lab(here))) as archive:
        assert f"lab/{STEM}/lab.toml" in archive.namelist()
        assert not [name for name in archive.namelist() if name.endswith(".ipynb")]
