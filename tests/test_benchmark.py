"""The benchmark runs and says what it ran on; the plain ways give the same results as the project."""

from __future__ import annotations

import json

import librosa
import numpy as np
import pytest
import soundfile
from made_notes import made_note

import benchmark
import compute_features
import predict


def test_table_and_json_of_measurements_in_child_processes_one_of_which_fails(monkeypatch, tmp_path, capsys):
    tasks = [[{"no_such_parameter": 1}], [{"minutes": 0.1, "jobs": 1}]]
    monkeypatch.setattr(benchmark, "list_tasks", lambda part, gpu, quick: tasks)
    assert benchmark.main(["--only", "compute_features", "--output", str(tmp_path / "b.json"), "--gpu", "-1"]) == 0
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["seed"] == benchmark.SEED
    assert {"processor", "cores", "python", "versions"} <= written.keys()
    failed, result = written["results"]
    assert "no_such_parameter" in failed["error"]
    assert result["part"] == "compute_features"
    assert result["value"] > 0
    table = capsys.readouterr().out
    assert failed["error"] in table
    assert f"{result['value']:.2f} {result['unit']}" in table


def test_the_ratio_is_taken_to_the_plain_ways_of_the_same_work(monkeypatch, tmp_path, capsys):
    seconds = {(64, "slice by slice"): 10, (64, ""): 4, (16, "slice by slice"): 6, (16, ""): 1}

    def measure_in_child(part, task, gpu, quick):
        value = 1 / seconds[task["base_filters"], task.get("plain", "")]
        return {"value": value, "unit": "s/s"}

    monkeypatch.setattr(benchmark, "measure_in_child", measure_in_child)
    benchmark.main(["--only", "conversion", "--output", str(tmp_path / "b.json")])
    rows = [line for line in capsys.readouterr().out.splitlines() if " times " in line]
    assert [row.split("  ")[-1] for row in rows] == ["2.50 times slice by slice", "6.00 times slice by slice"]


def test_plain_features_are_those_of_the_command(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "audios" / "piano").mkdir(parents=True)
    soundfile.write(tmp_path / "audios" / "piano" / "a.wav", rng.normal(0, 0.1, 200_000), 44100)
    flags = ["--audios_path", str(tmp_path / "audios"), "--features_path", str(tmp_path / "ours"), "--jobs", "1"]
    assert compute_features.main(flags) == 0
    benchmark.compute_features_plainly(tmp_path / "audios", tmp_path / "plain")
    names = sorted(path.name for path in (tmp_path / "plain" / "piano").iterdir())
    assert names == ["a_000.npy", "a_001.npy"]
    for name in names:
        plain, ours = (np.load(tmp_path / way / "piano" / name) for way in ("plain", "ours"))
        assert plain.dtype == np.float64
        assert plain.shape == ours.shape == (256, 256, 1)
        assert np.abs(plain - ours).max() < 6e-4  # float16


def test_plain_conversion_is_that_of_the_command(write_generator, tmp_path):
    audio = librosa.resample(made_note(60), orig_sr=16000, target_sr=44100)[:170_000]  # no whole number of hops
    soundfile.write(tmp_path / "in.wav", audio, 44100)
    weights_path = write_generator(tmp_path / "generator.h5", base_filters=4)
    flags = ["--model", weights_path, "--input", tmp_path / "in.wav", "--output", tmp_path / "ours.wav"]
    flags += ["--overlap", "0", "--level", "peak", "--subtype", "float", "--gpu", "-1"]
    assert predict.main([*map(str, flags)]) == 0
    benchmark.convert_plainly(str(tmp_path / "in.wav"), str(weights_path), str(tmp_path / "plain.wav"))
    ours, plain = (soundfile.read(tmp_path / f"{way}.wav")[0] for way in ("ours", "plain"))
    plain = np.pad(plain, (0, len(ours) - len(plain)))  # the inverse transform ends with the last whole hop
    plain, ours = plain[:169_000], ours[:169_000]  # behind it the published transform divides by a window near 0
    gain = np.dot(plain, ours) / np.dot(plain, plain)
    # The plain transform is in single precision, which blurs the phase far below the loudest bins.
    assert np.std(ours - gain * plain) < 5e-3 * np.std(ours)


@pytest.mark.slow
def test_parts_with_tensorflow_run(monkeypatch, tmp_path):
    """Small networks and few slices, in this process."""
    import tensorflow as tf

    def measure_here(part, task, gpu, quick):
        sizes = {"step": {"base_filters": 2, "batch_size": 1}}
        return benchmark.PARTS[part](gpu=gpu, quick=quick, **(task | sizes.get(part, {})))

    monkeypatch.setattr(benchmark, "measure_in_child", measure_here)
    try:
        flags = ["--quick", "--gpu", "-1", "--output", str(tmp_path / "b.json")]
        assert benchmark.main([*flags, "--only", "machine", "pipeline", "step"]) == 0
    finally:
        tf.config.run_functions_eagerly(False)
    results = json.loads((tmp_path / "b.json").read_text())["results"]
    assert not [result["error"] for result in results if "error" in result]
    assert all(result["value"] > 0 for result in results)
    assert {"eager", "compiled"} <= {result.get("plain") for result in results}
