"""Weights files: the published layout written independently with h5py, and every way in which a file can be wrong."""

import os

import h5py
import numpy as np
import pytest
from made_weights import arrays_of, fill, published_table, write_published

from common import InputError, weights
from data import PUBLISHED, Representation

KERNEL = "sequential_3/conv2d_3/kernel:0"


def refused(path):
    """Both readers refuse the file in one line that names it."""
    for read in (weights.describe, weights.read):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(path) in str(error.value)
    return True


@pytest.fixture
def published(tmp_path):
    write_published(tmp_path / "g.h5", published_table(1, 2))
    return tmp_path / "g.h5"


def change(path, work):
    with h5py.File(path, "a") as file:
        work(file)
    return path


def test_published_file_is_read_in_its_order(tmp_path):
    """The numbers in the names vary with what was built before in the process that wrote the file."""
    table = [
        (f"{group}_{40 + i}", [(f"later_{i}_{j}:0", shape) for j, (_, shape) in enumerate(members)])
        for i, (group, members) in enumerate(published_table(2, 4))
    ]
    expected = write_published(tmp_path / "g.h5", table)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(tmp_path / "g.h5"), expected, strict=True))
    description = weights.describe(tmp_path / "g.h5")
    assert (description.network, description.in_channels, description.base_filters) == ("unet", 2, 4)
    assert description.settings == {}
    assert description.representation == PUBLISHED
    assert "published" in description.summary


@pytest.mark.parametrize("float16", [False, True])
def test_what_is_written_is_read_again(tmp_path, float16):
    rng = np.random.default_rng(0)
    layers = fill(published_table(2, 2), lambda _, shape: rng.normal(0, 1, shape).astype(np.float32))
    other = Representation(sample_rate=22050, n_fft=2048)
    settings = {
        "system": "pix2pix", "network": "unet", "representation": other.to_dict(), "origin": "keyboard_acoustic",
        "targets": ["guitar_acoustic", "string_acoustic"], "epoch": 7, "validation_mae": 0.0625, "exported": True,
    }  # fmt: skip
    weights.write(tmp_path / "g.h5", layers, settings, float16)
    description = weights.describe(tmp_path / "g.h5")
    assert description.settings == settings
    assert description.representation == other
    for part in ("keyboard_acoustic to guitar_acoustic, string_acoustic", "2 base filters", "epoch 7", "0.0625"):
        assert part in description.summary
    expected = [array for arrays in layers.values() for array in arrays.values()]
    for found, array in zip(arrays_of(tmp_path / "g.h5"), expected, strict=True):
        np.testing.assert_array_equal(found, array.astype(np.float16) if float16 and array.ndim > 1 else array)


def test_cut_files_and_what_is_no_weights_file_are_refused(tmp_path, published):
    content, path = published.read_bytes(), tmp_path / "x.h5"
    for share in (0, 0.01, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        assert refused(path)
    path.write_text("RIFF this is no HDF5")
    assert refused(path)
    for table in ([("dense", [("dense/kernel:0", (5, 6))])], published_table(1, 2)[:-3]):
        write_published(path, table)
        with pytest.raises(InputError):
            weights.describe(path)
    assert refused(tmp_path)
    assert refused(tmp_path / "missing.h5")


SHAPE = (4, 4, 8, 16)


def virtual(file, path):
    layout = h5py.VirtualLayout(SHAPE, np.float32, maxshape=(None, *SHAPE[1:]))
    layout[:] = h5py.VirtualSource(str(path), "data", SHAPE, maxshape=(None, *SHAPE[1:]))
    file.create_virtual_dataset(KERNEL, layout)


def stored(shape=SHAPE, **options):
    """Make the array anew with the given options of `h5py.Group.create_dataset`."""
    return lambda file, _: file.create_dataset(KERNEL, shape, **options)


ZEROS = np.zeros(SHAPE, np.float32)
REPLACEMENTS = {  # of an array, each a function of the open file and of another file
    "external link": lambda file, path: file.__setitem__(KERNEL, h5py.ExternalLink(path, "/data")),
    "soft link": lambda file, _: file.__setitem__(KERNEL, h5py.SoftLink("/sequential_4/conv2d_4/kernel:0")),
    "external storage": lambda file, path: file.create_dataset(
        KERNEL, SHAPE, np.float32, external=[(str(path), 0, ZEROS.nbytes)]
    ),
    "virtual": virtual,
    "group": lambda file, _: file.create_group(KERNEL),
    "nothing": lambda file, _: None,
    "text": stored(dtype=h5py.string_dtype()),
    "double": stored(dtype=np.float64),
    "never written": stored(dtype=np.float32),
    "checksums": stored(data=ZEROS, fletcher32=True),
    "gzip": stored(data=ZEROS, compression="gzip"),
    "huge chunks": stored((2**20, 2**10, 8, 16), dtype=np.float32, chunks=(2**9, 2**9, 8, 16)),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_only_contiguous_uncompressed_floats_that_are_in_the_file_are_read(published, kind):
    """The other file is a pipe, which would block whoever opens it; so it is refused as a weights file, too."""
    pipe = published.with_name("pipe.h5")
    os.mkfifo(pipe)

    def replace(file):
        del file[KERNEL]
        REPLACEMENTS[kind](file, pipe)

    assert refused(change(published, replace))
    assert refused(pipe)


def test_arrays_that_share_their_bytes_and_much_that_is_no_array_are_refused(published):
    """One array under many names would be read as often; a text is in memory once for every value that points to it."""

    def share(file):
        names = [f"a{i}" for i in range(100)]
        file["sequential_3"].attrs["weight_names"] = np.array(names, "S")
        for name in names:
            file[f"sequential_3/{name}"] = file[KERNEL]

    assert refused(change(published, share))
    write_published(published, published_table(1, 2))
    assert refused(change(published, lambda file: file.create_group("x").attrs.__setitem__("text", "x" * 2**21)))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("targets", "3"), ("targets", "[3]"), ("targets", '["a\\nb"]'), ("origin", 2.5), ("origin", "\x1b[31mred"),
        ("representation", "[" * 100_000), ("in_channels", "[1]"), ("epoch", -1), ("seed", 2**32),
        ("validation_split", float("inf")), ("validation_mae", "low"), ("identity", "yes"), ("origins", "piano"),
        ("system", "s" * 300), ("epoch", np.arange(8)), ("origin", np.array(["a", "b"], "S")),
        ("representation", '{"kind": "mel"}'),
    ],
)  # fmt: skip
def test_entries_that_nothing_can_be_done_with_are_named(published, entry, value):
    change(published, lambda file: file.attrs.__setitem__(entry, value))
    with pytest.raises(InputError) as error:
        _ = weights.describe(published).representation
    assert str(published) in str(error.value)
