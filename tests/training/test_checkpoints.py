"""States on disk: whole or not at all, two kept, damage found, one process a folder."""

import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from common.errors import InputError
from common.files import replacing
from training import checkpoints
from training.checkpoints import Progress

FLAGS = {"batch_size": 2}


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {
        "weights/000": rng.random((3, 4), np.float32),
        "seed": np.array([seed, 7], np.int64),
        "count": np.array(seed),
    }


def save(folder, step):
    rows = [{"epoch": 1, "mae": 1 / 3}]
    progress = Progress(epoch=1, step=step, sums={"mae": 1e-308}, rows=rows, best=math.inf, copy_mae=math.nan)
    return checkpoints.save(folder, step, arrays(step).items(), FLAGS, progress)


def test_what_was_saved_comes_back_to_the_bit(tmp_path):
    path = save(tmp_path, 12)
    state = checkpoints.load(tmp_path)
    assert (state.path, state.flags) == (path, FLAGS)
    assert (state.progress.step, state.progress.rows, state.progress.sums) == (
        12, [{"epoch": 1, "mae": 1 / 3}], {"mae": 1e-308},
    )  # fmt: skip
    assert state.progress.best == math.inf
    assert math.isnan(state.progress.copy_mae)
    read = dict(state.arrays())
    for name, array in arrays(12).items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_the_last_two_are_kept_and_other_files_left_alone(tmp_path):
    assert checkpoints.load(tmp_path) is None
    copy = tmp_path / checkpoints.FOLDER / "state-000000009 (1).bin"
    shutil.copy(save(tmp_path, 9), copy)
    for step in (10, 100, 1000):
        save(tmp_path, step)
    assert [path.stem for path in checkpoints.states(tmp_path)] == ["state-000000100", "state-000001000"]
    assert copy.exists()


def test_a_damaged_byte_is_found_wherever_it_is(tmp_path, capsys):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    content = newest.read_bytes()
    damaged = [content[:n] for n in (0, 1, 50, len(content) - 1)]
    for place in range(len(content)):
        damaged.append(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    for version in damaged:
        newest.write_bytes(version)
        assert checkpoints.load(tmp_path).path == older
        assert str(newest) in capsys.readouterr().out
    older.unlink()
    with pytest.raises(InputError):
        checkpoints.load(tmp_path)
    save(tmp_path, 15)  # goes on from there
    assert [path.stem for path in checkpoints.states(tmp_path)] == ["state-000000015"]


def test_a_second_process_is_refused_and_what_a_killed_one_left_is_cleared(tmp_path):
    holder = (
        "import pathlib, sys; from training import checkpoints\n"
        "with checkpoints.locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError), checkpoints.locked(tmp_path):
            pytest.fail("two runs have locked the folder")
        process.kill()
    with replacing(tmp_path / "checkpoints" / "a.bin") as beside:
        beside.write_bytes(b"half")
        left = shutil.copy(beside, beside.with_name(f"{beside.name}.2"))
    with checkpoints.locked(tmp_path):
        assert not os.path.exists(left)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(("name", "is_folder"), [("checkpoints", True), ("samples/001", True), (".lock", False)])
def test_nothing_is_written_through_a_link_in_a_models_folder(tmp_path, name, is_folder):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "m"
    elsewhere.mkdir() if is_folder else elsewhere.write_text("kept")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError), checkpoints.locked(folder):
        pytest.fail("the folder was locked")
    assert is_folder or elsewhere.read_text() == "kept"


def test_set_aside_takes_the_first_free_name_and_keeps_the_suggested_rates(tmp_path):
    folder = tmp_path / "m"
    for number in (1, 2):
        save(folder, 1)
        (folder / "lr_finder.json").touch()
        assert checkpoints.set_aside(folder) == tmp_path / f"m.old{number}"
        assert [path.name for path in folder.iterdir()] == ["lr_finder.json"]
    assert checkpoints.set_aside(folder) is None
