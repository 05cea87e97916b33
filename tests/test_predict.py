"""The two predict commands, run as the user runs them: what they write, say and refuse."""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import soundfile
from conftest import PEAK_MEMORY, needs_peak_memory

import model
import predict
import predict_multitarget
from common import recordings, weights
from conversion import command
from conversion.files import load_converter

ROOT = pathlib.Path(predict.__file__).parent
RATE = 44100


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_generator):
    """A folder of models: one of ours for a pair, one of ours for any target, a published one, and a discriminator."""
    folder = tmp_path_factory.mktemp("models")
    described = {"origin": "keyboard_acoustic", "epoch": 7, "validation_mae": 0.0456}
    for name in ("keyboard_2_guitar", "keyboard_2_any", "published"):
        (folder / name).mkdir()
    write_generator(folder / "keyboard_2_guitar/generator.h5", targets=["guitar_acoustic"], **described)
    write_generator(folder / "keyboard_2_any/generator.h5", 2, targets=["guitar_acoustic", "string"], **described)
    write_generator(folder / "published/generator.h5")
    model.save(model.build_discriminator(4), folder / "keyboard_2_guitar/discriminator.h5", {})
    return folder


@pytest.fixture
def pair(models):
    return str(models / "keyboard_2_guitar/generator.h5")


@pytest.fixture
def anything(models):
    return str(models / "keyboard_2_any/generator.h5")


def tone(path, seconds=0.5, rate=RATE, n_channels=1, **kwargs):
    """Writes a tone to `path` and gives the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(audio[:, np.newaxis], n_channels, 1), rate, **kwargs)
    return str(path)


def run(*argv, command=predict):
    return command.main([str(word) for word in argv])


def refusal(capsys, *argv, command=predict):
    """The one line that the command answers a mistake with."""
    capsys.readouterr()
    try:
        status = run(*argv, command=command)
    except SystemExit as leaving:  # argparse's own
        status = leaving.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.count("\n") == 1
    return said.err


# --- what is written --------------------------------------------------------------------------------------------------


def test_output_in_the_current_folder_and_in_a_new_one(tmp_path, monkeypatch, pair, capsys):
    source = tone(tmp_path / "in.wav")
    monkeypatch.chdir(tmp_path)
    assert run("--model", pair, "--input", source, "--output", "out.wav") == 0
    assert run("--model", pair, "--input", source, "--output", "new/folder/out.wav") == 0
    assert capsys.readouterr().out.split() == ["out.wav", "new/folder/out.wav"]
    here, there = (soundfile.read(name)[0] for name in ("out.wav", "new/folder/out.wav"))
    np.testing.assert_array_equal(here, there)
    assert len(here) == round(0.5 * RATE)
    assert np.abs(here).max() == pytest.approx(1, abs=1e-4)
    assert soundfile.info("out.wav").subtype == "PCM_16"


@pytest.mark.parametrize(
    ("extension", "subtype", "expected"),
    [
        (".wav", None, ("WAV", "PCM_16")),
        (".wav", "24", ("WAV", "PCM_24")),
        (".wav", "float", ("WAV", "FLOAT")),
        (".flac", "24", ("FLAC", "PCM_24")),
        (".ogg", None, ("OGG", "VORBIS")),
        (".mp3", None, ("MP3", "MPEG_LAYER_III")),
        (".aiff", None, ("AIFF", "PCM_16")),
        (".aif", None, ("AIFF", "PCM_16")),
    ],
)
def test_formats_in_and_out(tmp_path, pair, extension, subtype, expected):
    """Each format is read as well as written; the other settings are the input's."""
    source = tmp_path / f"in{extension}"
    tone(source, rate=48000, n_channels=2, format=expected[0])
    output = tmp_path / f"out{extension}"
    chosen = ["--subtype", subtype] if subtype else []
    assert run("--model", pair, "--input", source, "--output", output, *chosen) == 0
    info = soundfile.info(output)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (*expected, 48000, 2)
    assert info.frames == soundfile.info(source).frames


def test_sample_rate_stereo_and_level_options_reach_the_file(tmp_path, pair):
    source = tone(tmp_path / "in.wav", 1, 48000, 2)
    output = tmp_path / "out.wav"
    options = ["--sample_rate", 22050, "--stereo", "mono", "--level", "match", "--subtype", "float"]
    options += ["--phase", "griffinlim", "--griffinlim_iterations", 2, "--high_band", "keep", "--overlap", 0]
    assert run("--model", pair, "--input", source, "--output", output, *options) == 0
    audio, rate = soundfile.read(output)
    assert (rate, audio.shape) == (22050, (22050,))
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.3 / np.sqrt(2), rel=1e-3)


def test_plot_shows_both_spectrograms(tmp_path, pair):
    source = tone(tmp_path / "in.wav", 2)
    assert run("--model", pair, "--input", source, "--output", tmp_path / "o.wav", "--plot", tmp_path / "p/o.png") == 0
    from matplotlib import image

    picture = image.imread(tmp_path / "p/o.png")
    assert picture.shape[0] > 200
    assert picture[..., :3].std() > 0.1


def test_multitarget_follows_the_style(tmp_path, anything):
    source, low = tone(tmp_path / "in.wav"), tone(tmp_path / "low.wav")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", rng.uniform(-0.5, 0.5, 8 * RATE), RATE)
    outputs = []
    for style, chosen in ((low, []), (tmp_path / "noise.wav", []), (tmp_path / "noise.wav", ["--style_slice", 1])):
        output = tmp_path / f"{len(outputs)}.wav"
        argv = ["--model", anything, "--input", source, "--style", style, "--output", output, *chosen]
        assert run(*argv, command=predict_multitarget) == 0
        outputs.append(soundfile.read(output)[0])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert len({len(audio) for audio in outputs}) == 1
    argv = ["--model", anything, "--input", source, "--style", tmp_path / "noise.wav", "--output", tmp_path / "r.wav"]
    drawn = []
    for seed in (1, 1):
        assert run(*argv, "--style_slice", "random", "--seed", seed, command=predict_multitarget) == 0
        drawn.append(soundfile.read(tmp_path / "r.wav")[0])
    np.testing.assert_array_equal(*drawn)


# --- models -----------------------------------------------------------------------------------------------------------


def test_without_input_it_lists_the_models(models, capsys):
    assert run("--model", models) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # the discriminator is none
    assert lines[0].startswith(str(models / "keyboard_2_any/generator.h5"))
    for word in ("keyboard_acoustic to guitar_acoustic, string", "epoch 7", "0.0456", "predict_multitarget.py"):
        assert word in lines[0]
    assert lines[1].endswith("(predict.py)")
    assert "published" in lines[2]


def test_a_damaged_model_in_the_list_is_reported_and_the_rest_listed(tmp_path, write_generator, capsys):
    write_generator(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    write_generator(tmp_path / "c.h5", 3)
    write_generator(tmp_path / "d.h5")
    assert run("--model", tmp_path) == 1
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == [str(tmp_path / "a.h5"), str(tmp_path / "d.h5")]
    assert "b.h5" in said.err
    assert "c.h5: expected 1 or 2 input channels, found 3" in said.err


def test_a_folder_with_one_generator_is_its_model(tmp_path, models, capsys):
    source = tone(tmp_path / "in.wav")
    assert run("--model", models / "keyboard_2_guitar", "--input", source, "--output", tmp_path / "out.wav") == 0
    said = refusal(capsys, "--model", models, "--input", source, "--output", tmp_path / "other.wav")
    assert "expected one generator, found several" in said


def test_a_model_folder_is_its_own_generator_whatever_lies_below(tmp_path, write_generator, capsys):
    """hum2guitar's folder holds one of each stage beside the final one."""
    for stage in ("1_global", "2_local", "."):
        write_generator(tmp_path / "m" / stage / "generator.h5", origin=stage, targets=["guitar"])
    write_generator(tmp_path / "m/generator_best.h5")
    assert command.describe_generator(tmp_path / "m").path == tmp_path / "m/generator.h5"
    (tmp_path / "m/generator.h5").unlink()
    assert "found several" in refusal(capsys, "--model", tmp_path / "m", "--input", tone(tmp_path / "a.wav"))


def test_weights_of_the_other_command_are_refused_with_its_name(tmp_path, pair, anything, models, capsys):
    ends = ["--input", tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    assert "use predict_multitarget.py" in refusal(capsys, "--model", anything, *ends)
    style = ["--style", tmp_path / "in.wav"]
    assert "use predict.py" in refusal(capsys, "--model", pair, *ends, *style, command=predict_multitarget)
    discriminator = models / "keyboard_2_guitar/discriminator.h5"
    assert "found those of a discriminator" in refusal(capsys, "--model", discriminator, *ends)
    assert not (tmp_path / "out.wav").exists()


def test_bad_weights_are_named(tmp_path, pair, write_generator, capsys):
    ends = ["--input", tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    (tmp_path / "text.h5").write_text("weights")
    (tmp_path / "cut.h5").write_bytes(pathlib.Path(pair).read_bytes()[:-50_000])
    write_generator(tmp_path / "three.h5", 3)
    weights.write(tmp_path / "other.h5", [("dense", [("dense/kernel:0", np.zeros((4, 4)))])], {})
    for name, expected in (
        ("none.h5", "found nothing"), ("text.h5", "another kind of file"), ("cut.h5", "truncated or damaged"),
        ("three.h5", "1 or 2 input channels, found 3"), ("other.h5", "network of this project"),
    ):  # fmt: skip
        said = refusal(capsys, "--model", tmp_path / name, *ends)
        assert name in said
        assert expected in said
    assert "another kind of file" in refusal(capsys, "--model", tmp_path / "in.wav")
    (tmp_path / "empty").mkdir()
    assert "none in" in refusal(capsys, "--model", tmp_path / "empty")
    assert not (tmp_path / "out.wav").exists()


def test_flags_for_another_kind_of_model_are_refused(tmp_path, pair, write_hum2guitar, capsys):
    ends = ["--input", tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    hum = tmp_path / "hum.h5"
    write_hum2guitar(hum, weights.GLOBAL_GENERATOR)
    for_hums = {"f0": "cepstrum", "f0_min": 50, "f0_max": 500, "transpose": 0, "mel_inverse": "published"}
    for_others = {"phase": "hybrid", "high_band": "keep"}
    for path, system, flags in ((pair, "pix2pix", for_hums), (hum, "hum2guitar", for_others)):
        for flag, value in flags.items():
            said = refusal(capsys, "--model", path, *ends, f"--{flag}", value)
            assert f"--{flag}: expected with other models only, found {path} of {system}" in said
    assert run("--model", pair, *ends, "--transpose", "auto", "--phase", "hybrid") == 0


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_recordings_and_outputs_are_one_line_and_leave_nothing(tmp_path, pair, capsys):
    good = tone(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "text.m4a").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, 0], np.float32), RATE, "FLOAT")
    (tmp_path / "file").write_text("in the way")
    tone(tmp_path / "six.wav", n_channels=6)
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
        assert expected in refusal(capsys, "--model", pair, *ends, *options), (source, output)
    assert "--output: expected" in refusal(capsys, "--model", pair, "--input", good)
    assert "--input: expected with --output" in refusal(capsys, "--model", pair, "--output", tmp_path / "o.wav")
    assert sorted(tmp_path.iterdir()) == before


def test_bad_styles_are_one_line(tmp_path, anything, capsys):
    ends = ["--model", anything, "--input", tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    for options, expected in (
        ([], "--style: expected a recording"),
        (["--style", tmp_path / "silent.wav"], "found silence"),
        (["--style", tmp_path / "none.wav"], "none.wav"),
        (["--style", tmp_path / "in.wav", "--style_slice", "1"], "--style_slice: expected 0 to 0"),
        (["--style", tmp_path / "in.wav", "--style_slice", "loud"], "--style_slice: expected random or a whole number"),
    ):
        assert expected in refusal(capsys, *ends, *options, command=predict_multitarget)
    assert not (tmp_path / "out.wav").exists()


def test_a_style_is_read_when_all_else_was_found_fit(tmp_path, anything, monkeypatch, capsys):
    monkeypatch.setattr("conversion.pix2pix.read_style", lambda *_: pytest.fail("the style was read"))
    ends = ["--model", anything, "--style", "style.wav", "--input", tone(tmp_path / "in.wav")]
    for options, expected in (
        (["--output", tmp_path / "o.xyz"], "found .xyz"),
        ([], "--output: expected"),
        (["--output", tmp_path / "o.wav", "--input", "none.wav"], "--input: expected"),
        (["--output", tmp_path / "o.wav", "--plot", "o.gif"], "--plot: expected"),
    ):
        assert expected in refusal(capsys, *ends, *options, command=predict_multitarget)


@pytest.mark.parametrize("source", ["none.wav", "nan.wav"])
def test_bad_input_is_answered_without_tensorflow_or_librosa(tmp_path, pair, source):
    soundfile.write(tmp_path / "nan.wav", np.array([np.nan], np.float32), RATE, "FLOAT")
    code = (
        "import sys, predict; status = predict.main(sys.argv[1:]); "
        "sys.exit(status if not {'tensorflow', 'librosa', 'keras'} & set(sys.modules) else 99)"
    )
    argv = ["--model", pair, "--input", str(tmp_path / source), "--output", str(tmp_path / "o.wav")]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert source in done.stderr


@pytest.mark.parametrize("kind", ["pair", "any", "hum"])
def test_without_tensorflow_recordings_are_converted_and_evaluated(tmp_path, pair, anything, write_hum2guitar, kind):
    """TensorFlow and Keras cannot be imported in this process."""
    model_path = {"pair": pair, "any": anything}.get(kind) or write_hum2guitar(tmp_path / "hum.h5")
    source = tone(tmp_path / "in.wav", 0.2)
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "import evaluate, predict, predict_multitarget\n"
        "model_path, source, output, report, kind = sys.argv[1:]\n"
        "ends = ['--model', model_path, '--input', source, '--output', output]\n"
        "styled = [*ends, '--style', source]\n"
        "done = predict_multitarget.main(styled) if kind == 'any' else predict.main(ends)\n"
        "pair = ['--origin_audio', source, '--target_audio', source, '--reference_iterations', '1']\n"
        "sys.exit(done or evaluate.main(['--model', model_path, '--output', report, *pair]))"
    )
    argv = [model_path, source, tmp_path / "o.wav", tmp_path / "report", kind]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "o.wav").frames == round(0.2 * RATE)
    assert (tmp_path / "report/report.html").exists()


# --- ffmpeg -----------------------------------------------------------------------------------------------------------


def test_what_libsndfile_cannot_read_goes_through_ffmpeg_or_says_that_it_would(tmp_path, pair, monkeypatch, capsys):
    """ffmpeg played by a script that copies its input's sound from a wav beside it, or fails as ffmpeg does."""
    source = tmp_path / "in.m4a"
    source.write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    argv = ["--model", pair, "--input", source, "--output", tmp_path / "out.wav"]
    said = refusal(capsys, *argv)
    assert "in.m4a" in said
    assert "need ffmpeg" in said
    tone(tmp_path / "sound.caf", 1, 48000, 2, format="CAF")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/ffmpeg"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"assert 'file:{source}' in sys.argv\nshutil.copy('{tmp_path / 'sound.caf'}', sys.argv[-1])\n"
    )
    script.chmod(0o755)
    assert run(*argv) == 0
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.samplerate, info.channels, info.frames) == (48000, 2, 48000)
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('in.m4a: Invalid data found')\n")
    assert "ffmpeg found none: in.m4a: Invalid data found" in refusal(capsys, *argv[:-1], tmp_path / "other.wav")


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_that_was_asked_for_and_is_not_there_is_said_in_one_line(tmp_path, pair, monkeypatch, capsys):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    ends = ["--model", pair, "--input", tone(tmp_path / "in.wav"), "--output", tmp_path / "out.wav"]
    line = f"{pair}: --gpu 1: onnxruntime-gpu is not installed, works on the CPU\n"
    for asked, expected in ((["--gpu", 1], line), (["--gpu", -1], ""), ([], "")):
        assert run(*ends, *asked) == 0
        assert capsys.readouterr().err == expected


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_mirrored_done_ones_skipped_and_bad_ones_reported(tmp_path, pair, monkeypatch, capsys):
    source, output = tmp_path / "in", tmp_path / "in/converted"
    tone(source / "a.wav")
    tone(source / "deep/er/b.flac")
    tone(source / "deep/.hidden.wav")
    (source / "deep/broken.wav").write_text("no audio")
    (source / "notes.txt").write_text("no recording")
    loads, load = [], load_converter
    monkeypatch.setattr("conversion.files.load_converter", lambda *args: loads.append(args) or load(*args))
    assert run("--model", pair, "--input", source, "--output", output) == 1
    said = capsys.readouterr()
    assert "1 left out" in said.err
    assert "broken.wav" in said.err
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.*")) == ["a.wav", "deep/er/b.flac"]
    assert len(loads) == 1
    (source / "deep/broken.wav").unlink()
    stamps = [p.stat().st_mtime_ns for p in sorted(output.rglob("*.*"))]
    tone(source / "c.wav")
    assert run("--model", pair, "--input", source, "--output", output) == 0
    said = capsys.readouterr()
    assert "2 of 3 already in" in said.out
    assert said.out.splitlines()[1:] == [str(output / "c.wav")]
    assert [(output / name).stat().st_mtime_ns for name in ("a.wav", "deep/er/b.flac")] == stamps
    assert run("--model", pair, "--input", source, "--output", output, "--overwrite") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert (output / "a.wav").stat().st_mtime_ns > stamps[0]


def test_a_folder_with_a_name_that_is_no_text_is_converted(tmp_path, pair):
    source = tone(tmp_path / "in/plain.wav")
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


def test_a_pattern_names_recordings_and_keeps_their_folders(tmp_path, pair, capsys):
    for name in ("takes/one/a.wav", "takes/two/a.wav", "takes/two/b.flac"):
        tone(tmp_path / name)
    assert run("--model", pair, "--input", tmp_path / "takes/*/a.*", "--output", tmp_path / "out") == 0
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["one/a.wav", "two/a.wav"]
    tone(tmp_path / "takes/[x].wav")  # a name with brackets is a name where such a file exists
    assert run("--model", pair, "--input", tmp_path / "takes/[x].wav", "--output", tmp_path / "x.wav") == 0


def test_a_folder_is_not_its_own_output(tmp_path, pair, capsys):
    tone(tmp_path / "in/a.wav")
    before = (tmp_path / "in/a.wav").read_bytes()
    ends = ["--input", tmp_path / "in", "--output", tmp_path / "in"]
    assert "expected another folder than that of --input" in refusal(capsys, "--model", pair, *ends)
    assert (tmp_path / "in/a.wav").read_bytes() == before


def test_formats_that_are_only_read_become_wav_under_a_name_of_their_own(tmp_path, pair, monkeypatch):
    tone(tmp_path / "in/a.wav")
    tone(tmp_path / "in/a.opus", rate=48000, format="OGG", subtype="OPUS")  # libsndfile reads it without ffmpeg
    monkeypatch.setenv("PATH", "")
    assert run("--model", pair, "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.opus.wav", "a.wav"]
    assert soundfile.info(tmp_path / "out/a.opus.wav").samplerate == 48000


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["conversion.network.OnnxNetwork.__call__", "common.recordings._quantize"])
def test_kill_leaves_no_file_under_the_final_name(tmp_path, pair, moment):
    """Killed while it converts, and while it writes the output."""
    source, output = tone(tmp_path / "in.wav"), tmp_path / "out.wav"
    code = (
        "import os, signal, sys, conversion.network, common.recordings, predict\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "predict.main(sys.argv[1:])"
    )
    argv = ["--model", pair, "--input", source, "--output", str(output)]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, pair):
    """The system's own limit of a file's size stands in for the disk: writes beyond it fail in the same places."""
    source = tone(tmp_path / "in.wav", 20)
    output = tmp_path / "out"
    output.mkdir()
    for limit, subtype in ((100_000, "16"), (20 * RATE * 4 + 20, "float")):  # too small for samples, for a header
        code = (
            "import resource, sys, predict\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "sys.exit(predict.main(sys.argv[1:]))"
        )
        argv = ["--model", pair, "--input", source, "--output", str(output / "o.wav"), "--subtype", subtype]
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
        assert str(output / "o.wav") in done.stderr
        assert list(output.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told_with_the_output(tmp_path, pair, monkeypatch, capsys):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "tmpx1y2z3"))

    monkeypatch.setattr(recordings.tempfile, "TemporaryFile", refuse)
    output = tmp_path / "out.wav"
    said = refusal(capsys, "--model", pair, "--input", tone(tmp_path / "in.wav"), "--output", output)
    assert said.endswith(f"error: {output}: {os.strerror(errno.EROFS)}\n")


def test_interrupted_is_130_and_leaves_nothing(tmp_path, pair, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("common.recordings._quantize", interrupt)
    source = tone(tmp_path / "in.wav")
    assert run("--model", pair, "--input", source, "--output", tmp_path / "out.wav") == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def peak_memory(*argv):
    """KiB of memory that the command needs at most, in a process of its own."""
    code = f"import sys, predict\nstatus = predict.main(sys.argv[1:])\nprint({PEAK_MEMORY})\nsys.exit(status)"
    argv = [str(word) for word in argv]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def noise_file(path, minutes):
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(minutes):
            file.write(rng.normal(0, 0.1, (60 * RATE, 2)))
    return path


@pytest.mark.slow
@needs_peak_memory
def test_memory_does_not_grow_with_length(tmp_path, write_generator):
    """Peak memory of whole processes: 3 and 60 minutes of stereo differ by less than 10 %."""
    network, output = write_generator(tmp_path / "generator.h5", base_filters=2), tmp_path / "out.wav"
    short, long = (
        peak_memory("--model", network, "--input", noise_file(tmp_path / f"{n}.wav", n), "--output", output)
        for n in (3, 60)
    )
    assert abs(long - short) < 0.1 * short


@pytest.mark.slow
@needs_peak_memory
@pytest.mark.parametrize(("base_filters", "limit_mb"), [(16, 700), (64, 1300)])
def test_memory_stays_below_its_limit(tmp_path, write_generator, base_filters, limit_mb):
    network = write_generator(tmp_path / "generator.h5", base_filters=base_filters)
    source = noise_file(tmp_path / "in.wav", 1)
    assert peak_memory("--model", network, "--input", source, "--output", tmp_path / "out.wav") < limit_mb * 1000
