"""What both predict commands find, list, skip and refuse, and how flags become settings."""

import os
import shutil

import numpy as np
import onnxruntime
import pytest
import soundfile
from made_conversions import RATE, read_refusal, run, write_tone

from common import cli, weights
from conversion import command
from conversion.converter import Settings, load_converter
from hum2guitar.converter import HumSettings

# --- arguments --------------------------------------------------------------------------------------------------------


def parse(*argv):
    parser = cli.Parser("predict")
    command.add_arguments(parser)
    command.add_hum_arguments(parser)
    arguments = parser.parse_args(["--model", "m.h5", *map(str, argv)])
    return command.read_settings(arguments, command.read_hum_settings(arguments))


def test_every_flag_reaches_its_setting():
    settings = {
        "overlap": 0.1,
        "phase": "griffinlim",
        "griffinlim_iterations": 3,
        "high_band": "keep",
        "level": "match",
    }
    settings |= {"stereo": "mono", "sample_rate": 22050, "subtype": "24"}
    hum = {"f0": "cepstrum", "transpose": -12.0}
    flags = [word for name, value in (settings | hum).items() for word in (f"--{name}", value)]
    assert parse(*flags) == Settings(**settings, hum=HumSettings(**hum))
    assert parse("--transpose", "auto").hum.transpose is None


def test_flags_for_another_kind_of_model_are_refused(tmp_path, pair, write_hum2guitar, capsys):
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    hum = tmp_path / "hum.h5"
    write_hum2guitar(hum, weights.GLOBAL_GENERATOR)
    for_hum2guitar = {"f0": "cepstrum", "transpose": 0}
    for_others = {"phase": "griffinlim", "high_band": "keep"}
    for path, system, flags in ((pair, "pix2pix", for_hum2guitar), (hum, "hum2guitar", for_others)):
        for flag, value in flags.items():
            message = read_refusal(capsys, "--model", path, *ends, f"--{flag}", value)
            assert f"--{flag}: expected with other models only, found {path} of {system}" in message
    assert run("--model", pair, *ends, "--transpose", "auto", "--phase", "griffinlim") == 0


def test_a_missing_cuda_device_is_reported_in_one_line(tmp_path, pair, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    ends = ["--model", pair, "--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    line = f"{pair}: --gpu 1: onnxruntime-gpu is not installed, works on the CPU\n"
    for asked, expected in ((["--gpu", 1], line), (["--gpu", -1], ""), ([], "")):
        assert run(*ends, *asked) == 0
        assert capsys.readouterr().err == expected


def test_bad_recordings_and_outputs_are_one_line_and_leave_nothing(tmp_path, pair, capsys):
    write_tone(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "text.m4a").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, 0], np.float32), RATE, "FLOAT")
    (tmp_path / "file").write_text("in the way")
    write_tone(tmp_path / "six.wav", n_channels=6)
    before = sorted(tmp_path.iterdir())
    for source, output, options, expected in (
        ("none.wav", "o.wav", [], "found nothing at"),
        ("*.xyz", "o", [], "found none in"),
        ("text.wav", "o.wav", [], "text.wav: expected audio"),
        ("empty.wav", "o.wav", [], "without samples"),
        ("nan.wav", "o.wav", [], "found nan at 0.000 s (sample 1, channel 0)"),
        ("good.wav", "good.wav", [], "not the input itself"),
        ("good.wav", "o.xyz", [], "found .xyz"),
        ("good.wav", "o", [], "found none"),
        ("good.wav", "o.mp3", ["--subtype", "24"], "--subtype: expected none for .mp3, found 24"),
        ("good.wav", "o.flac", ["--subtype", "float"], "expected 16 or 24 for .flac"),
        ("good.wav", "o.mp3", ["--sample_rate", "96000"], "found 96000 Hz and 1 channels"),
        ("six.wav", "o.mp3", [], "6 channels"),
        ("good.wav", "o.wav", ["--sample_rate", "2000000000"], "at least 1000 and at most 768000, found 2000000000"),
        ("good.wav", "o.wav", ["--sample_rate", "1"], "at least 1000"),
        ("good.wav", "o.wav", ["--plot", "o.gif"], "--plot: expected an extension"),
        ("good.wav", "o.wav", ["--overlap", "0.6"], "--overlap: expected a number at least 0 and at most 0.5"),
        ("good.wav", "file/o.wav", [], "file"),
        (".", "file", [], "expected a folder"),
        (".", "o.wav", [], "expected a folder where --input names several recordings, found a file's name: "),
        ("/dev/zero", "o.wav", [], "found no regular file at /dev/zero"),
        (".", "o", ["--plot", "o.png"], "expected with a single recording"),
    ):
        ends = ["--input", tmp_path / source, "--output", tmp_path / output]
        assert expected in read_refusal(capsys, "--model", pair, *ends, *options), (source, output)
    assert "--input: expected with --output" in read_refusal(capsys, "--model", pair, "--output", tmp_path / "o.wav")
    assert sorted(tmp_path.iterdir()) == before


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders_are_mirrored_existing_outputs_skipped_and_bad_recordings_reported(tmp_path, pair, monkeypatch, capsys):
    source, output = tmp_path / "in", tmp_path / "in/converted"
    write_tone(source / "a.wav")
    write_tone(source / "deep/er/b.flac")
    write_tone(source / "deep/.hidden.wav")
    (source / "deep/broken.wav").write_text("no audio")
    (source / "notes.txt").write_text("no recording")
    loads, load = [], load_converter
    monkeypatch.setattr("conversion.command.load_converter", lambda *args: loads.append(args) or load(*args))
    assert run("--model", pair, "--input", source, "--output", output) == 1
    captured = capsys.readouterr()
    assert "1 left out" in captured.err
    assert "broken.wav" in captured.err
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.*")) == ["a.wav", "deep/er/b.flac"]
    assert len(loads) == 1
    (source / "deep/broken.wav").unlink()
    stamps = [p.stat().st_mtime_ns for p in sorted(output.rglob("*.*"))]
    write_tone(source / "c.wav")
    assert run("--model", pair, "--input", source, "--output", output) == 0
    captured = capsys.readouterr()
    assert "2 of 3 already in" in captured.out
    assert captured.out.splitlines()[1:] == [str(output / "c.wav")]
    assert [(output / name).stat().st_mtime_ns for name in ("a.wav", "deep/er/b.flac")] == stamps
    assert run("--model", pair, "--input", source, "--output", output, "--overwrite") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert (output / "a.wav").stat().st_mtime_ns > stamps[0]


def test_file_names_that_are_not_unicode_are_converted(tmp_path, pair):
    source = write_tone(tmp_path / "in/plain.wav")
    try:
        shutil.copy(source, os.fsencode(tmp_path / "in") + b"/caf\xe9.wav")
    except OSError:
        pytest.skip("the file system takes only Unicode names")
    assert run("--model", pair, "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == [b"caf\xe9.wav", b"plain.wav"]
    one = os.fsdecode(b"caf\xe9.wav")
    shutil.copy(source, tmp_path / "in" / one)
    ends = ["--input", tmp_path / "in" / one, "--output", tmp_path / one, "--plot", tmp_path / "o.png"]
    assert run("--model", pair, *ends) == 0
    assert (tmp_path / "o.png").exists()


def test_a_pattern_finds_recordings_and_keeps_their_folders(tmp_path, pair, capsys):
    for name in ("takes/one/a.wav", "takes/two/a.wav", "takes/two/b.flac"):
        write_tone(tmp_path / name)
    assert run("--model", pair, "--input", tmp_path / "takes/*/a.*", "--output", tmp_path / "out") == 0
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["one/a.wav", "two/a.wav"]
    write_tone(tmp_path / "takes/[x].wav")  # if a file of this name exists, it is not a pattern
    assert run("--model", pair, "--input", tmp_path / "takes/[x].wav", "--output", tmp_path / "x.wav") == 0


def test_several_recordings_folders_and_patterns_are_converted_at_once(tmp_path, pair, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac", "takes/one/c.wav", "x/d1.wav", "x/d2.wav"):
        write_tone(tmp_path / name, 0.01)
    assert run("--model", pair, "--input", "a.wav", "b.flac", "takes", "x/d*.wav", "--output", "out") == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.wav", "b.flac", "d1.wav", "d2.wav", "one/c.wav"]
    # A pattern that the shell has replaced by the only recording that it matches.
    assert run("--model", pair, "--input", "a.wav", "--output", "new/") == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]
    # Without --output beside each recording; the outputs of the first run are not taken for recordings.
    for _ in range(2):
        assert run("--model", pair, "--input", *map(str, sorted((tmp_path / "x").iterdir()))) == 0
    assert len(list((tmp_path / "x").iterdir())) == 4
    write_tone(tmp_path / "y/a.wav", 0.01)
    assert "different names, found a.wav and y/a.wav" in read_refusal(
        capsys, "--model", pair, "--input", "a.wav", "y/a.wav", "--output", "both"
    )
    assert not (tmp_path / "both").exists()


def test_the_input_folder_is_refused_as_output_folder(tmp_path, pair, capsys):
    write_tone(tmp_path / "in/a.wav")
    before = (tmp_path / "in/a.wav").read_bytes()
    ends = ["--input", tmp_path / "in", "--output", tmp_path / "in"]
    assert "expected another folder than that of --input" in read_refusal(capsys, "--model", pair, *ends)
    assert (tmp_path / "in/a.wav").read_bytes() == before


def test_formats_that_cannot_be_written_become_wav_under_another_name(tmp_path, pair, monkeypatch):
    write_tone(tmp_path / "in/a.wav")
    write_tone(tmp_path / "in/a.opus", rate=48000, format="OGG", subtype="OPUS")
    monkeypatch.setenv("PATH", "")
    assert run("--model", pair, "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.opus.wav", "a.wav"]
    assert soundfile.info(tmp_path / "out/a.opus.wav").samplerate == 48000


def test_an_output_that_cannot_be_written_costs_no_other(tmp_path, pair, capsys):
    for name in ("a/tone", "b/tone", "tone", "n" * 251):
        write_tone(tmp_path / "in" / f"{name}.wav", 0.01)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b").touch()  # a file in the place of a folder
    assert run("--model", pair, "--input", tmp_path / "in", "--output", tmp_path / "out") == cli.SOME_LEFT_OUT
    said = capsys.readouterr().err
    assert said.startswith("1 left out:")
    assert str(tmp_path / "out/b") in said
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.wav"))
    assert found == ["a/tone.wav", f"{'n' * 251}.wav", "tone.wav"]


def test_a_plot_that_cannot_be_written_is_found_before_the_conversion(tmp_path, pair, capsys):
    (tmp_path / "file").touch()
    ends = ["--input", write_tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    assert "--plot" in read_refusal(capsys, "--model", pair, *ends, "--plot", tmp_path / "file/a.png")
    assert not (tmp_path / "out.wav").exists()
