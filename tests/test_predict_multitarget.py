"""predict_multitarget.py, run as the user runs it: the style recording."""

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, read_refusal, run, write_tone

import predict_multitarget


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory, write_generator):
    """Weights of a multitarget generator."""
    return str(write_generator(tmp_path_factory.mktemp("model") / "generator.h5", in_channels=2))


def test_multitarget_follows_the_style(tmp_path, weights_path):
    source, low = write_tone(tmp_path / "in.wav"), write_tone(tmp_path / "low.wav")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", rng.uniform(-0.5, 0.5, 8 * RATE), RATE)
    outputs = []
    for style, chosen in ((low, []), (tmp_path / "noise.wav", []), (tmp_path / "noise.wav", ["--style_slice", 1])):
        output = tmp_path / f"{len(outputs)}.wav"
        argv = ["--model", weights_path, "--input", source, "--style", style, "--output", output, *chosen]
        assert run(*argv, command=predict_multitarget) == 0
        outputs.append(soundfile.read(output)[0])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert len({len(audio) for audio in outputs}) == 1
    argv = [
        "--model",
        weights_path,
        "--input",
        source,
        "--style",
        tmp_path / "noise.wav",
        "--output",
        tmp_path / "r.wav",
    ]
    drawn = []
    for seed in (1, 1):
        assert run(*argv, "--style_slice", "random", "--seed", seed, command=predict_multitarget) == 0
        drawn.append(soundfile.read(tmp_path / "r.wav")[0])
    np.testing.assert_array_equal(*drawn)


def test_bad_styles_are_refused_in_one_line(tmp_path, weights_path, capsys):
    ends = ["--model", weights_path, "--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    for options, expected in (
        ([], "--style: expected a recording"),
        (["--style", tmp_path / "silent.wav"], "found silence"),
        (["--style", tmp_path / "none.wav"], "none.wav"),
        (["--style", tmp_path / "in.wav", "--style_slice", "1"], "--style_slice: expected 0 to 0"),
        (["--style", tmp_path / "in.wav", "--style_slice", "loud"], "--style_slice: expected random or a whole number"),
    ):
        assert expected in read_refusal(capsys, *ends, *options, command=predict_multitarget)
    assert not (tmp_path / "out.wav").exists()


def test_the_style_is_read_after_all_other_checks(tmp_path, weights_path, monkeypatch, capsys):
    monkeypatch.setattr("predict_multitarget.read_style", lambda *_: pytest.fail("the style was read"))
    ends = ["--model", weights_path, "--style", "style.wav", "--input", write_tone(tmp_path / "in.wav")]
    for options, expected in (
        (["--output", tmp_path / "o.xyz"], "found .xyz"),
        (["--output", tmp_path / "o.wav", "--input", "none.wav"], "--input: expected"),
        (["--output", tmp_path / "o.wav", "--plot", "o.gif"], "--plot: expected"),
    ):
        assert expected in read_refusal(capsys, *ends, *options, command=predict_multitarget)
