"""What both predict commands find, skip and refuse, and how flags become settings."""

import pathlib

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, read_refusal, run, write_tone

from common import cli, weights
from conversion import recordings
from conversion.converter import Settings, load_converter


@pytest.fixture(scope="module")
def pair(tmp_path_factory, write_generator):
    """Weights of a generator for a guitar."""
    path = tmp_path_factory.mktemp("model") / "generator.h5"
    return str(write_generator(path, targets=["guitar_acoustic"]))


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def test_every_flag_reaches_its_setting(tmp_path, pair, write_hum2guitar):
    def parse(path, **flags):
        parser = cli.Parser("predict")
        recordings.add_arguments(parser)
        recordings.add_hum_arguments(parser)
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        return recordings.read_settings(parser.parse_args(words), weights.describe(path))

    shared = {"overlap": 0.1, "level": "match", "stereo": "mono", "mix": 0.3, "subtype": "24"}
    of_pair = shared | {"phase": "griffinlim", "input_level": "peak", "high_band": "keep"}
    of_hum = shared | {"f0": "cepstrum", "transpose": -12.0}
    for path, flags in ((pair, of_pair), (write_hum2guitar(tmp_path / "hum.h5"), of_hum)):
        assert parse(path, **flags) == Settings(**flags)
        assert parse(path) == parse(path, transpose="auto", input_level="auto") == Settings()


def test_flags_for_another_kind_of_model_are_refused(tmp_path, pair, write_hum2guitar, capsys):
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    hum = write_hum2guitar(tmp_path / "hum.h5", weights.GLOBAL_GENERATOR)
    for path, flag, value in ((pair, "f0", "cepstrum"), (pair, "transpose", 0),
                              (hum, "phase", "griffinlim"), (hum, "high_band", "keep")):  # fmt: skip
        assert f"--{flag}" in read_refusal(capsys, "--model", path, *ends, f"--{flag}", value)


def test_bad_recordings_and_outputs_are_one_line_and_leave_nothing(tmp_path, pair, capsys):
    write_tone(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, 0], np.float32), RATE, "FLOAT")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "song.mid").write_bytes(b"MThd")
    write_tone(tmp_path / "six.wav", n_channels=6)
    before = sorted(tmp_path.iterdir())
    for source, output, options, named in (
        ("none.wav", "o.wav", [], "none.wav"),
        ("*.xyz", "o", [], "*.xyz"),
        ("text.wav", "o.wav", [], "text.wav"),
        ("empty.wav", "o.wav", [], "empty.wav"),
        ("nan.wav", "o.wav", [], "nan.wav"),
        ("song.mid", "o.wav", [], "synthesize_audios.py"),
        ("good.wav", "good.wav", [], "good.wav"),
        ("good.wav", "o.xyz", [], ".xyz"),
        ("good.wav", "o.mp3", ["--subtype", "24"], "--subtype"),
        ("six.wav", "o.mp3", [], "6 channels"),
        ("good.wav", "o.wav", ["--plot", tmp_path / "o.gif"], "--plot"),
        ("good.wav", "o.wav", ["--overlap", "0.6"], "--overlap"),
        ("good.wav", "o.wav", ["--mix", "1.1"], "--mix"),
        ("good.wav", "file/o.wav", [], "file"),
        (".", "file", [], "--output"),
        (".", "o.wav", [], "--output"),
        ("*.wav", "o", ["--plot", tmp_path / "o.png"], "--plot"),
        ("/dev/zero", "o.wav", [], "/dev/zero"),
    ):
        ends = ["--input", tmp_path / source, "--output", tmp_path / output]
        assert named in read_refusal(capsys, "--model", pair, *ends, *options), (source, output)
    assert "--input" in read_refusal(capsys, "--model", pair, "--output", tmp_path / "o.wav")
    assert "--model" in read_refusal(capsys, "--model", pair, "--to", "guitar", tmp_path / "good.wav")
    assert "--to" in read_refusal(capsys, tmp_path / "good.wav")
    assert sorted(tmp_path.iterdir()) == before


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders_are_mirrored_existing_outputs_skipped_and_bad_recordings_reported(tmp_path, pair, monkeypatch, capsys):
    source, output = tmp_path / "in", tmp_path / "in/converted"
    write_tone(source / "a.wav")
    write_tone(source / "deep/er/b.flac")
    write_tone(source / "deep/.hidden.wav")
    (source / "deep/broken.wav").write_text("no audio")
    (source / "notes.txt").write_text("no recording")
    loads = []
    monkeypatch.setattr("predict.load_converter", lambda *args: loads.append(args) or load_converter(*args))
    assert run("--model", pair, "--input", source, "--output", output) == 1
    assert "broken.wav" in capsys.readouterr().err
    assert written(output) == ["a.guitar.wav", "deep/er/b.guitar.wav"]
    assert len(loads) == 1
    (source / "deep/broken.wav").unlink()
    stamps = [path.stat().st_mtime_ns for path in sorted(output.rglob("*.*"))]
    write_tone(source / "c.wav")
    assert run("--model", pair, "--input", source, "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [str(output / "c.guitar.wav")]
    assert [(output / name).stat().st_mtime_ns for name in ("a.guitar.wav", "deep/er/b.guitar.wav")] == stamps
    assert run("--model", pair, "--input", source, "--output", output, "--overwrite") == 0
    assert (output / "a.guitar.wav").stat().st_mtime_ns > stamps[0]


def test_recordings_of_every_kind_are_found_and_outputs_are_not(tmp_path, pair, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac", "takes/one/c.wav", "x/d1.wav", "x/d1.flac", "x/[2].wav"):
        write_tone(tmp_path / name, 0.01)
    assert run("--model", pair, "a.wav", "b.flac", "takes", "x/d*", "--output", "out") == 0
    expected = ["a.guitar.wav", "b.guitar.wav", "d1.guitar.wav", "d1.wav.guitar.wav", "one/c.guitar.wav"]
    assert written(tmp_path / "out") == expected
    # What a file is called is not a pattern; a folder is made where the name of the output ends in a slash.
    assert run("--model", pair, "--input", "x/[2].wav", "--output", "new/") == 0
    assert written(tmp_path / "new") == ["[2].guitar.wav"]
    # Without --output, outputs are beside their recordings, and the next run does not take them for recordings.
    for _ in range(2):
        assert run("--model", pair, *map(str, sorted((tmp_path / "x").iterdir()))) == 0
        assert run("--model", pair, "takes") == 0
    assert len(written(tmp_path / "x")) == 6
    assert written(tmp_path / "takes.guitar") == ["one/c.guitar.wav"]
    write_tone(tmp_path / "y/a.wav", 0.01)
    write_tone(tmp_path / "z/a.wav", 0.01)
    assert "y/a.wav" in read_refusal(capsys, "--model", pair, "a.wav", "y/a.wav", "z/a.wav", "--output", "both")
    assert not pathlib.Path("both").exists()


def test_pictures_are_beside_the_outputs_or_where_they_are_wanted(tmp_path, pair):
    for name in ("a", "b"):
        write_tone(tmp_path / f"in/{name}.wav")
    assert run("--model", pair, tmp_path / "in", "--plot") == 0
    assert written(tmp_path / "in.guitar") == ["a.guitar.png", "a.guitar.wav", "b.guitar.png", "b.guitar.wav"]
    assert run("--model", pair, tmp_path / "in/a.wav", "--plot", tmp_path / "p/o.png", "--high_band", "keep") == 0
    from matplotlib import image

    picture = image.imread(tmp_path / "p/o.png")
    assert picture.shape[0] > 200
    assert picture[..., :3].std() > 0.1
