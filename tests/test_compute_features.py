"""The command that turns recordings into slices: against librosa, and what it leaves out and refuses."""

import json
import os
import pathlib
import signal

import librosa
import numpy as np
import pytest
import soundfile

import compute_features
import data
from common.files import temporary_folder
from sound.files import read_audio


def made_audio(seconds: float, rate: int = 44100, seed: int = 0) -> np.ndarray:
    """A chirp with some noise, both below 4 kHz so that any format and rate keeps them."""
    time = np.arange(int(seconds * rate)) / rate
    chirp = np.sin(2 * np.pi * (200 * time + 1500 * time**2 / max(seconds, 1)))
    noise = np.random.default_rng(seed).normal(0, 0.05, len(time))
    return (0.5 * chirp + np.convolve(noise, np.ones(16) / 16, "same")).astype(np.float32)


def expected_features(path: pathlib.Path) -> np.ndarray:
    """The published features by librosa's own transform, float64 (n_slices, 256, 256)."""
    audio, _ = librosa.load(path, sr=44100, mono=True, res_type="soxr_hq")
    window = np.hanning(1024)
    spectrum = librosa.stft(audio.astype(np.float64), n_fft=1024, hop_length=512, window=window)
    magnitude = 2 * np.abs(spectrum[:256]) / window.sum()
    level = 20 * np.log1p(magnitude * 2**16) / (20 * np.log1p(2**16))
    level = np.pad(level, ((0, 0), (0, -level.shape[1] % 256)))
    return np.stack(np.split(level, level.shape[1] // 256, axis=1))


@pytest.fixture
def run(tmp_path, capsys):
    """Run the command in tmp_path; gives exit status, stdout, stderr."""

    def run(*flags, audios="audios", features="features", jobs=1):
        argv = ["--audios", tmp_path / audios, "--features", tmp_path / features, "--jobs", jobs, *flags]
        return compute_features.main([str(arg) for arg in argv]), *capsys.readouterr()

    return run


@pytest.fixture
def audios(tmp_path):
    """Two instruments with one piece of 7 s each."""
    for seed, instrument in enumerate(("guitar", "piano")):
        path = tmp_path / "audios" / instrument / "piece.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, made_audio(7, seed=seed), 44100)
    return tmp_path / "audios"


def written(folder: pathlib.Path) -> dict[str, bytes]:
    """The files below `folder`; what a killed process was just writing lies there under a hidden name."""
    paths = (path for path in sorted(folder.rglob("*.npy")) if not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("extension", "rate", "channels"),
    [("wav", 44100, 2), ("flac", 48000, 2), ("mp3", 32000, 1)],
)
def test_slices_equal_those_of_librosa(run, tmp_path, extension, rate, channels):
    path = tmp_path / "audios" / "flute" / f"piece.{extension}"
    path.parent.mkdir(parents=True)
    audio = np.stack([made_audio(7.4, rate, seed) for seed in range(channels)], axis=1)
    soundfile.write(path, audio, rate)
    status, out, err = run()
    assert (status, err) == (0, "")
    expected = expected_features(path)
    assert f"{len(expected)} slices written of 1 recording, 0 recordings already there" in out
    names = [f"flute/piece_{index:03d}.npy" for index in range(len(expected))]
    assert list(written(tmp_path / "features")) == names
    for name, level in zip(names, expected, strict=True):
        content = np.load(tmp_path / "features" / name)
        assert (content.dtype, content.shape) == (np.float16, (256, 256, 1))
        assert content.min() >= 0
        assert content.max() <= 1
        # float16 has 11 bits; below 1e-3 (0.02 dB above nothing) the float32 transform shows.
        np.testing.assert_allclose(content[..., 0], level, rtol=2**-11, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.005, 2.9721, 256 * 512 * 4 / 44100, 256 * 512 * 8 / 44100 - 1e-4, 31.2])
def test_blocks_leave_no_seam(tmp_path, seconds):
    # 0.005 s is less than a window; the others end at, just before or far from a slice's, a block's or a read's end.
    path = tmp_path / "a.wav"
    soundfile.write(path, made_audio(seconds), 44100, subtype="FLOAT")
    whole = data.compute_features(read_audio(path))
    np.testing.assert_array_equal(np.stack(list(compute_features.feature_slices(str(path)))), whole)
    assert len(whole) == -(-(1 + int(seconds * 44100) // 512) // 256)


def test_a_run_writes_what_is_missing_empty_or_of_another_recording(run, tmp_path, audios):
    assert "6 slices written of 2 recordings" in run()[1]
    features = tmp_path / "features"
    before = written(features)
    times = {name: os.stat(features / name).st_mtime_ns for name in before if "guitar" in name}
    assert "0 slices written of 0 recordings, 2 recordings already there" in run()[1]
    for number in range(3):  # the first as an interrupted run leaves it, one between others, the last
        for damage in (pathlib.Path.unlink, lambda path: path.write_bytes(b"")):
            damage(features / f"piano/piece_{number:03d}.npy")
            assert "3 slices written of 1 recording, 1 recording already there" in run()[1]
            assert written(features) == before
    assert times == {name: os.stat(features / name).st_mtime_ns for name in times}
    # Replaced by an older and shorter recording.
    soundfile.write(audios / "piano/piece.wav", made_audio(2, seed=9), 44100)
    os.utime(audios / "piano/piece.wav", ns=(2**59, 2**59))
    assert "1 slice written of 1 recording, 1 recording already there" in run()[1]
    assert [name for name in written(features) if "piano" in name] == ["piano/piece_000.npy"]
    assert "4 slices written of 2 recordings, 0 recordings already there" in run("--overwrite")[1]
    # Replaced by what is no recording: the slices of the old one must not be trained on.
    (audios / "guitar/piece.wav").write_text("no audio")
    assert run()[0] == 1
    assert list(written(features)) == ["piano/piece_000.npy"]


def test_an_interrupted_piece_is_finished_by_the_next_run(run, tmp_path, audios, monkeypatch):
    save, count = np.save, []

    def interrupt(*args):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", interrupt)
        assert run()[0] == 128 + signal.SIGINT
    assert 0 < len(written(tmp_path / "features")) < 6
    with temporary_folder(tmp_path / "features/piano") as left:
        left.with_name(left.name.replace(str(os.getpid()), str(2**30))).mkdir()  # by a process that was killed
    run()
    run(features="whole", jobs=2)
    assert written(tmp_path / "features") == written(tmp_path / "whole")
    assert not list((tmp_path / "features").rglob(".*"))


def test_features_of_other_settings_are_refused_unless_overwritten(run, tmp_path, audios):
    features = tmp_path / "features"
    run()
    settings = json.loads((features / "features.json").read_text())
    (features / "features.json").write_text(json.dumps({**settings, "hop_length": 256}))
    (features / "piano/gone_000.npy").write_bytes(b"of the other settings")
    before = written(features)
    status, out, err = run()
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "--features_path: " in err
    assert written(features) == before
    assert run("--overwrite")[0] == 0
    assert json.loads((features / "features.json").read_text()) == settings
    assert sorted(written(features)) == sorted(name for name in before if "gone" not in name)


def test_bad_recordings_are_left_out_and_the_rest_goes_on(run, tmp_path, audios):
    (audios / "piano/text.wav").write_text("no audio")
    soundfile.write(audios / "piano/empty.wav", np.zeros(0), 44100)
    nan = made_audio(40)
    nan[-5:] = np.nan  # found after slices have been written
    soundfile.write(audios / "piano/nan.wav", nan, 44100, subtype="FLOAT")
    soundfile.write(audios / "piano/piece.flac", made_audio(1), 44100)
    soundfile.write(audios / "astray.wav", made_audio(1), 44100)
    soundfile.write(audios / "piano/piece.guitar.wav", made_audio(1), 44100)  # an output of predict.py
    # Outputs that cannot be written: no room for a slice's number in the name, a file in an instrument's place.
    soundfile.write(audios / "piano" / f"{'a' * 248}.wav", np.zeros(2000), 44100)
    (audios / "zither").mkdir()
    soundfile.write(audios / "zither/b.wav", np.zeros(2000), 44100)
    (tmp_path / "features").mkdir()
    (tmp_path / "features/zither").touch()
    status, out, err = run()
    assert status == 1
    assert "2 recordings" in out
    lines = err.splitlines()
    assert lines[0] == "7 left out:"
    assert len(lines) == 8
    for name in ("text.wav", "empty.wav", "nan.wav", "piece.wav: ", "astray.wav", "aaa.wav", "zither"):
        assert any(name in line for line in lines[1:])
    names = {name.rsplit("_", 1)[0] for name in written(tmp_path / "features")}
    assert names == {"guitar/piece", "piano/piece"}


def test_folders_without_recordings_get_one_line_and_nothing_is_left(run, tmp_path):
    assert run()[0] == 2  # no folder
    (tmp_path / "audios/piano").mkdir(parents=True)
    soundfile.write(tmp_path / "audios/a.wav", made_audio(1), 44100)  # not in the folder of an instrument
    status, _, err = run()
    assert (status, err.count("\n")) == (2, 1)
    assert "--audios_path" in err
    (tmp_path / "audios/piano/a.wav").write_text("no audio")
    assert run()[0] == 1
    assert not (tmp_path / "features").exists()
