"""predict.py, run as the user runs it: the files that it writes, kills, full disks and memory."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import PEAK_MEMORY, needs_peak_memory
from made_conversions import RATE, read_refusal, run, write_tone

import predict
from hum2guitar.singing import synthesize_voice
from sound.files import open_recording

ROOT = pathlib.Path(predict.__file__).parent


@pytest.fixture(scope="module")
def pair(tmp_path_factory, write_generator):
    """Weights of a generator for one pair of instruments."""
    return str(write_generator(tmp_path_factory.mktemp("model") / "generator.h5"))


def test_output_in_the_current_folder_and_in_a_new_one(tmp_path, monkeypatch, pair, capsys):
    source = write_tone(tmp_path / "in.wav")
    monkeypatch.chdir(tmp_path)
    assert run("--model", pair, "--input", source, "--output", "out.wav") == 0
    assert run("--model", pair, "--input", source, "--output", "new/folder/out.wav") == 0
    assert capsys.readouterr().out.split() == ["out.wav", "new/folder/out.wav"]
    here, there = (soundfile.read(name)[0] for name in ("out.wav", "new/folder/out.wav"))
    np.testing.assert_array_equal(here, there)
    assert len(here) == round(0.5 * RATE)
    assert 0.85 < np.abs(here).max() < 0.892
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
    """Each format is read and written; sample rate, channels and length are those of the input."""
    source = tmp_path / f"in{extension}"
    write_tone(source, rate=48000, n_channels=2, format=expected[0])
    output = tmp_path / f"out{extension}"
    chosen = ["--subtype", subtype] if subtype else []
    assert run("--model", pair, "--input", source, "--output", output, *chosen) == 0
    info = soundfile.info(output)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (*expected, 48000, 2)
    assert info.frames == open_recording(source).n_samples


def test_sample_rate_stereo_and_level_options_reach_the_file(tmp_path, pair):
    source = write_tone(tmp_path / "in.wav", 1, 48000, 2)
    output = tmp_path / "out.wav"
    options = ["--sample_rate", 22050, "--stereo", "mono", "--level", "match", "--subtype", "float"]
    options += ["--phase", "griffinlim", "--griffinlim_iterations", 2, "--high_band", "keep", "--overlap", 0]
    assert run("--model", pair, "--input", source, "--output", output, *options) == 0
    audio, rate = soundfile.read(output)
    assert (rate, audio.shape) == (22050, (22050,))
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.3 / np.sqrt(2), rel=1e-3)


def test_plot_shows_both_spectrograms(tmp_path, pair):
    source = write_tone(tmp_path / "in.wav", 2)
    assert run("--model", pair, "--input", source, "--output", tmp_path / "o.wav", "--plot", tmp_path / "p/o.png") == 0
    from matplotlib import image

    picture = image.imread(tmp_path / "p/o.png")
    assert picture.shape[0] > 200
    assert picture[..., :3].std() > 0.1


@pytest.mark.parametrize("source", ["none.wav", "nan.wav"])
def test_bad_input_is_reported_without_importing_tensorflow_or_librosa(tmp_path, pair, source):
    soundfile.write(tmp_path / "nan.wav", np.array([np.nan], np.float32), RATE, "FLOAT")
    code = (
        "import sys, predict; status = predict.main(sys.argv[1:]); "
        "sys.exit(status if not {'tensorflow', 'librosa', 'keras'} & set(sys.modules) else 99)"
    )
    argv = ["--model", pair, "--input", str(tmp_path / source), "--output", str(tmp_path / "o.wav")]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert source in done.stderr


@pytest.mark.slow
def test_without_tensorflow_recordings_are_converted_and_evaluated(tmp_path, pair, write_generator, write_hum2guitar):
    """TensorFlow and Keras cannot be imported in this process."""
    multitarget = write_generator(tmp_path / "multitarget.h5", in_channels=2)
    hum = write_hum2guitar(tmp_path / "hum.h5")
    source = write_tone(tmp_path / "in.wav", 0.2)
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "import evaluate, predict, predict_multitarget\n"
        "source, folder, pair, multitarget, hum = sys.argv[1:]\n"
        "for number, model in enumerate((pair, multitarget, hum)):\n"
        "    ends = ['--model', model, '--input', source, '--output', f'{folder}/{number}.wav']\n"
        "    is_styled = model == multitarget\n"
        "    done = predict_multitarget.main([*ends, '--style', source]) if is_styled else predict.main(ends)\n"
        "    pair = ['--origin_audio', source, '--target_audio', source, '--reference_iterations', '1']\n"
        "    if done or evaluate.main(['--model', model, '--output', f'{folder}/report_{number}', *pair]):\n"
        "        sys.exit(f'{model} failed')"
    )
    argv = [source, tmp_path, pair, multitarget, hum]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for number in range(3):
        assert soundfile.info(tmp_path / f"{number}.wav").frames == round(0.2 * RATE)
        assert (tmp_path / f"report_{number}/report.html").exists()


# --- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["conversion.network.OnnxNetwork.__call__", "sound.files.to_pcm"])
def test_a_kill_leaves_no_output(tmp_path, pair, moment):
    """Killed while it converts, or while it writes the output."""
    source, output = write_tone(tmp_path / "in.wav"), tmp_path / "out.wav"
    code = (
        "import os, signal, sys, conversion.network, sound.files, predict\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "predict.main(sys.argv[1:])"
    )
    argv = ["--model", pair, "--input", source, "--output", str(output)]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(tmp_path, pair):
    """A limit on the size of files stands in for a full disk: writes fail in the same places."""
    source = write_tone(tmp_path / "in.wav", 20)
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


def test_a_folder_that_cannot_be_written_to_is_reported_with_the_output(tmp_path, pair, monkeypatch, capsys):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path / "tmpx1y2z3"))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    output = tmp_path / "out.wav"
    captured = read_refusal(capsys, "--model", pair, "--input", write_tone(tmp_path / "in.wav"), "--output", output)
    assert captured.endswith(f"error: {output}: {os.strerror(errno.EROFS)}\n")


def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path, pair, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sound.files.to_pcm", interrupt)
    source = write_tone(tmp_path / "in.wav")
    assert run("--model", pair, "--input", source, "--output", tmp_path / "out.wav") == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def peak_memory(*argv):
    """Peak memory of the command in KiB, in a process of its own."""
    code = f"import sys, predict\nstatus = predict.main(sys.argv[1:])\nprint({PEAK_MEMORY})\nsys.exit(status)"
    argv = [str(word) for word in argv]
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def write_noise(path, seconds):
    """Write stereo noise, the same second again and again; the path."""
    second = np.random.default_rng(0).normal(0, 0.1, (RATE, 2))
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(seconds):
            file.write(second)
    return path


@pytest.mark.slow
@needs_peak_memory
def test_memory_does_not_grow_with_length(tmp_path, write_generator):
    """Peak memory of whole processes: 1 and 5 minutes of stereo differ by less than 10 %.

    Four more minutes are 85 MB as float32; the peak is about 200 MB. One minute already takes many batches of slices.
    """
    network, output = write_generator(tmp_path / "generator.h5", base_filters=2), tmp_path / "out.wav"
    short, long = (
        peak_memory("--model", network, "--input", write_noise(tmp_path / f"{n}.wav", 60 * n), "--output", output)
        for n in (1, 5)
    )
    assert abs(long - short) < 0.1 * short


@pytest.mark.slow
@needs_peak_memory
@pytest.mark.parametrize(("base_filters", "limit_mb"), [(16, 300), (64, 800)])
def test_memory_stays_below_its_limit(tmp_path, write_generator, base_filters, limit_mb):
    network = write_generator(tmp_path / "generator.h5", base_filters=base_filters)
    source = write_noise(tmp_path / "in.wav", 15)  # several full batches of slices
    assert peak_memory("--model", network, "--input", source, "--output", tmp_path / "out.wav") < limit_mb * 1000


@pytest.mark.slow
@needs_peak_memory
def test_memory_of_a_hum_stays_below_its_limit(tmp_path, write_hum2guitar):
    """With more windows and chunks than can wait for each other."""
    network = write_hum2guitar(tmp_path / "generator.h5", base_filters=8)
    source = tmp_path / "hum.wav"
    f0 = np.repeat(np.tile([131.0, 147.0, 0.0, 165.0], 15), 22050 // 2)
    soundfile.write(source, synthesize_voice(f0), 22050)
    assert peak_memory("--model", network, "--input", source, "--output", tmp_path / "out.wav") < 400_000
