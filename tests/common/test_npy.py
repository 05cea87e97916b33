"""Feature files without NumPy's parser: the same arrays as ``np.load``, and nothing else is taken for one."""

import os

import numpy as np
import pytest

from common import npy


def header(shape=b"(2, 3)", descr=b"'<f4'", order=b"False", extra=b""):
    text = b"{'descr': " + descr + b", 'fortran_order': " + order + b", 'shape': " + shape + b", }" + extra + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("read", [npy.read_array, npy.map_array])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(256, 256, 1), (2, 3), (0, 5, 7), (1, 2, 3, 4)])
def test_arrays_are_those_of_numpy(tmp_path, read, dtype, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read(tmp_path / "a.npy")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.load(tmp_path / "a.npy"))


@pytest.mark.parametrize("content", [
    b"", b"\x93NUMPY", b"nothing of the kind", header()[:-1],
    header() + bytes(23), header() + bytes(25),  # 24 bytes of samples are expected
    header(shape=b"(1000000000000,)"), header(shape=b"(999999999, 999999999)"), header(shape=b"(True, True)"),
    header(shape=b"(-2, -3)") + bytes(24), header(descr=b"'|O'") + bytes(24), header(descr=b"'>f4'") + bytes(24),
    header(descr=b"'<i4'") + bytes(24), header(order=b"True") + bytes(24), header(extra=b"()") + bytes(24),
    header(descr=b"__import__('os').abort()") + bytes(24),
])  # fmt: skip
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    for read in (npy.read_array, npy.map_array):
        with pytest.raises(ValueError, match="expected"):
            read(tmp_path / "a.npy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_devices_and_gaps_are_refused(tmp_path):
    """A file may have a gap of any length that takes no space on the disk."""
    os.mkfifo(tmp_path / "a.npy")
    (tmp_path / "b.npy").symlink_to("/dev/zero")
    start = header(shape=b"(1000000, 1000)")
    (tmp_path / "c.npy").write_bytes(start)
    os.truncate(tmp_path / "c.npy", len(start) + 4 * 10**9)
    for name in ("a.npy", "b.npy", "c.npy"):
        with pytest.raises(ValueError, match="expected"):
            npy.read_array(tmp_path / name)
