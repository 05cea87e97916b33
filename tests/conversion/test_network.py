"""The networks as ONNX graphs against the Keras networks, and weights that are none of theirs."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from made_conversions import load_network

import model
from common import InputError, weights
from conversion import network
from data import PUBLISHED
from hum2guitar import networks

ATOL_HUM2GUITAR = 3e-5  # instance normalisation amplifies Keras' rounding, which differs with the number of threads
HUM2GUITAR = (weights.GLOBAL_GENERATOR, weights.LOCAL_ENHANCER)


def slices(shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def keras_output(path, x):
    described = weights.describe(path)
    if described.network == weights.UNET:
        generator = model.load_generator(path)
    else:
        generator = getattr(networks, f"build_{described.network}")(described.base_filters)
        model.load_into(generator, path)
    expected = np.asarray(generator(x, training=False))
    assert expected.std() > 0.05  # a difference would be seen
    return expected


@pytest.mark.parametrize(
    ("in_channels", "base_filters", "shape"),
    [(1, 3, (3, 512, 256)), (2, 4, (1, 256, 512)), (1, 16, (1, 256, 256))],
)
def test_the_unet_equals_keras(tmp_path, write_generator, in_channels, base_filters, shape):
    path = write_generator(tmp_path / "generator.h5", in_channels, base_filters)
    x = slices((*shape, in_channels))
    kept = x.copy()
    output = load_network(path)(x)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, keras_output(path, x), atol=1e-5)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("kind", HUM2GUITAR)
@pytest.mark.parametrize(("base_filters", "shape"), [(4, (3, 40, 13, 1)), (2, (1, 16, 8, 1))])
def test_the_hum2guitar_networks_equal_keras(tmp_path, write_hum2guitar, kind, base_filters, shape):
    path = write_hum2guitar(tmp_path / "generator.h5", kind, base_filters)
    x = slices(shape)
    np.testing.assert_allclose(load_network(path)(x), keras_output(path, x), atol=ATOL_HUM2GUITAR)


@pytest.mark.parametrize("kind", ["unet", weights.LOCAL_ENHANCER])
def test_a_graph_stands_for_itself_and_says_what_it_is(tmp_path, write_generator, write_hum2guitar, kind):
    settings = {"origin": "keyboard_acoustic", "targets": ["guitar_acoustic"], "epoch": 3}
    path, x = tmp_path / "g.h5", slices((1, 256, 256, 2) if kind == "unet" else (1, 64, 24, 1))
    write_generator(path, 2, 4, **settings) if kind == "unet" else write_hum2guitar(path, kind, 4, **settings)
    graph = network.build_graph(weights.describe(path))
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x})[0], load_network(path)(x), atol=1e-6)
    half = onnxruntime.InferenceSession(network.build_graph(weights.describe(path), float16=True).SerializeToString())
    assert 0 < np.abs(half.run(None, {"input": x})[0] - load_network(path)(x)).max() < 5e-3
    described = json.loads(session.get_modelmeta().custom_metadata_map["description"])
    expected = {**settings, "network": kind, "in_channels": x.shape[-1], "base_filters": 4}
    assert {key: described[key] for key in expected} == expected
    assert described["input"]["shape"] == [None, None, None, x.shape[-1]]
    if kind == "unet":
        assert described["representation"] == PUBLISHED.to_dict()
        assert described["system"] == "pix2pix"


def test_a_missing_gpu_is_named_in_one_line(tmp_path, write_generator, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = write_generator(tmp_path / "generator.h5")
    for gpu in (-1, None):
        load_network(path, gpu)
    assert capsys.readouterr().err == ""
    load_network(path, 1)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--gpu 1" in said


KERNEL = ("sequential_5", "conv2d_5/kernel:0")
DAMAGE = {
    "a layer is missing": lambda layers: layers.pop("sequential_9"),
    "a layer too many": lambda layers: layers.update(more={"kernel:0": np.zeros((4, 4, 1, 1), np.float32)}),
    "other filters": lambda layers: layers[KERNEL[0]].update({KERNEL[1]: np.zeros((4, 4, 32, 33), np.float32)}),
    "NaN": lambda layers: layers[KERNEL[0]][KERNEL[1]].fill(np.nan),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_weights_of_another_network_and_damaged_ones_are_refused(tmp_path, write_generator, damage):
    path = write_generator(tmp_path / "generator.h5")
    layers = weights.read(path)
    DAMAGE[damage](layers)
    weights.write(path, layers, weights.describe(path).settings)
    with pytest.raises(InputError) as error:
        load_network(path)
    assert str(path) in str(error.value)


def test_slices_that_do_not_fit_the_network_are_refused(tmp_path, write_generator):
    for changed in ({"n_bins": 200}, {"n_frames": 2**14}, {"n_fft": 2**40}):
        representation = {**PUBLISHED.to_dict(), **changed}
        path = write_generator(tmp_path / "generator.h5", base_filters=2, representation=representation)
        with pytest.raises(InputError):
            load_network(path)


def test_onnx_runtime_writes_nothing_below_the_home_folder(tmp_path, write_generator):
    """Its telemetry, on by default from version 1.32, keeps a device id there."""
    code = "import sys; sys.path.append('tests'); from made_conversions import load_network; load_network(sys.argv[1]);"
    code += "import os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    path = write_generator(tmp_path / "generator.h5", base_filters=1)
    home = tmp_path / "home"
    home.mkdir()
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")}
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | places
    subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, env=environment, check=True)
    assert list(home.rglob("*")) == []
