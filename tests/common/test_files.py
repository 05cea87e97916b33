"""Files and folders: what is found, what they are called, and files that are written whole or not at all."""

import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from common import InputError
from common.files import (
    concerning_one_file,
    find_files,
    open_regular,
    piece_names,
    read_array,
    read_json,
    remove_leftovers,
    replacing,
    temporary_folder,
    without_converted,
    writable_folder,
    write_array,
    write_json,
)


def test_files_are_found_below_and_hidden_ones_are_not(tmp_path):
    names = ["b.wav", "a.WAV", "deep/er/c.m4a", "f.txt", ".g.wav", ".hidden/h.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, (".wav", ".m4a")) == sorted(tmp_path / name for name in names[:3])


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "big/inner").mkdir(parents=True)
    (tmp_path / "big/inner/a.wav").touch()
    (tmp_path / "audios").mkdir()
    for link, target in (("audios/piano", "big"), ("audios/guitar", "big"), ("big/back", "audios"), ("big/up", "big")):
        (tmp_path / link).symlink_to(tmp_path / target)
    found = find_files(tmp_path / "audios", (".wav",))
    assert found == [tmp_path / "audios" / name / "inner/a.wav" for name in ("guitar", "piano")]


def test_a_piece_is_named_by_its_path_and_only_one_file_has_a_name(tmp_path):
    paths = [tmp_path / name for name in ("a/b.wav", "a_B.flac", "c.wav")]
    names, left_out = piece_names(paths, tmp_path)
    assert names == {"a_b": paths[0], "c": paths[2]}
    assert [path for path, _ in left_out] == [str(paths[1])]


def test_outputs_of_predict_are_told_from_recordings():
    paths = [pathlib.Path(name) for name in ("a/take.mp3", "b/take.guitar.wav", "No. 1.wav", "solo.harp.wav")]
    assert without_converted(paths) == [paths[0], *paths[2:]]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as beside:
        beside.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"

    with contextlib.suppress(RuntimeError), replacing(path) as beside:
        beside.write_text("second")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_json_and_arrays_come_back(tmp_path):
    write_json(tmp_path / "a.json", {"name": "é", "values": [1, 2.5]})
    assert read_json(tmp_path / "a.json") == {"name": "é", "values": [1, 2.5]}
    for content in ("[1, 2]", '{"a": ' * 200_000, "9" * 5000, " " * (2**24 + 1)):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError):
            read_json(tmp_path / "a.json")
    for dtype, shape in ((np.float16, (256, 256, 1)), (np.float64, (1, 2, 3, 4)), ("<f4", (0, 5))):
        array = np.random.default_rng(0).normal(size=shape).astype(dtype)
        write_array(tmp_path / "a.npy", array)
        for found in (np.load(tmp_path / "a.npy"), read_array(tmp_path / "a.npy")):
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, array)


def npy(n_bytes, shape="(2, 3)", descr="'<f4'", order="False", extra=""):
    """A .npy file with `n_bytes` of samples."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}{extra}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(n_bytes)


@pytest.mark.parametrize("content", [
    b"", b"\x93NUMPY", npy(0)[:-1], npy(23), npy(25), npy(0, "(1000000000000,)"), npy(24, "(-2, -3)"),
    npy(24, descr="'|O'"), npy(24, descr="'>f4'"), npy(24, order="True"), npy(24, descr="__import__('os').abort()"),
])  # fmt: skip
def test_what_is_no_array_of_floats_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError):
        read_array(tmp_path / "a.npy")


def test_a_folder_to_write_in_is_asked_for_before_the_work(tmp_path):
    assert writable_folder(tmp_path / "new" / "deep", "--output") == tmp_path / "new" / "deep"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    for taken in ("file", "file/below"):
        with pytest.raises(InputError):
            writable_folder(tmp_path / taken, "--output")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_only_regular_files_are_opened_and_links_to_them(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "endless", tmp_path / "none"):
        with pytest.raises(InputError), open_regular(path, "weights"):
            pass


def test_what_concerns_one_file_is_an_input_error_and_a_full_disk_is_not():
    for number, expected in ((errno.ENOENT, InputError), (errno.ENOSPC, OSError)):
        with pytest.raises(expected), concerning_one_file("a"):
            raise OSError(number, os.strerror(number))


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be looked for there")
def test_what_processes_left_that_are_gone_is_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with replacing(tmp_path / "a.wav") as own, temporary_folder(tmp_path) as folder:
        own.touch()
        (folder / "note.wav").touch()
        kept = [".b.part", f".{gone.pid}-zzzz-012345.part", "d.wav"]
        for name in kept:
            (tmp_path / name).mkdir()
        kept += [own.parent.name, folder.name]
        shutil.copytree(own.parent, str(own.parent).replace(str(os.getpid()), str(gone.pid)))
        remove_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted(kept)
    assert not folder.exists()
