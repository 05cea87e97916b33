"""predict_multitarget.py, run as the user runs it: the style recording."""

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, make_sine, read_refusal, run, write_tone

import predict_multitarget
from common.files import write_array
from data import compute_features


@pytest.fixture
def weights_path(tmp_path, write_generator):
    """Weights of a multitarget generator, beside the style of a tone."""
    tone = sum(make_sine(440 * k, 3, level=0.3 / k) for k in range(1, 9))
    write_array(tmp_path / "model/styles/tone.npy", compute_features(tone)[0].astype(np.float16))
    return write_generator(tmp_path / "model/generator.h5", in_channels=2)


def test_the_style_decides_and_its_name_is_in_that_of_the_output(tmp_path, weights_path, capsys):
    source, tone = write_tone(tmp_path / "in.wav"), tmp_path / "another tone.wav"
    soundfile.write(tone, sum(make_sine(443 * k, 6, level=0.1 / k) for k in range(1, 9)), RATE)
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8 * RATE), RATE)
    outputs = []
    for style, chosen, said in (
        (tone, [], "out"),
        (tmp_path / "noise.wav", [], "err"),
        (tmp_path / "noise.wav", ["--style_slice", "random"], "err"),
    ):
        argv = ["--model", weights_path, source, "--style", style, *chosen]
        assert run(*argv, command=predict_multitarget) == 0
        captured = capsys.readouterr()
        assert "tone" in getattr(captured, said)  # what the style is taken for, or a warning that it resembles nothing
        assert (captured.err == "") == (said == "out")
        outputs.append(soundfile.read(captured.out.splitlines()[-1])[0])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert {path.name for path in tmp_path.glob("in.*.wav")} == {"in.like_another_tone.wav", "in.like_noise.wav"}


def test_bad_styles_are_refused_in_one_line(tmp_path, weights_path, capsys):
    ends = ["--model", weights_path, "--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    for options in (
        [],
        ["--style", tmp_path / "silent.wav"],
        ["--style", tmp_path / "none.wav"],
        ["--style", tmp_path / "in.wav", "--style_slice", "1"],
        ["--style", tmp_path / "in.wav", "--style_slice", "loud"],
    ):
        read_refusal(capsys, *ends, *options, command=predict_multitarget)
    assert not (tmp_path / "out.wav").exists()
