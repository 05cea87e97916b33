"""The benchmark runs; the plain conversion gives the result of predict.py."""

import librosa
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from made_notes import made_note

import benchmark
import predict


def test_ratios_to_the_plain_ways_and_share_of_the_matrix_product_rate(monkeypatch, capsys):
    rates = {"matrix_product": (118.0, "GFLOP/s"), "eager": (0.5, "slices/s"), "compiled": (0.8, "slices/s")}

    def measure_in_child(part, way):
        return rates.get(way.get("plain", part.__name__), (1.0, "slices/s"))

    monkeypatch.setattr(benchmark, "measure_in_child", measure_in_child)
    assert benchmark.main(["--gpu", "-1"]) == 0
    expected = "1.00 slices/s   2.00 times eager, 1.25 times compiled, 50 % of the matrix-product rate"
    assert expected in capsys.readouterr().out


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
def test_parts_with_tensorflow_run():
    assert benchmark.matrix_product(-1, "float32")[0] > 0
    assert benchmark.pipeline(n_slices=8)[0] > 0
    try:
        for plain in ("", "compiled", "eager"):
            assert benchmark.step(-1, 2, 1, "float32", plain)[0] > 0
    finally:
        tf.config.run_functions_eagerly(False)
