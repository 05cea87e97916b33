"""Recordings block by block: no sample is lost, and what is wrong is found before any work."""

import os
import pathlib
import shutil

import numpy as np
import pytest
import soundfile
from made_sounds import write_alac

from common.errors import InputError
from sound.blocks import add_streams, trim_or_pad
from sound.files import (
    AUDIO_EXTENSIONS,
    FORMATS,
    open_recording,
    read_audio,
    read_recording,
    render_to_disk,
    write_audio,
    write_rendering,
)

RATE = 44100


def copy_in_blocks(source, destination, subtype=None):
    """Read a recording and write it as it is, block by block."""
    with (
        open_recording(source) as recording,
        render_to_disk(read_recording(recording), recording.n_channels, pathlib.Path(destination)) as rendering,
    ):
        write_rendering(destination, rendering, 1.0, recording.sample_rate, subtype)


def test_every_format_that_is_written_is_found_in_a_folder():
    assert set(FORMATS) <= set(AUDIO_EXTENSIONS)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_reading_and_writing_changes_no_sample_of_16_bits(tmp_path, extension, n_channels):
    every = np.random.default_rng(0).permutation(np.arange(-(2**15), 2**15).astype(np.int16)).reshape(-1, n_channels)
    soundfile.write(tmp_path / f"source{extension}", every, RATE)
    copy_in_blocks(tmp_path / f"source{extension}", tmp_path / f"copy{extension}")
    found, _ = soundfile.read(tmp_path / f"copy{extension}", dtype="int16", always_2d=True)
    np.testing.assert_array_equal(found, every)


def test_reading_and_writing_changes_no_sample_of_24_bits(tmp_path):
    drawn = np.random.default_rng(0).integers(-(2**23), 2**23, 100_000)
    samples = np.concatenate([[-(2**23), 1 - 2**23, -1, 0, 1, 2**23 - 1], drawn]).astype(np.int32)
    soundfile.write(tmp_path / "source.wav", samples << 8, RATE, subtype="PCM_24")
    copy_in_blocks(tmp_path / "source.wav", tmp_path / "copy.wav", "24")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "copy.wav", dtype="int32")[0] >> 8, samples)


def test_size_peak_and_power_are_counted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, -0.75], [0.25, 0.0]]), 8000, subtype="FLOAT")
    with open_recording(tmp_path / "a.wav") as recording:
        assert (recording.sample_rate, recording.n_channels, recording.n_samples) == (8000, 2, 2)
        assert recording.peak == 0.75
        assert recording.power == (0.25 + 0.5625 + 0.0625) / 4


@pytest.mark.parametrize("extension", [".wav", ".mp3"])
@pytest.mark.parametrize("change", ["truncated", "silenced", "other rate", "removed"])
def test_a_recording_that_changes_while_it_is_read_gives_no_output(tmp_path, extension, change):
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE)
    source = tmp_path / f"source{extension}"
    write_audio(source, sound, RATE)
    with open_recording(source) as recording:
        if change == "truncated":
            os.truncate(source, source.stat().st_size // 2)
        elif change == "silenced":
            write_audio(source, 0 * sound, RATE)
        elif change == "other rate":
            write_audio(source, sound, RATE // 2)
        else:
            source.unlink()
        blocks = read_recording(recording)
        with pytest.raises(InputError, match="source"), render_to_disk(blocks, 1, tmp_path / "out.wav"):
            pytest.fail("the output would be written")
    assert [path.name for path in tmp_path.iterdir()] == [source.name] * (change != "removed")


def test_what_is_no_sound_recording_is_refused_before_any_work(tmp_path):
    soundfile.write(tmp_path / "inf.wav", np.array([0, np.inf]), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "text.wav").write_text("no audio")
    for name, reason in (
        ("inf.wav", "found inf at 0.000 s .sample 1, channel 0"),
        ("empty.wav", "without samples"),
        ("text.wav", "expected audio"),
        ("none.wav", "found nothing"),
        ("", "found a folder"),
    ):
        with pytest.raises(InputError, match=reason), open_recording(tmp_path / name):
            pass


def test_a_recording_that_was_cut_off_is_warned_of_once(tmp_path, capfd):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (4 * RATE, 2)), RATE)
    path.write_bytes(path.read_bytes()[: 2 * RATE * 4])
    with open_recording(path) as recording:
        list(read_recording(recording))
    assert capfd.readouterr().err == f"{path}: found 2.0 of 4.0 s: was it cut off?\n"


def test_a_recording_may_have_any_name(tmp_path):
    path = os.path.join(os.fspath(tmp_path), os.fsdecode(b"caf\xe9.wav"))
    try:
        open(path, "w").close()
    except OSError:
        pytest.skip("the file system takes only Unicode names")
    write_audio(path, np.linspace(-0.5, 0.5, 1000, dtype=np.float32))
    os.rename(path, f"{path}2")
    copy_in_blocks(f"{path}2", path)
    np.testing.assert_array_equal(read_audio(path), read_audio(f"{path}2"))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_what_ffmpeg_made_of_a_recording_lasts_as_long_as_it_is_open(tmp_path, monkeypatch):
    samples = write_alac(tmp_path / "a.m4a")
    monkeypatch.chdir(tmp_path)
    with open_recording("a.m4a") as recording:
        assert (recording.n_samples, recording.n_channels, recording.sample_rate) == (70_000, 2, RATE)
        assert recording.source.name == "a.m4a"
        np.testing.assert_array_equal(np.concatenate(list(read_recording(recording))) * 2**15, samples)
    assert not recording.path.exists()


def test_streams_of_different_blocks_add_up():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1000, 2))
    parts = add_streams(np.split(a, [10, 400, 401]), np.split(b, [300, 999]))
    np.testing.assert_array_equal(np.concatenate(list(parts)), a + b)


@pytest.mark.parametrize("n_samples", [0, 7, 10, 15])
def test_blocks_are_trimmed_or_filled_up_to_a_length(n_samples):
    audio = np.arange(20, dtype=np.float32).reshape(10, 2)
    blocks = list(trim_or_pad(np.split(audio, [4, 4, 9]), n_samples, 2))
    assert all(len(block) for block in blocks)
    found = np.concatenate([np.zeros((0, 2)), *blocks])
    np.testing.assert_array_equal(found, np.pad(audio, ((0, 10), (0, 0)))[:n_samples])
