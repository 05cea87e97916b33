"""export.py as the user runs it, and what becomes of its files in ONNX Runtime and in predict.py."""

import functools
import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import soundfile
from conftest import ROOT
from made_conversions import load_network, read_refusal, run

import export
from common import weights

run_export = functools.partial(run, command=export)


@pytest.fixture
def generator(tmp_path, write_generator):
    settings = {"origin": "piano", "targets": ["guitar"], "validation_mae": 0.05}
    return write_generator(tmp_path / "generator.h5", base_filters=8, **settings)


def test_the_file_runs_in_onnxruntime_alone_and_describes_itself(tmp_path, generator, capsys):
    assert run_export("--model", generator, "--output", tmp_path / "new/out.onnx", "--input_level", "peak") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new/out.onnx'}\n"
    session = onnxruntime.InferenceSession(tmp_path / "new/out.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": np.zeros((2, 256, 512, 1), np.float32)})[0].shape == (2, 256, 512, 1)
    description = json.loads(session.get_modelmeta().custom_metadata_map["description"])
    assert (description["targets"], description["input_level"]) == (["guitar"], "peak")


def test_half_the_size_is_the_same_network(tmp_path, generator):
    for name, flags in (("whole", []), ("half", ["--float16"])):
        for ending in ("onnx", "h5"):
            output = tmp_path / f"{name}.{ending}"
            assert run_export("--model", generator, "--output", output, "--input_level", "peak", *flags) == 0
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["half.onnx"] < 0.55 * sizes["whole.onnx"]
    assert sizes["half.h5"] < 0.55 * sizes["whole.h5"] + 100_000
    settings = weights.describe(generator).settings
    assert weights.describe(tmp_path / "half.h5").settings == {**settings, "exported": True, "input_level": "peak"}
    x = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, 1)).astype(np.float32)
    outputs = {name: load_network(tmp_path / f"{name}.h5")(x) for name in ("generator", "whole", "half")}
    np.testing.assert_array_equal(outputs["whole"], outputs["generator"])
    assert 0 < np.abs(outputs["half"] - outputs["whole"]).max() < 5e-3


def test_mistakes_are_one_line(tmp_path, generator, capsys):
    output = tmp_path / "out.onnx"
    layers = weights.read(generator)
    layers["sequential_3"]["conv2d_3/kernel:0"][0, 0, 0, 0] = 1e6
    weights.write(tmp_path / "large.h5", layers, {})
    for source, made, *flags in (
        (generator, tmp_path / "out.pb"),
        (tmp_path / "none.h5", output),
        (tmp_path / "large.h5", output, "--float16"),  # beyond its range
        (tmp_path / "large.h5", tmp_path / "out.h5", "--float16"),
    ):
        read_refusal(capsys, "--model", source, "--output", made, *flags, command=export)
        assert not made.exists()
    assert run_export("--model", generator, "--output", output) == 0
    read_refusal(capsys, "--model", output, "--output", tmp_path / "again.h5", command=export)  # it is not read back


def test_the_program_in_the_documentation_gives_what_predict_gives(tmp_path, generator):
    """Apart from rounding to 16 bits, with the flags that the page names; the program knows nothing of this project."""
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (flags,) = re.findall(r"Its result is that of `predict.py ([^`]*)`", page.replace("\n", " "))
    rng = np.random.default_rng(0)
    assert run_export("--model", generator, "--output", tmp_path / "generator.onnx") == 0
    for n_samples in (300 * 512 + 341, 300 * 512 + 342):  # where one more frame is needed for the end
        soundfile.write(tmp_path / "piano.wav", rng.normal(0, 0.1, n_samples), 44100, "PCM_16")
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
        ends = ["--input", tmp_path / "piano.wav", "--output", tmp_path / "expected.wav", *flags.split()]
        assert run("--model", generator, *ends) == 0
        converted, expected = (soundfile.read(tmp_path / name)[0] for name in ("guitar.wav", "expected.wav"))
        np.testing.assert_allclose(converted, expected, atol=1e-4)
