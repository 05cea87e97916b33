"""predict.py, run as the user runs it: the files that it writes, kills, full disks and memory."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from made_conversions import RATE, run, write_tone

import predict
from models.results import synthesize_voice
from sound.files import read_audio

ROOT = pathlib.Path(predict.__file__).parent


@pytest.fixture(scope="module")
def pair(tmp_path_factory, write_generator):
    """Weights of a generator for one pair of instruments."""
    return str(write_generator(tmp_path_factory.mktemp("model") / "generator.h5"))


def run_python(code, *argv):
    command = [sys.executable, "-c", code, *map(str, argv)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("extension", "subtype", "expected"),
    [
        (".wav", "float", ("WAV", "FLOAT")),
        (".flac", "24", ("FLAC", "PCM_24")),
        (".ogg", None, ("OGG", "VORBIS")),
        (".mp3", None, ("MP3", "MPEG_LAYER_III")),
    ],
)
def test_formats_in_and_out(tmp_path, pair, extension, subtype, expected):
    """Each format is read and written; sample rate, channels and length are those of the input."""
    source, output = tmp_path / f"in{extension}", tmp_path / f"new/folder/out{extension}"
    write_tone(source, rate=48000, n_channels=2, format=expected[0])
    assert run("--model", pair, source, "--output", output, *(["--subtype", subtype] if subtype else [])) == 0
    info = soundfile.info(output)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (*expected, 48000, 2)
    assert info.frames == len(read_audio(source, None))
    assert 0.8 < np.abs(soundfile.read(output)[0]).max() < 1  # a true peak of -1 dB


@pytest.mark.parametrize("moment", ["onnxruntime.InferenceSession.run", "sound.files.to_pcm"])
def test_a_kill_leaves_no_output(tmp_path, pair, moment):
    """Killed while it converts, or while it writes the output."""
    source, output = write_tone(tmp_path / "in.wav"), tmp_path / "out.wav"
    code = (
        "import os, signal, sys, onnxruntime, sound.files, predict\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "predict.main(sys.argv[1:])"
    )
    done = run_python(code, "--model", pair, "--input", source, "--output", output)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()


def test_a_full_disk_is_reported_in_one_line_and_leaves_nothing(tmp_path, pair):
    """A limit on the size of files stands in for a full disk: writes fail in the same places."""
    source, output = write_tone(tmp_path / "in.wav", 20), tmp_path / "out"
    output.mkdir()
    for limit, subtype in ((100_000, "16"), (20 * RATE * 4 + 20, "float")):  # too small for samples, for a header
        code = (
            "import resource, sys, predict\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "sys.exit(predict.main(sys.argv[1:]))"
        )
        done = run_python(code, "--model", pair, source, "--output", output / "o.wav", "--subtype", subtype)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert str(output / "o.wav") in done.stderr
        assert list(output.iterdir()) == []


# An expression for a process's peak memory in KiB. Linux' getrusage would begin with that of the process it was forked
# from, which for a child of pytest is more than a gigabyte.
PEAK_MEMORY = "int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
needs_peak_memory = pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="reads Linux' /proc")


def peak_memory(network, source):
    """Peak memory of the command in KiB, in a process of its own."""
    code = f"import sys, predict\nstatus = predict.main(sys.argv[1:])\nprint({PEAK_MEMORY})\nsys.exit(status)"
    done = run_python(code, "--model", network, source, "--output", source.with_suffix(".out.wav"))
    assert done.returncode == 0, done.stderr
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
    """One and four minutes of stereo, of which three are 64 MB as float32, differ by less than 10 % of some 200 MB."""
    network = write_generator(tmp_path / "generator.h5", base_filters=2)
    short, long = (peak_memory(network, write_noise(tmp_path / f"{n}.wav", 60 * n)) for n in (1, 4))
    assert abs(long - short) < 0.1 * short


@pytest.mark.slow
@needs_peak_memory
def test_memory_stays_below_its_limit(tmp_path, write_generator, write_hum2guitar):
    """Several full batches of slices; more windows and chunks of a hum than can wait for each other.

    A limit is a third above what was measured.
    """
    f0 = np.repeat(np.tile([131.0, 147.0, 0.0, 165.0], 15), 22050 // 2)
    soundfile.write(tmp_path / "hum.wav", synthesize_voice(f0), 22050)
    noise = write_noise(tmp_path / "noise.wav", 15)
    for network, source, limit_mb in (
        (write_generator(tmp_path / "16.h5", base_filters=16), noise, 300),
        (write_generator(tmp_path / "64.h5", base_filters=64), noise, 700),
        (write_hum2guitar(tmp_path / "hum.h5", base_filters=8), tmp_path / "hum.wav", 600),
    ):
        assert peak_memory(network, source) < limit_mb * 1000
