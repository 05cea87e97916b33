"""States on disk: whole or not at all, two kept, damage found, one process a folder."""

import math
import os
import shutil
import subprocess
import sys
import types
import zipfile
from functools import partial

import numpy as np
import pytest
from conftest import ROOT

from common import InputError
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
    progress = Progress(epoch=1, step=step, sums={"mae": 1e-308}, rows=rows, best=math.inf)
    checkpoints.save(folder, step, arrays(step).items(), FLAGS, progress)
    return folder / checkpoints.FOLDER / f"state-{step:09d}.zip"


def resumed_step(folder):
    """The step of the state that a run goes on from, all of which has to be as it was saved: to the bit."""
    found = {}
    variables = {
        name: types.SimpleNamespace(shape=like.shape, dtype=like.dtype.name, assign=partial(found.__setitem__, name))
        for name, like in arrays(0).items()
    }
    progress = checkpoints.resume(folder, variables, FLAGS)
    for name, array in arrays(progress.step).items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert (progress.rows, progress.sums, progress.best) == ([{"epoch": 1, "mae": 1 / 3}], {"mae": 1e-308}, math.inf)
    return progress.step


def test_the_last_two_are_kept_and_other_files_left_alone(tmp_path):
    assert checkpoints.resume(tmp_path, {}, FLAGS) is None
    copy = tmp_path / checkpoints.FOLDER / "state-000000009 (1).zip"
    shutil.copy(save(tmp_path, 9), copy)
    for step in (10, 100, 1000):
        save(tmp_path, step)
    assert [path.stem for path in checkpoints.states(tmp_path)] == ["state-000000100", "state-000001000"]
    assert copy.exists()


def test_a_damaged_byte_is_found_wherever_it_is_or_changes_nothing(tmp_path):
    """Some bytes of a zip file, such as its dates, mean nothing here."""
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    assert resumed_step(tmp_path) == 20
    content, n_found = newest.read_bytes(), 0
    damaged = [content[:n] for n in (0, 1, 50, len(content) - 1)]
    for place in range(len(content)):
        damaged.append(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    for version in damaged:
        newest.write_bytes(version)
        n_found += resumed_step(tmp_path) == 10
    assert n_found > 0.7 * len(damaged)
    newest.write_bytes(b"")
    older.unlink()
    with pytest.raises(InputError):
        checkpoints.resume(tmp_path, {}, FLAGS)
    save(tmp_path, 15)  # goes on from there
    assert [path.stem for path in checkpoints.states(tmp_path)] == ["state-000000015"]


def test_a_state_of_too_many_members_is_not_read_and_one_of_an_earlier_version_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_MEMBERS", 3)  # a state of `arrays` has four
    path = save(tmp_path, 10)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the directory was read"))
    with pytest.raises(InputError):
        checkpoints.resume(tmp_path, {}, FLAGS)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(InputError):
        checkpoints.resume(tmp_path, {}, FLAGS)


def test_a_second_process_is_refused_and_what_a_killed_one_left_is_cleared(tmp_path):
    holder = (
        "import pathlib, sys; from training import checkpoints\n"
        "with checkpoints.claim(pathlib.Path(sys.argv[1]), {}): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError), checkpoints.claim(tmp_path, {}):
            pytest.fail("two runs have locked the folder")
        process.kill()
    with replacing(tmp_path / "checkpoints" / "a.zip") as beside:
        beside.write_bytes(b"half")
        left = shutil.copytree(beside.parent, beside.parent.with_name(".1-abcd-2.part"))
    download = tmp_path / ".generator.h5.part"
    download.touch()
    with checkpoints.claim(tmp_path, {}):
        assert not os.path.exists(left)
        assert download.exists()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(("name", "is_folder"), [("checkpoints", True), ("samples/001", True), (".lock", False)])
def test_nothing_is_written_through_a_link_in_a_models_folder(tmp_path, name, is_folder):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "m"
    elsewhere.mkdir() if is_folder else elsewhere.write_text("kept")
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError), checkpoints.claim(folder, {}):
        pytest.fail("the folder was locked")
    assert is_folder or elsewhere.read_text() == "kept"


def test_set_aside_takes_the_first_free_name_and_keeps_the_suggested_rates(tmp_path):
    folder = tmp_path / "m"
    for number in (1, 2):
        save(folder, 1)
        (folder / "lr_finder.json").touch()
        checkpoints.set_aside(folder)
        assert (tmp_path / f"m.old{number}" / checkpoints.FOLDER).exists()
        assert [path.name for path in folder.iterdir()] == ["lr_finder.json"]
    checkpoints.set_aside(folder)
    assert not (tmp_path / "m.old3").exists()
