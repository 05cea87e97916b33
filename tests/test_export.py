"""export.py as the user runs it, and what becomes of its files in ONNX Runtime, predict.py and evaluate.py."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile

import evaluate
import export
import predict
from common import weights
from conversion import network

ROOT = pathlib.Path(export.__file__).parent


@pytest.fixture
def generator(tmp_path, write_generator):
    return write_generator(tmp_path / "generator.h5", origin="piano", targets=["guitar"], validation_mae=0.05)


def run(*argv, command=export):
    return command.main([str(word) for word in argv])


def refusal(capsys, *argv, command=export):
    """The one line that the command answers a mistake with."""
    capsys.readouterr()
    assert run(*argv, command=command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_file_runs_in_onnxruntime_alone_and_describes_itself(tmp_path, generator, capsys):
    assert run("--model", generator, "--output", tmp_path / "new/out.onnx") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new/out.onnx'}\n"
    session = onnxruntime.InferenceSession(tmp_path / "new/out.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(-1, 1, (2, 256, 512, 1)).astype(np.float32)
    (y,) = session.run(None, {"input": x})
    np.testing.assert_allclose(y, network.load_network(generator)(x), atol=1e-6)
    description = json.loads(session.get_modelmeta().custom_metadata_map["description"])
    assert (description["origin"], description["targets"]) == ("piano", ["guitar"])
    assert description["representation"]["n_fft"] == 1024
    assert description["input"]["axes"] == ["batch", "bins", "frames", "channels"]
    assert description["input"]["range"] == [-1, 1]


@pytest.mark.parametrize("kind", ["unet", "local_enhancer", "global_generator"])
def test_check_compares_with_keras(tmp_path, generator, write_hum2guitar, capsys, kind):
    path = generator if kind == "unet" else write_hum2guitar(tmp_path / "hum.h5", kind)
    for flags, tolerance in (([], 1e-5 if kind == "unet" else 1e-4), (["--float16"], 5e-3)):
        assert run("--model", path, "--output", tmp_path / "out.onnx", "--check", *flags) == 0
        line = capsys.readouterr().out.splitlines()[0]
        assert float(line.split()[-1]) <= tolerance


def test_a_network_that_differs_from_keras_is_not_written(tmp_path, generator, capsys, monkeypatch):
    call = network.OnnxNetwork.__call__
    monkeypatch.setattr(network.OnnxNetwork, "__call__", lambda self, x: call(self, x) + 1e-4)
    said = refusal(capsys, "--model", generator, "--output", tmp_path / "out.onnx", "--check")
    assert "found a difference of 1.0e-04" in said
    assert [path.name for path in tmp_path.iterdir()] == ["generator.h5"]


def test_a_weights_file_of_half_the_size_is_the_same_network(tmp_path, write_generator):
    path = write_generator(tmp_path / "generator.h5", base_filters=16, origin="piano", targets=["guitar"])
    assert run("--model", path, "--output", tmp_path / "small.h5", "--float16", "--phase", "griffinlim") == 0
    assert (tmp_path / "small.h5").stat().st_size < 0.52 * path.stat().st_size
    description = weights.describe(tmp_path / "small.h5")
    added = {"exported": 1, "phase": "griffinlim"}
    assert description.settings == {**weights.describe(path).settings, **added}
    x = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 1)).astype(np.float32)
    difference = network.load_network(tmp_path / "small.h5")(x) - network.load_network(path)(x)
    assert 0 < np.abs(difference).max() < 5e-3


@pytest.mark.parametrize("kind", ["local_enhancer", "global_generator"])
def test_a_copy_of_a_hum2guitar_file_holds_the_same_arrays(tmp_path, write_hum2guitar, kind):
    path = write_hum2guitar(tmp_path / "hum.h5", kind)
    assert run("--model", path, "--output", tmp_path / "copy.h5") == 0
    for (name, arrays), (copied_name, copies) in zip(
        weights.read(path), weights.read(tmp_path / "copy.h5"), strict=True
    ):
        assert name == copied_name
        for array, copied in zip(arrays, copies, strict=True):
            np.testing.assert_array_equal(array, copied)


def test_float16_halves_the_file(tmp_path, write_generator):
    path = write_generator(tmp_path / "generator.h5", base_filters=16)
    sizes = []
    for flags in ([], ["--float16"]):
        assert run("--model", path, "--output", tmp_path / "out.onnx", *flags) == 0
        sizes.append((tmp_path / "out.onnx").stat().st_size)
    assert sizes[1] < 0.52 * sizes[0]


@pytest.mark.parametrize("system", ["pix2pix", "hum2guitar"])
def test_predict_and_evaluate_take_the_file_as_model(tmp_path, generator, write_hum2guitar, capsys, system):
    path = generator if system == "pix2pix" else write_hum2guitar(tmp_path / "hum.h5")
    source = tmp_path / "in.wav"
    soundfile.write(source, 0.3 * np.sin(2 * np.pi * 220 * np.arange(9000) / 22050), 22050)
    exported = tmp_path / "folder/out.onnx"
    assert run("--model", path, "--output", exported) == 0
    outputs = []
    for model_path in (path, exported.parent):  # a folder with one .onnx file names it
        output = tmp_path / f"{len(outputs)}.wav"
        assert run("--model", model_path, "--input", source, "--output", output, command=predict) == 0
        outputs.append(soundfile.read(output)[0])
    np.testing.assert_allclose(*outputs, atol=2e-4)
    capsys.readouterr()
    assert run("--model", exported, command=predict) == 0
    assert system in capsys.readouterr().out
    ends = ["--origin_audio", source, "--target_audio", source, "--reference_iterations", 1]
    assert run("--model", exported, *ends, "--output", tmp_path / "report", command=evaluate) == 0


def test_mistakes_are_one_line(tmp_path, generator, capsys, monkeypatch):
    assert "ends in .onnx or .h5" in refusal(capsys, "--model", generator, "--output", tmp_path / "out.pb")
    output = tmp_path / "out.onnx"
    assert "found nothing" in refusal(capsys, "--model", tmp_path / "none.h5", "--output", output)
    assert run("--model", generator, "--output", tmp_path / "made.onnx") == 0
    assert "expected a weights file" in refusal(capsys, "--model", tmp_path / "made.onnx", "--output", output)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda _: None)
    assert "expected TensorFlow" in refusal(capsys, "--model", generator, "--output", output, "--check")
    groups = [(name, [(f"{i}/w:0", a) for i, a in enumerate(arrays)]) for name, arrays in weights.read(generator)]
    groups[3][1][0][1][0, 0, 0, 0] = 1e6
    weights.write(tmp_path / "large.h5", groups, {})
    for large in (output, tmp_path / "out.h5"):
        said = refusal(capsys, "--model", tmp_path / "large.h5", "--output", large, "--float16")
        assert "range of float16" in said
        assert not large.exists()


# --- files that were tampered with ------------------------------------------------------------------------------------


@pytest.fixture
def tampered(tmp_path, generator):
    """Write an exported file after a change of its model; gives the path."""

    def write(change):
        model = network.build_graph(generator)
        change(model)
        path = tmp_path / "tampered.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def store_outside(model):
    tensor = initializer(model, "down_3/kernel")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def add_custom_operator(model):
    model.graph.node[3].op_type, model.graph.node[3].domain = "Download", "com.example"


def claim_many_filters(model):
    entry = model.metadata_props[0]
    entry.value = json.dumps({**json.loads(entry.value), "base_filters": 1024})


def claim_absurd_filters(model):
    entry = model.metadata_props[0]
    entry.value = json.dumps({**json.loads(entry.value), "base_filters": 10**9})


def pad_much(model):
    next(a for a in model.graph.node[1].attribute if a.name == "pads").ints[0] = 10**9


def claim_large_kernel(model):
    initializer(model, "down_3/kernel").dims[0] = 10**9


def add_infinity(model):
    tensor = initializer(model, "up_2/bias")
    tensor.raw_data = np.full(tensor.dims[0], np.inf, "<f4").tobytes()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (store_outside, "down_3/kernel in another file"),
        (add_custom_operator, "the operator Download"),
        (claim_many_filters, "expected down_0/kernel of shape"),
        (claim_absurd_filters, "found 'unet' with 1 and 1000000000"),
        (pad_much, "found another graph"),
        (claim_large_kernel, "bytes of down_3/kernel, found"),
        (lambda model: model.metadata_props.pop(), "no description"),
        (lambda model: model.functions.add(), "found another graph"),
    ],
)
def test_a_file_with_another_graph_is_refused_before_a_session_starts(tampered, capsys, monkeypatch, change, found):
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("a session was started"))
    path = tampered(change)
    said = refusal(capsys, "--model", path, command=predict)
    assert str(path) in said
    assert found in said


def test_infinite_weights_are_refused(tampered, tmp_path, capsys):
    soundfile.write(tmp_path / "in.wav", np.full(100, 0.1), 22050)
    ends = ["--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav"]
    said = refusal(capsys, "--model", tampered(add_infinity), *ends, command=predict)
    assert "expected finite weights, found NaN or infinite ones in layer up_2" in said


def test_other_files_and_absurd_sizes_are_refused(tmp_path, capsys):
    (tmp_path / "text.onnx").write_text("no graph")
    assert "another kind of file" in refusal(capsys, "--model", tmp_path / "text.onnx", command=predict)
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(3 * 10**9)  # takes no space on most file systems
    assert "up to 1 GB, found 3.0 GB" in refusal(capsys, "--model", tmp_path / "large.onnx", command=predict)


def test_it_exports_without_tensorflow(tmp_path, generator):
    code = "import sys; sys.modules['tensorflow'] = None; import export; sys.exit(export.main(sys.argv[1:]))"
    argv = ["--model", str(generator), "--output", str(tmp_path / "out.onnx")]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_program_in_the_documentation_gives_what_predict_gives(tmp_path, generator):
    """With --overlap 0 and --level peak, apart from rounding to 16 bits; the program knows nothing of this project."""
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "piano.wav", rng.normal(0, 0.1, 300 * 512), 44100, "PCM_16")
    assert run("--model", generator, "--output", tmp_path / "generator.onnx") == 0
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    ends = ["--input", tmp_path / "piano.wav", "--output", tmp_path / "expected.wav", "--overlap", 0, "--level", "peak"]
    assert run("--model", generator, *ends, command=predict) == 0
    converted, expected = (soundfile.read(tmp_path / name)[0] for name in ("guitar.wav", "expected.wav"))
    np.testing.assert_allclose(converted, expected, atol=2e-4)
