"""The command: its uses, its errors in one line, its files."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from made_sounds import RATE, melody, tone, write
from made_weights import write_generator

import data
import evaluate
from common import plots


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two pairs in folders, one origin without counterpart, and a model; the current folder is theirs. No pictures."""
    monkeypatch.setattr(plots, "spectrogram_png", lambda *_: b"")
    for name, pitch in (("one", 60), ("two", 65)):
        write(tmp_path / "piano" / f"{name}.wav", tone(pitch, 0.4))
        write(tmp_path / "guitar" / f"{name}.wav", tone(pitch, 0.4, decay=8))
    write(tmp_path / "piano" / "three.wav", tone(60, 0.4))
    write_generator(tmp_path / "models" / "piano_2_guitar" / "generator.h5", origin="piano", targets=["guitar"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_recordings_and_two_models(folders, capsys):
    write_generator(folders / "models" / "other" / "generator.h5", seed=1)
    models = ["--model", "models/piano_2_guitar", "models/other/generator.h5"]
    pair = ["--origin_audio", "piano/one.wav", "--target_audio", "guitar/one.wav"]
    assert evaluate.main([*models, *pair]) == 0
    output = capsys.readouterr().out
    for text in ("[1] copy the input", "[6] other", "report/report.html"):
        assert text in output
    content = json.loads(pathlib.Path("report/report.json").read_text())
    assert list(content["columns"]) == ["copy", "input_phase", "griffinlim", "bypass", "piano_2_guitar", "other"]
    values = content["pairs"][0]["values"]
    assert values["bypass"]["mae"] < values["input_phase"]["mae"] < values["copy"]["mae"] < values["other"]["mae"]
    assert values["other"] != values["piano_2_guitar"]


def test_folders_are_evaluated_and_what_is_left_out_is_status_1(folders, capsys):
    write(folders / "guitar" / "three.flac")
    (folders / "piano" / "three.wav").write_text("no audio")
    write(folders / "guitar" / "four.wav")
    arguments = ["--origin_audio", "piano", "--target_audio", "guitar", "--output", "a/b"]
    assert evaluate.main(["--model", "models/piano_2_guitar", *arguments]) == 1
    error = capsys.readouterr().err
    assert "three" in error
    assert "four.wav" in error
    content = json.loads(pathlib.Path("a/b/report.json").read_text())
    assert [pair["name"] for pair in content["pairs"]] == ["one", "two"]
    assert len(content["left_out"]) == 2


def test_a_data_set_is_evaluated_on_the_pieces_held_out(folders):
    for instrument in ("piano", "guitar"):
        (folders / "features" / instrument).mkdir(parents=True)
        for i in range(4):
            np.save(folders / "features" / instrument / f"piece_{i}_000.npy", data.compute_features(melody(i))[0])
            write(folders / "audios" / instrument / f"piece_{i}.wav", melody(i))
    (folders / "holdout.txt").write_text("piece_1\npiece_3\n")
    arguments = ["--dataset", "features", "--audios_path", "audios", "--holdout", "holdout.txt"]
    assert evaluate.main(["--model", "models/piano_2_guitar", *arguments]) == 0
    content = json.loads(pathlib.Path("report/report.json").read_text())
    assert [pair["name"] for pair in content["pairs"]] == ["piece_1", "piece_3"]
    assert evaluate.main(["--check", "audios"]) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--check"),
        (["--origin_audio", "piano/one.wav"], "--target_audio"),
        (["--dataset", "features"], "--audios_path"),
        (["--check", "nowhere"], "nowhere"),
        (["--origin_audio", "piano", "--target_audio", "guitar", "--align", "x"], "--align"),
        (["--origin_audio", "piano", "--target_audio", "guitar", "--model", "none"], "none"),
        (["--dataset", "none", "--audios_path", "x", "--origin", "a", "--target", "b"], "none"),
        (["--origin_audio", "damaged", "--target_audio", "guitar"], "no pair can be read"),
        (["--origin_audio", "bad.wav", "--target_audio", "guitar/one.wav"], "bad.wav"),
    ],
)
def test_mistakes_are_one_line_and_status_2(folders, capsys, arguments, named):
    (folders / "damaged").mkdir()
    for name in ("bad.wav", "damaged/one.wav", "damaged/two.wav"):
        (folders / name).write_text("no audio")
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err
    assert named in error
    assert len(error.splitlines()) == 1
    assert not pathlib.Path("report").exists()


@pytest.mark.slow
def test_the_command_itself_without_a_model_and_without_tensorflow(tmp_path):
    write(tmp_path / "o.wav", melody())
    write(tmp_path / "t.wav", np.concatenate([melody(3), np.zeros(RATE // 10, np.float32)]))
    pair = ["--origin_audio", "o.wav", "--target_audio", "t.wav"]
    command = [sys.executable, "-X", "importtime", evaluate.__file__, *pair]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "the target is 0.100 s longer" in done.stdout
    assert "| tensorflow" not in done.stderr
    assert (tmp_path / "report" / "report.html").stat().st_size > 50_000
