"""States on disk: whole or not at all, two kept, damage found, one process a folder."""

import contextlib
import errno
import io
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from common.errors import InputError
from common.files import replacing
from training import checkpoints

ROOT = pathlib.Path(__file__).parents[2]
RUN = {"identity": {"batch_size": 2}, "progress": {"epoch": 1, "best": 0.1}}


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {
        "weights/000": rng.random((3, 4), np.float32),
        "seed": np.array([seed, 7], np.int64),
        "count": np.array(seed),
    }


def save(folder, step, seed=None):
    return checkpoints.save(folder, step, arrays(step if seed is None else seed).items(), {**RUN, "step": step})


def damage(path, place=None):
    """Another byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    place = len(content) // 3 if place is None else place
    content[place] ^= 0xFF
    path.write_bytes(content)


def test_what_was_saved_comes_back(tmp_path):
    path = save(tmp_path, 12)
    state = checkpoints.load(tmp_path)
    assert (state.path, state.damaged) == (path, [])
    assert state.run["progress"] == RUN["progress"]
    assert state.run["step"] == 12
    read = dict(checkpoints.arrays(path))
    for name, array in arrays(12).items():
        assert np.array_equal(read[name], array)
        assert read[name].dtype == array.dtype
    assert dict(checkpoints.shapes(path)) == {"weights/000": (3, 4), "seed": (2,), "count": ()}
    assert list(np.load(path)["weights/000"][0]) == list(arrays(12)["weights/000"][0])  # any NumPy reads it


def test_floats_come_back_to_the_bit(tmp_path):
    values = [*np.random.default_rng(0).random(100).tolist(), float("nan"), float("inf"), 1e-308]
    checkpoints.save(tmp_path, 1, [], {"values": values})
    np.testing.assert_array_equal(checkpoints.load(tmp_path).run["values"], values)


def test_nothing_there(tmp_path):
    assert checkpoints.load(tmp_path) is None
    assert checkpoints.load(tmp_path / "missing") is None


def test_the_last_two_are_kept(tmp_path):
    for step in (9, 10, 100, 1000):
        save(tmp_path, step)
    assert [path.name for path in checkpoints.states(tmp_path)] == ["state-000000100.npz", "state-000001000.npz"]


@pytest.mark.parametrize("cut", [0, 1, 50, -1, "flipped"])
def test_damaged_newest_falls_back_and_says_so(tmp_path, cut):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    if cut == "flipped":
        damage(newest)
    else:
        newest.write_bytes(newest.read_bytes()[:cut])
    state = checkpoints.load(tmp_path)
    assert (state.path, state.run["step"]) == (older, 10)
    [line] = state.damaged
    assert str(newest) in line
    save(tmp_path, 15)  # going on from there
    assert [path.name for path in checkpoints.states(tmp_path)] == ["state-000000010.npz", "state-000000015.npz"]


def test_a_damaged_byte_is_found_wherever_it_is(tmp_path):
    path = save(tmp_path, 10)
    content, undamaged = path.read_bytes(), arrays(10)
    for place in range(0, len(content), 4):
        path.write_bytes(content)
        damage(path, place)
        try:
            run = checkpoints.load(tmp_path).run
        except InputError:
            continue
        # The byte is one of those that mean nothing, such as a file's date.
        assert run["step"] == 10
        read = dict(checkpoints.arrays(path))
        assert all(np.array_equal(read[name], undamaged[name]) for name in undamaged)


def test_all_damaged_is_one_line(tmp_path):
    for step in (10, 20):
        damage(save(tmp_path, step))
    with pytest.raises(InputError, match=r"expected an undamaged training state, found none.*--fresh"):
        checkpoints.load(tmp_path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / checkpoints.FOLDER / "state-000000001.npz"
    path.parent.mkdir()
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="expected an undamaged training state"):
        checkpoints.load(tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run.json", '{"format": 99}')
    with pytest.raises(InputError, match=r"state-000000001\.npz: expected a training state of format 1, found 99"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize(
    "name", ["state-000000002 (1).npz", "state-final.npz", "state-000000002 copy.npz", "state-2.npz"]
)
def test_copies_beside_states_are_left_alone(tmp_path, name):
    copy = tmp_path / checkpoints.FOLDER / name
    shutil.copy(save(tmp_path, 2), copy)
    for step in (3, 4, 5):
        save(tmp_path, step)
    assert [path.name for path in checkpoints.states(tmp_path)] == ["state-000000004.npz", "state-000000005.npz"]
    assert copy.exists()
    assert checkpoints.load(tmp_path).run["step"] == 5


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def npy(shape="(2,)", descr="<f4", n_bytes=8):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(n_bytes)


GOOD = ("run.json", b'{"format": 1, "step": 20}')


@pytest.mark.parametrize(
    "members",
    [
        [("run.json", b" " * (2**24 + 1))],
        [("run.json", b"[" * 200_000)],
        [("run.json", b'{"step": 3}')],
        [("run.json", b'{"format": "1"}')],
        [("run.json", b"[1]")],
        [("run.json", b"\xff{}")],
        [GOOD, ("a.npy", npy("(1000000000000,)"))],
        [GOOD, ("a.npy", npy("(True, True, True)", n_bytes=4))],
        [GOOD, ("a.npy", npy("(-2,)"))],
        [GOOD, ("a.npy", npy("(3,)"))],
        [GOOD, ("a.npy", npy("(1,)", "|O"))],
        [GOOD, ("a.npy", npy("(1,)", "|V8"))],
        [GOOD, ("a.npy", npy("(" * 3000))],
        [GOOD, ("a.npy", b"no array")],
    ],
)
def test_a_whole_zip_with_wrong_content_is_damaged(tmp_path, members):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    write_zip(newest, members)
    state = checkpoints.load(tmp_path)
    assert (state.path, len(state.damaged)) == (older, 1)


def test_a_state_does_not_hold_more_than_its_size(tmp_path):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)
    write_zip(newest, [("run.json", b'{"format": 1, "step": 20' + b" " * 2**20 + b"}")], zipfile.ZIP_DEFLATED)
    assert checkpoints.load(tmp_path).path == older
    write_zip(newest, [GOOD, ("a.npy", npy(n_bytes=0)), ("b.npy", npy(n_bytes=0))])
    content = newest.read_bytes()  # both entries of the directory for the same array
    newest.write_bytes(content[:-200] + content[-200:].replace(b"b.npy", b"a.npy"))
    assert checkpoints.load(tmp_path).path == older


def test_a_state_that_its_run_does_not_accept_is_damaged(tmp_path):
    older, newest = save(tmp_path, 10), save(tmp_path, 20)

    def check(run):
        if run["step"] == 20:
            raise ValueError("another step")

    state = checkpoints.load(tmp_path, check)
    assert state.path == older
    assert str(newest) in state.damaged[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_state_that_is_no_regular_file_is_damaged(tmp_path):
    older = save(tmp_path, 10)
    os.mkfifo(older.with_name("state-000000020.npz"))
    older.with_name("state-000000030.npz").symlink_to("/dev/zero")
    older.with_name("state-000000040.npz").mkdir()
    state = checkpoints.load(tmp_path)
    assert (state.path, len(state.damaged)) == (older, 3)


def test_full_disk_leaves_the_older_state(tmp_path, monkeypatch):
    kept = save(tmp_path, 10)
    content, written = kept.read_bytes(), zipfile.ZipFile.open

    class Full(io.RawIOBase):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

        def writable(self):
            return True

    def opened(archive, name, mode="r", **options):
        return Full() if mode == "w" and "count" in name else written(archive, name, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", opened)
        with pytest.raises(OSError, match="No space left on device") as caught:
            save(tmp_path, 20)
    assert "state-000000020.npz" in caught.value.filename
    assert [path.name for path in (tmp_path / checkpoints.FOLDER).iterdir()] == [kept.name]
    assert kept.read_bytes() == content
    assert save(tmp_path, 20).exists()


HOLD = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from training import checkpoints
with checkpoints.locked(pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_is_refused_with_the_pid_of_the_first(tmp_path):
    command = [sys.executable, "-c", HOLD, str(ROOT), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"pid {holder.pid}\b"), checkpoints.locked(tmp_path):
            pass
        holder.kill()  # the lock goes with the process, however it ends
        holder.wait()
        with checkpoints.locked(tmp_path):
            pass


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    def killed():
        with replacing(tmp_path / checkpoints.FOLDER / "state-000000001.npz") as beside:
            beside.write_bytes(b"half of it")
            shutil.copy(beside, tmp_path / "kept")  # as it stands when the process dies
            name.append(beside.name)

    name = []
    killed()
    (tmp_path / "kept").rename(tmp_path / checkpoints.FOLDER / name[0])
    with checkpoints.locked(tmp_path):
        assert [path.name for path in (tmp_path / checkpoints.FOLDER).iterdir()] == ["state-000000001.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", [".pid", ".lock", "checkpoints", "1_global/samples"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_nothing_is_written_through_a_link_in_a_models_folder(tmp_path, name, is_folder):
    victim = tmp_path / "victim"
    victim.mkdir() if is_folder else victim.write_text("mine")
    link = tmp_path / "models/a_2_b" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    try:
        with checkpoints.locked(tmp_path / "models/a_2_b"):
            assert not is_folder
            assert name != ".lock"
    except (InputError, OSError):
        assert is_folder or name == ".lock"
    assert list(victim.iterdir()) == [] if is_folder else victim.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_as_lock_or_owner_blocks_nothing(tmp_path):
    for name in (".lock", ".pid"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / name)
        with contextlib.suppress(InputError), checkpoints.locked(tmp_path / name):
            assert name == ".pid"


def test_set_aside_takes_the_first_free_name_and_keeps_the_lock(tmp_path):
    folder = tmp_path / "a_2_b"
    assert checkpoints.set_aside(folder) is None
    for number in (1, 2):
        with checkpoints.locked(folder):
            assert checkpoints.set_aside(folder) is None  # nothing but the lock
            before = (folder / ".lock").stat().st_ino
            save(folder, number)
            (folder / "lr_finder.json").write_text("{}")
            aside = checkpoints.set_aside(folder)
            assert aside == tmp_path / f"a_2_b.old{number}"
            assert [path.name for path in aside.iterdir()] == [checkpoints.FOLDER]
            assert checkpoints.load(aside).run["step"] == number
            assert sorted(path.name for path in folder.iterdir()) == [".lock", ".pid", "lr_finder.json"]
            assert (folder / ".lock").stat().st_ino == before
