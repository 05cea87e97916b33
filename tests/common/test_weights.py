"""Weights files: the published layout written independently with h5py, and every way in which a file can be wrong."""

import os
import re

import h5py
import numpy as np
import pytest
from made_weights import published_table, write_published

from common import weights
from common.errors import InputError
from data import PUBLISHED, Representation


@pytest.mark.parametrize("in_channels", [1, 2])
def test_layout_is_the_published_one(in_channels):
    assert weights.unet_layout(in_channels, 64) == published_table(in_channels, 64)


def test_layout_of_the_discriminator():
    layout = weights.patchgan_layout(64)
    shapes = [shape for _, arrays in layout for _, shape in arrays]
    kernels = [shape for shape in shapes if len(shape) == 4]
    assert kernels == [(4, 4, 2, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512), (4, 4, 512, 1)]
    kinds = [name.rstrip("_0123456789") for name, _ in layout]
    assert kinds == ["input", "input", "concatenate", *["sequential"] * 4, "conv2d"]
    assert sum(int(np.prod(shape)) for shape in shapes) == 2_766_337
    assert [len(arrays) for _, arrays in layout] == [0, 0, 0, 1, 5, 5, 5, 2]


def test_published_file_is_read_in_its_order(tmp_path):
    expected = write_published(tmp_path / "g.h5", published_table(2, 4))
    found = [array for _, arrays in weights.read(tmp_path / "g.h5") for array in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    description = weights.describe(tmp_path / "g.h5")
    assert (description.network, description.in_channels, description.base_filters) == ("unet", 2, 4)
    assert description.settings == {}
    assert description.representation == PUBLISHED
    assert "published" in description.summary


def test_names_may_be_numbered_otherwise(tmp_path):
    """The numbers in the names vary with what was built before in the process that wrote the file."""
    table = [
        (f"{group}_{40 + i}", [(f"later_{i}_{j}:0", shape) for j, (_, shape) in enumerate(members)])
        for i, (group, members) in enumerate(published_table(1, 2))
    ]
    write_published(tmp_path / "g.h5", table)
    assert weights.describe(tmp_path / "g.h5").base_filters == 2


def test_file_of_a_whole_model(tmp_path):
    """Keras 2's ``model.save`` puts the same below ``model_weights``."""
    write_published(tmp_path / "g.h5", published_table(1, 2))
    with h5py.File(tmp_path / "g.h5") as source, h5py.File(tmp_path / "model.h5", "w") as file:
        source.copy(source["/"], file, "model_weights")
        file["model_weights"].attrs.update(source.attrs)
    assert weights.describe(tmp_path / "model.h5").network == "unet"


def test_description_round_trip(tmp_path):
    groups = [
        (name, [(weight, np.zeros(shape)) for weight, shape in arrays]) for name, arrays in weights.unet_layout(2, 2)
    ]
    other = Representation(sample_rate=22050, n_fft=2048)
    settings = {
        "system": "pix2pix", "network": "unet", "representation": other.to_dict(), "origin": "keyboard_acoustic",
        "targets": ["guitar_acoustic", "string_acoustic"], "epoch": 7, "validation_mae": 0.0625,
    }  # fmt: skip
    weights.write(tmp_path / "g.h5", groups, settings)
    description = weights.describe(tmp_path / "g.h5")
    assert description.settings == settings
    assert description.representation == other
    assert description.system == "pix2pix"
    for part in ("keyboard_acoustic to guitar_acoustic, string_acoustic", "2 base filters", "epoch 7", "0.0625"):
        assert part in description.summary


def refused(path):
    with pytest.raises(InputError) as caught:
        weights.describe(path)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_missing_file_and_folder(tmp_path):
    assert "nothing" in refused(tmp_path / "none.h5")
    assert "folder" in refused(tmp_path)


def test_not_hdf5(tmp_path):
    (tmp_path / "g.h5").write_text("RIFF this is no HDF5")
    assert "another kind of file" in refused(tmp_path / "g.h5")
    (tmp_path / "empty.h5").touch()
    assert "another kind of file" in refused(tmp_path / "empty.h5")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated(tmp_path, share):
    write_published(tmp_path / "g.h5", published_table(1, 2))
    content = (tmp_path / "g.h5").read_bytes()
    (tmp_path / "g.h5").write_bytes(content[: int(share * len(content))])
    assert "damaged" in refused(tmp_path / "g.h5")


def test_damaged_names_and_headers(tmp_path):
    """Whatever byte is wrong, the file is either read or refused, never a traceback of h5py's."""
    path = tmp_path / "g.h5"
    write_published(path, published_table(1, 1))
    content, rng, n_refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 8):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            weights.read(path)
        except InputError:
            n_refused += 1
    assert n_refused > 0


def test_damaged_numbers(tmp_path):
    path, rng = tmp_path / "g.h5", np.random.default_rng(0)
    groups = [
        (name, [(weight, rng.normal(0, 1, shape)) for weight, shape in arrays])
        for name, arrays in weights.unet_layout(1, 2)
    ]
    arrays = [array.astype(np.float32) for _, members in groups for _, array in members]
    weights.write(path, [*groups, ("rest", [("none", np.zeros((2, 0))), ("number", np.float32(3))])], {})
    found = [array for _, members in weights.read(path) for array in members]
    assert all(np.array_equal(a, b) for a, b in zip(found, [*arrays, np.zeros((2, 0)), 3], strict=True))
    content = path.read_bytes()
    for array in arrays:
        place = content.index(array.tobytes()) + array.nbytes // 2
        path.write_bytes(content[:place] + b"\1\2" + content[place + 2 :])
        with pytest.raises(InputError, match=r"g\.h5: .* truncated or damaged"):
            weights.read(path)


def test_hdf5_of_another_program(tmp_path):
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["dataset"] = np.zeros(3)
    assert "layer_names" in refused(tmp_path / "g.h5")


def test_group_that_is_missing(tmp_path):
    write_published(tmp_path / "g.h5", published_table(1, 2))
    with h5py.File(tmp_path / "g.h5", "a") as file:
        del file["sequential_3"]
    assert "damaged" in refused(tmp_path / "g.h5")


def test_other_architectures(tmp_path):
    dense = [("dense", [("dense/kernel:0", (5, 6)), ("dense/bias:0", (6,))])]
    write_published(tmp_path / "dense.h5", dense)
    assert "(5, 6)" in refused(tmp_path / "dense.h5")
    write_published(tmp_path / "shallow.h5", published_table(1, 2)[:-3])
    assert "another architecture" in refused(tmp_path / "shallow.h5")
    wider = published_table(1, 2)
    wider[5] = (wider[5][0], [(name, (*shape[:-1], shape[-1] + 1)) for name, shape in wider[5][1]])
    write_published(tmp_path / "wider.h5", wider)
    assert "another architecture" in refused(tmp_path / "wider.h5")
    assert wider[5][1][0][0] in refused(tmp_path / "wider.h5")
    write_published(tmp_path / "none.h5", [("input_1", [])])
    assert "no arrays" in refused(tmp_path / "none.h5")


def test_damaged_representation_is_named(tmp_path):
    groups = [
        (name, [(weight, np.zeros(shape)) for weight, shape in arrays]) for name, arrays in weights.unet_layout(1, 1)
    ]
    weights.write(tmp_path / "g.h5", groups, {"network": "unet", "representation": {"kind": "mel"}})
    with pytest.raises(InputError, match=r"g\.h5.*mel"):
        _ = weights.describe(tmp_path / "g.h5").representation


# --- files that are not trusted ---------------------------------------------------------------------------------------


def change(path, work):
    with h5py.File(path, "a") as file:
        work(file)


KERNEL = "sequential_3/conv2d_3/kernel:0"


def external_link(file, path):
    file["sequential_3"] = h5py.ExternalLink(path, "/sequential_3")


def external_storage(file, path):
    file.create_dataset(KERNEL, (4, 4, 8, 16), np.float32, external=[(str(path), 0, 4 * 4 * 8 * 16 * 4)])


def virtual(file, path):
    layout = h5py.VirtualLayout((4, 4, 8, 16), np.float32)
    layout[:] = h5py.VirtualSource(str(path), "data", (4, 4, 8, 16))
    file.create_virtual_dataset(KERNEL, layout)


def unlimited_virtual(file, path):
    layout = h5py.VirtualLayout((4, 4, 8, 16), np.float32, maxshape=(None, 4, 8, 16))
    source = h5py.VirtualSource(str(path), "data", (4, 4, 8, 16), maxshape=(None, 4, 8, 16))
    layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    file.create_virtual_dataset(KERNEL, layout)


def soft_link(file, path):
    file["sequential_3"] = h5py.SoftLink("/sequential_4")


def whole_model(file, path):
    del file.attrs["layer_names"]
    file["model_weights"] = h5py.ExternalLink(path, "/")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize(
    "lead",
    [external_link, external_storage, virtual, unlimited_virtual, soft_link, whole_model],
    ids=lambda f: f.__name__,
)
def test_weights_that_lead_elsewhere_are_refused_before_anything_there_is_opened(tmp_path, lead):
    """The other file is a pipe, which would block whoever opens it."""
    os.mkfifo(tmp_path / "pipe")
    write_published(tmp_path / "g.h5", published_table(1, 2))

    def change_it(file):
        del file["sequential_3"]
        file.create_group("sequential_3").attrs["weight_names"] = np.array([b"conv2d_3/kernel:0"])
        if lead in (external_link, soft_link):
            del file["sequential_3"]
        lead(file, tmp_path / "pipe")

    change(tmp_path / "g.h5", change_it)
    for read in (weights.describe, weights.read):
        with pytest.raises(InputError, match=r"g\.h5: expected .* found"):
            read(tmp_path / "g.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_no_weights_file(tmp_path):
    os.mkfifo(tmp_path / "g.h5")
    assert "a pipe" in refused(tmp_path / "g.h5")


@pytest.mark.parametrize(
    "dtype", ["S4", h5py.string_dtype(), h5py.vlen_dtype(np.float32), h5py.ref_dtype, np.complex64,
              np.dtype([("a", "f4")]), np.longdouble, np.dtype("V4"), np.bool_], ids=str,
)  # fmt: skip
def test_data_sets_of_anything_but_numbers_are_refused(tmp_path, dtype):
    write_published(tmp_path / "g.h5", published_table(1, 2))

    def replace(file):
        del file[KERNEL]
        file.create_dataset(KERNEL, (4, 4, 8, 16), dtype)

    change(tmp_path / "g.h5", replace)
    assert KERNEL in refused(tmp_path / "g.h5")


def test_a_group_in_the_place_of_an_array_is_refused(tmp_path):
    write_published(tmp_path / "g.h5", published_table(1, 2))

    def replace(file):
        del file[KERNEL]
        file.create_group(KERNEL)

    change(tmp_path / "g.h5", replace)
    assert KERNEL in refused(tmp_path / "g.h5")


def test_names_that_share_one_long_text_are_refused(tmp_path):
    """HDF5 stores a text once for all values that point to it, and would read it for each of them."""
    table = published_table(1, 2)
    write_published(tmp_path / "g.h5", table)
    change(tmp_path / "g.h5", lambda file: file.attrs.__setitem__("description", "x" * 2**23))
    assert "layer_names" in refused(tmp_path / "g.h5")
    write_published(tmp_path / "large.h5", published_table(1, 16))  # 14 MB, but of weights
    assert weights.describe(tmp_path / "large.h5").base_filters == 16


def test_compressed_weights_are_read(tmp_path):
    expected = write_published(tmp_path / "g.h5", published_table(1, 2))
    with h5py.File(tmp_path / "g.h5") as source, h5py.File(tmp_path / "small.h5", "w") as file:
        file.attrs.update(source.attrs)
        for name, group in source.items():
            file.create_group(name).attrs.update(group.attrs)
            arrays = [name for name in group.attrs["weight_names"] if name]
            for weight in arrays:
                options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
                file[name].create_dataset(weight, data=group[weight][()], **options)
    found = [array for _, arrays in weights.read(tmp_path / "small.h5") for array in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("chunks", [None, (4, 4, 1, 512), True])
def test_sizes_that_do_not_fit_into_the_file_are_refused_before_they_are_read(tmp_path, chunks):
    """An array that was never written takes no space in HDF5, and reads as zeros."""
    with h5py.File(tmp_path / "g.h5", "w") as file:
        table = published_table(1, 512)
        file.attrs["layer_names"] = [name.encode() for name, _ in table]
        for name, members in table:
            file.create_group(name).attrs["weight_names"] = [weight.encode() for weight, _ in members]
            for weight, shape in members:
                fitting = tuple(map(min, chunks, shape)) if isinstance(chunks, tuple) and len(shape) == 4 else None
                file[name].create_dataset(weight, shape, np.float32, chunks=True if chunks is True else fitting)
    for read in (weights.describe, weights.read):
        with pytest.raises(InputError, match="MB of them in a file of"):
            read(tmp_path / "g.h5")


def test_chunks_that_do_not_fit_into_the_file_are_refused(tmp_path):
    write_published(tmp_path / "g.h5", published_table(1, 2))

    def replace(file):
        del file[KERNEL]
        maximum = (None, None, None, None)
        file.create_dataset(KERNEL, (4, 4, 8, 16), np.float32, chunks=(2**9, 2**9, 2**6, 2**4), maxshape=maximum)

    change(tmp_path / "g.h5", replace)
    assert "chunks" in refused(tmp_path / "g.h5")


@pytest.mark.parametrize(
    ("entry", "value"), [("targets", 3), ("targets", [3]), ("origin", 2.5), ("system", 1), ("representation", "mel")]
)
def test_entries_of_another_type_are_named(tmp_path, entry, value):
    write_published(tmp_path / "g.h5", published_table(1, 2))
    stored = str(value) if isinstance(value, list) else value
    change(tmp_path / "g.h5", lambda file: file.attrs.__setitem__(entry, stored))
    assert entry in refused(tmp_path / "g.h5")


@pytest.mark.parametrize("base_filters", [1024, 10**12, 0, -1, 2.0, "2", None])
def test_hum2guitar_of_another_size_than_described_is_refused(tmp_path, write_hum2guitar, base_filters):
    path = write_hum2guitar(tmp_path / "g.h5", base_filters=2)
    change(path, lambda file: file.attrs.__setitem__("base_filters", "null" if base_filters is None else base_filters))
    assert re.search("base.filters", refused(path))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("in_channels", 2), ("in_channels", "[1]"), ("epoch", "seven"), ("epoch", -1), ("seed", 2**32), ("seed", 1.5),
        ("validation_split", "0.1"), ("validation_split", float("nan")), ("validation_mae", "low"), ("f0", 3),
        ("identity", "yes"), ("voices", "[[1]]"), ("origins", "piano"), ("network", "a\tb"), ("origin", "\x1b[31mred"),
        ("targets", '["a\\nb"]'), ("system", "s" * 300), ("representation", "[" * 100_000), ("voices", "{}"),
    ],
)  # fmt: skip
def test_entries_that_nothing_can_be_done_with_are_named(tmp_path, write_hum2guitar, entry, value):
    path = write_hum2guitar(tmp_path / "g.h5", base_filters=2)
    change(path, lambda file: file.attrs.__setitem__(entry, value))
    assert entry.replace("in_channels", "input channel") in refused(path).replace("in_channels", "input channel")
