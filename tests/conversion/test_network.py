"""The ONNX networks against Keras' for every kind of weights file, and the files that they refuse."""

import errno
import json
import os
import pathlib
import tempfile

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

import model
from common import weights
from common.errors import InputError
from conversion import network
from data import PUBLISHED
from hum2guitar import networks


def slices(shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def keras_output(path, x):
    load = model.load_generator if weights.describe(path).network == weights.UNET else networks.load_hum2guitar
    expected = np.asarray(load(path)(x, training=False))
    assert expected.std() > 0.05  # a difference would be seen
    return expected


def with_float16(path, out):
    """A copy of a weights file whose arrays are stored as float16."""
    with h5py.File(path) as source, h5py.File(out, "w") as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name, group in source.items():
            copied = target.create_group(name)
            copied.attrs["weight_names"] = group.attrs["weight_names"]
            for weight in group.attrs["weight_names"]:
                copied.create_dataset(weight.decode(), data=group[weight.decode()][()].astype(np.float16))
    return out


def run(graph, x):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


ATOL_HUM2GUITAR = 3e-5  # instance normalisation amplifies Keras' rounding, which differs with the number of threads
HUM2GUITAR = (weights.GLOBAL_GENERATOR, weights.LOCAL_ENHANCER)


@pytest.mark.parametrize(
    ("in_channels", "base_filters", "shape"),
    [(1, 4, (3, 256, 256)), (1, 3, (1, 512, 256)), (2, 4, (1, 256, 512)), (1, 16, (1, 256, 256))],
)
def test_the_unet_equals_keras(tmp_path, write_generator, in_channels, base_filters, shape):
    path = write_generator(tmp_path / "generator.h5", in_channels, base_filters)
    x = slices((*shape, in_channels))
    output = network.load_network(path)(x)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, keras_output(path, x), atol=1e-5)


@pytest.mark.parametrize("kind", HUM2GUITAR)
@pytest.mark.parametrize(("base_filters", "shape"), [(4, (3, 32, 13, 1)), (8, (1, 40, 16, 1)), (2, (1, 16, 8, 1))])
def test_the_hum2guitar_networks_equal_keras(tmp_path, write_hum2guitar, kind, base_filters, shape):
    path = write_hum2guitar(tmp_path / "generator.h5", kind, base_filters)
    x = slices(shape)
    np.testing.assert_allclose(network.load_network(path)(x), keras_output(path, x), atol=ATOL_HUM2GUITAR)


def test_on_a_whole_segment_the_enhancer_is_closer_than_keras_to_double_precision(
    tmp_path, write_hum2guitar, monkeypatch
):
    path = write_hum2guitar(tmp_path / "generator.h5", weights.LOCAL_ENHANCER, 4)
    x = slices((1, 512, 216, 1))
    expected = keras_output(path, x)

    def in_double_precision(_, x):
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-5)

    monkeypatch.setattr(networks.InstanceNorm, "call", in_double_precision)
    reference = np.asarray(networks.load_hum2guitar(path, "float64")(x, training=False))
    error = np.abs(network.load_network(path)(x) - reference).max()
    assert error < 2.5e-5
    assert error < np.abs(expected - reference).max()  # 4e-5: the sums of 110 592 numbers in Keras' fused operation


def test_weights_stored_as_float16_serve_every_network(tmp_path, write_generator, write_hum2guitar):
    unet = write_generator(tmp_path / "unet.h5")
    half, x = with_float16(unet, tmp_path / "unet_half.h5"), slices((1, 256, 256, 1))
    output = network.load_network(half)(x)
    np.testing.assert_allclose(output, keras_output(half, x), atol=1e-5)
    np.testing.assert_allclose(output, keras_output(unet, x), atol=5e-3)
    for kind in HUM2GUITAR:
        path = write_hum2guitar(tmp_path / "hum.h5", kind, 4)
        half, x = with_float16(path, tmp_path / "hum_half.h5"), slices((1, 32, 13, 1))
        output = network.load_network(half)(x)
        np.testing.assert_allclose(output, keras_output(half, x), atol=ATOL_HUM2GUITAR)
        # Instance normalisation raises the rounding of weak channels: up to 0.01 in single values.
        assert np.abs(output - keras_output(path, x)).mean() < 2e-3


def test_one_network_serves_changing_shapes_and_leaves_its_input_alone(tmp_path, write_generator):
    unet = network.load_network(write_generator(tmp_path / "generator.h5"))
    x = slices((4, 256, 512, 1))
    kept = x.copy()
    four = unet(x)
    assert unet(x[:1, :, :256]).shape == (1, 256, 256, 1)
    np.testing.assert_allclose(unet(x[2:3])[0], four[2], atol=1e-6)
    np.testing.assert_array_equal(x, kept)


def test_a_graph_stands_for_itself_and_says_what_it_is(tmp_path, write_generator, write_hum2guitar):
    settings = {"origin": "keyboard_acoustic", "targets": ["guitar_acoustic"], "epoch": 3}
    unet = write_generator(tmp_path / "unet.h5", 2, 4, **settings)
    enhancer = write_hum2guitar(tmp_path / "enhancer.h5", weights.LOCAL_ENHANCER)
    described = {}
    for path, x in ((unet, slices((1, 256, 256, 2))), (enhancer, slices((1, 64, 24, 1)))):
        graph = network.build_graph(path)
        onnx.checker.check_model(graph, full_check=True)
        np.testing.assert_allclose(run(graph, x), network.load_network(path)(x), atol=1e-6)
        described[path] = json.loads({entry.key: entry.value for entry in graph.metadata_props}["description"])
    own = {**settings, "system": "pix2pix", "network": "unet", "in_channels": 2, "base_filters": 4}
    assert {key: described[unet][key] for key in own} == own
    assert described[unet]["representation"] == PUBLISHED.to_dict()
    assert described[unet]["input"]["shape"] == [None, None, None, 2]
    assert described[enhancer]["network"] == "local_enhancer"
    assert described[enhancer]["system"] == "hum2guitar"


def test_nothing_is_left_in_the_temporary_folder(tmp_path, write_generator, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = write_generator(tmp_path / "generator.h5")
    unet = network.load_network(path)
    assert not list(folder.iterdir())
    np.testing.assert_allclose(unet(slices((1, 256, 256, 1))), keras_output(path, slices((1, 256, 256, 1))), atol=1e-5)


def test_a_missing_gpu_is_named_in_one_line(tmp_path, write_generator, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = write_generator(tmp_path / "generator.h5")
    for gpu in (-1, None):
        network.load_network(path, gpu)
    assert capsys.readouterr().err == ""
    assert network.load_network(path, 1).provider == "CPUExecutionProvider"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--gpu 1" in said


def test_shapes_that_a_network_cannot_work_on_are_named(tmp_path, write_generator, write_hum2guitar):
    unet = network.load_network(write_generator(tmp_path / "generator.h5"))
    with pytest.raises(ValueError, match="256 x 300"):
        unet(np.zeros((1, 256, 300, 1), np.float32))
    generator, enhancer = (network.load_network(write_hum2guitar(tmp_path / "hum.h5", kind)) for kind in HUM2GUITAR)
    with pytest.raises(ValueError, match="64 x 7"):
        generator(np.zeros((1, 64, 7, 1), np.float32))
    with pytest.raises(ValueError, match="63 x 24"):
        enhancer(np.zeros((1, 63, 24, 1), np.float32))


def test_refuses_damaged_weights_and_discriminators(tmp_path, write_generator):
    path = write_generator(tmp_path / "generator.h5")
    groups = [(name, [(f"{i}/w:0", array) for i, array in enumerate(arrays)]) for name, arrays in weights.read(path)]
    groups[5][1][0][1][0, 0, 0, 0] = np.nan
    weights.write(tmp_path / "nan.h5", groups, {})
    with pytest.raises(InputError, match=f"finite weights, found NaN or infinite ones in layer {groups[5][0]}"):
        network.load_network(tmp_path / "nan.h5")
    model.save(model.build_discriminator(2), tmp_path / "patchgan.h5", {})
    with pytest.raises(InputError, match="found those of a patchgan"):
        network.build_graph(tmp_path / "patchgan.h5")
    model.save(networks.build_multiscale_discriminator(2), tmp_path / "multiscale.h5", {"base_filters": 2})
    with pytest.raises(InputError, match="found those of a multiscale_discriminator"):
        network.build_graph(tmp_path / "multiscale.h5")


def test_refuses_hum2guitar_weights_of_another_shape(tmp_path, write_hum2guitar):
    path = write_hum2guitar(tmp_path / "hum.h5", weights.LOCAL_ENHANCER)

    def changed(change):
        out = tmp_path / "changed.h5"
        out.write_bytes(path.read_bytes())
        with h5py.File(out, "r+") as file:
            change(file)
        return out

    with pytest.raises(InputError, match=r"3 base filters.*global_0.*\(3, 3, 1, 3\).*found \(3, 3, 1, 2\)"):
        network.build_graph(changed(lambda file: file.attrs.__setitem__("base_filters", 3)))
    with pytest.raises(InputError, match="base filters, found None"):
        network.build_graph(changed(lambda file: file.attrs.__delitem__("base_filters")))
    with pytest.raises(InputError, match=r"layer local_up has .*found no weights"):
        network.build_graph(changed(lambda file: file["local_up"].attrs.__setitem__("weight_names", [])))
    with pytest.raises(InputError, match=r"layer global_last has .*found no weights"):
        network.build_graph(changed(lambda file: file.attrs.__setitem__("network", "global_generator")))


def test_where_no_temporary_file_can_be_written_the_weights_stay_in_memory(tmp_path, write_generator, monkeypatch):
    path = write_generator(tmp_path / "generator.h5")
    expected = network.load_network(path)(slices((1, 256, 256, 1)))
    for broken in ("TemporaryDirectory", "write_bytes"):
        with monkeypatch.context() as patch:
            target = tempfile if broken == "TemporaryDirectory" else pathlib.Path
            patch.setattr(target, broken, raise_no_space)
            found = network.load_network(path)(slices((1, 256, 256, 1)))
        np.testing.assert_array_equal(found, expected)


def raise_no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"representation": {"n_bins": 200}}, "found 200 and 256"),
        ({"representation": {"n_frames": 2**14}}, "found 256 and 16384"),
        ({"representation": {"n_fft": 2**40}}, "expected n_fft above 0 and up to 1048576"),
        ({"system": "hum2guitar"}, "expected the system pix2pix, found hum2guitar"),
    ],
)
def test_descriptions_that_do_not_fit_the_network_are_refused(tmp_path, write_generator, settings, found):
    representation = {**PUBLISHED.to_dict(), **settings.get("representation", {})}
    path = write_generator(tmp_path / "generator.h5", base_filters=2, **{**settings, "representation": representation})
    with pytest.raises(InputError, match=found):
        network.load_network(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x3a\x80\x80\x80\x02" + b"\x0a\x00" * 2**21,  # a graph of two million empty nodes: 4 MB that take gigabytes
        b"\x3a\x80\x80\x80\x02" + b"\x2a\x00" * 2**21,  # as many empty initializers
        b"\x72\x00" * 2**20,
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff" * 100,
    ],
)
def test_messages_that_take_far_more_memory_than_space_are_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.onnx: expected"):
        network.describe(tmp_path / "a.onnx")


def test_names_that_are_no_unicode_are_refused(tmp_path, write_generator):
    model = network.build_graph(write_generator(tmp_path / "g.h5", base_filters=1)).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(model.replace(b"down_0/kernel", b"down_0/\xffernel"))
    with pytest.raises(InputError, match=r"a\.onnx: expected names"):
        network.describe(tmp_path / "a.onnx")
