"""The ground floor: settings, names, audio files in and out."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from common import recordings
from common.audio import AUDIO_EXTENSIONS, BLOCK, find_audio, read_audio, read_blocks, to_pcm, write_audio
from common.errors import InputError
from common.files import find_files, writable_folder
from data import PUBLISHED, Representation

RATE = 44100

# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_come_back_from_json():
    other = Representation(sample_rate=22050, n_fft=2048, hop_length=256, amin=1e-5)
    assert Representation.from_dict(json.loads(json.dumps(other.to_dict()))) == other


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sample_rate", 44100.5, "sample_rate 44100.5"),
        ("sample_rate", "44100", "sample_rate '44100'"),
        ("sample_rate", float("inf"), "infinity"),
        ("amin", float("nan"), "amin nan"),
        ("amin", 0.0, "amin above 0"),
        ("hop_length", 300, "multiple of hop_length, found 1024 and 300"),
        ("hop_length", 0, "hop_length above 0"),
        ("n_bins", 514, "at most 513"),
        ("n_frames", None, "NoneType"),
    ],
)
def test_settings_that_nothing_can_be_transformed_with_are_refused(name, value, reason):
    with pytest.raises(InputError, match=r"file\.h5: damaged description") as refusal:
        Representation.from_dict({**PUBLISHED.to_dict(), name: value}, "file.h5")
    assert reason in str(refusal.value)


def test_a_missing_setting_is_named():
    settings = dataclasses.asdict(PUBLISHED)
    del settings["n_fft"]
    with pytest.raises(InputError, match="no n_fft"):
        Representation.from_dict(settings)


# --- files in folders -------------------------------------------------------------------------------------------------


def test_files_are_found_below_and_hidden_ones_are_not(tmp_path):
    names = ["b.wav", "a.WAV", "deep/er/c.m4a", "deep/d.caf", "deep/e.opus", "f.txt", ".g.wav", ".hidden/h.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_audio(tmp_path) == sorted(tmp_path / name for name in names[:5])
    assert find_files(tmp_path, (".txt", ".m4a")) == [tmp_path / "deep/er/c.m4a", tmp_path / "f.txt"]
    assert find_files(f"{tmp_path}/", (".txt",)) == [tmp_path / "f.txt"]


def test_what_can_be_written_is_found():
    assert set(recordings.FORMATS) <= set(AUDIO_EXTENSIONS)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "big/inner").mkdir(parents=True)
    (tmp_path / "big/inner/a.wav").touch()
    (tmp_path / "audios/own").mkdir(parents=True)
    for link, target in (
        ("audios/piano", "big"), ("audios/guitar", "big"), ("big/back", "audios"), ("audios/own/self", "audios/own"),
        ("big/inner/up", "big"),
    ):  # fmt: skip
        (tmp_path / link).symlink_to(tmp_path / target)
    found = find_audio(tmp_path / "audios")
    assert found == [tmp_path / "audios" / name / "inner/a.wav" for name in ("guitar", "piano")]


# --- audio files ------------------------------------------------------------------------------------------------------


def stream(source, destination, subtype=None):
    """Read a recording and write it as it is, block by block."""
    with (
        recordings.opened(source) as recording,
        recordings.rendered(recordings.read(recording), recording.n_channels, pathlib.Path(destination)) as rendering,
    ):
        recordings.write(destination, rendering, 1.0, recording.sample_rate, subtype)


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_reading_and_writing_changes_no_sample_of_16_bits(tmp_path, extension, n_channels):
    every = np.random.default_rng(0).permutation(np.arange(-(2**15), 2**15).astype(np.int16)).reshape(-1, n_channels)
    source, copy, streamed = (tmp_path / f"{name}{extension}" for name in ("source", "copy", "streamed"))
    soundfile.write(source, every, RATE)
    write_audio(copy, read_audio(source, None, mono=False))
    stream(source, streamed)
    for path in (copy, streamed):
        np.testing.assert_array_equal(soundfile.read(path, dtype="int16", always_2d=True)[0], every)


def test_reading_and_writing_changes_no_sample_of_24_bits(tmp_path):
    drawn = np.random.default_rng(0).integers(-(2**23), 2**23, 100_000)
    samples = np.concatenate([[-(2**23), 1 - 2**23, -1, 0, 1, 2**23 - 1], drawn]).astype(np.int32)
    soundfile.write(tmp_path / "source.wav", samples << 8, RATE, subtype="PCM_24")
    stream(tmp_path / "source.wav", tmp_path / "o.wav", "24")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "o.wav", dtype="int32")[0] >> 8, samples)


def test_integer_samples_are_the_nearest_and_clip():
    audio = np.array([1, 2, -2, 0.6 / 2**15, -0.6 / 2**15, 0.4 / 2**15], np.float32)
    np.testing.assert_array_equal(to_pcm(audio, 16), [32767, 32767, -32768, 1, -1, 0])
    np.testing.assert_array_equal(to_pcm(audio[:3], 24), [(2**23 - 1) << 8, (2**23 - 1) << 8, -(2**31)])


@pytest.mark.parametrize("rate", [RATE, 32000])
def test_blocks_joined_are_the_recording(tmp_path, rate):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * rate + 17, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
    blocks = list(read_blocks(tmp_path / "a.wav", RATE, block_seconds=0.7))
    whole = read_audio(tmp_path / "a.wav")
    assert len(blocks) > 4
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    if rate == RATE:
        np.testing.assert_allclose(whole, audio.mean(axis=1), atol=1e-7)


def test_what_is_no_sound_recording_is_said_with_its_place(tmp_path):
    audio = np.zeros((2 * BLOCK, 2), np.float32)
    audio[BLOCK + 5, 1] = np.inf
    soundfile.write(tmp_path / "inf.wav", audio, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "samples.raw").write_bytes(bytes(4000))
    where = f"{(BLOCK + 5) / 8000:.3f} s .sample {BLOCK + 5}, channel 1"
    for name, reason in (
        ("inf.wav", f"found inf at {where}"),
        ("empty.wav", "without samples"),
        ("text.wav", "expected audio"),
        ("samples.raw", "expected audio"),
        ("none.wav", "no such file"),
        ("", "found a folder"),
    ):
        with pytest.raises(InputError, match=reason):
            read_audio(tmp_path / name)
        with pytest.raises(InputError, match=reason):
            list(read_blocks(tmp_path / name))
        with pytest.raises(InputError, match=reason), recordings.opened(tmp_path / name):
            pass


@pytest.mark.parametrize(("name", "form"), [("a.wav", "WAV"), ("a.wav", "WAVEX"), ("a.aiff", "AIFF"), ("a.au", "AU")])
def test_a_recording_that_was_cut_off_is_read_with_a_warning(tmp_path, capfd, name, form):
    path = tmp_path / name
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (4 * RATE, 2)), RATE, format=form)
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: 2 * RATE * 4])
    assert capfd.readouterr().err == ""
    cut = read_audio(path)
    assert 0 <= 2 * RATE - len(cut) < 50
    np.testing.assert_array_equal(cut, whole[: len(cut)])
    list(read_blocks(path))
    with recordings.opened(path) as recording:
        list(recordings.read(recording))
    assert capfd.readouterr().err == f"{path}: found 2.0 of 4.0 s: was it cut off?\n" * 3


def test_a_recording_from_a_pipe_whose_length_nobody_knew_is_not_cut(tmp_path, capfd):
    audio = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)
    write_audio(tmp_path / "a.wav", audio)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), audio, atol=2**-15)
    assert capfd.readouterr().err == ""


def test_a_broken_mp3_is_told_in_our_words_alone(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(tmp_path))  # without ffmpeg
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "holed.mp3", rng.uniform(-0.5, 0.5, 4 * RATE), RATE)
    content = bytearray((tmp_path / "holed.mp3").read_bytes())
    content[15_000:20_000] = rng.bytes(5000)
    (tmp_path / "holed.mp3").write_bytes(content)
    (tmp_path / "noise.mp3").write_bytes(rng.bytes(50_000))
    for name, reason in (("holed.mp3", "found it damaged"), ("noise.mp3", "not readable as mp3; other formats need")):
        with pytest.raises(InputError, match=reason):
            read_audio(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_a_recording_may_have_any_name(tmp_path):
    path = os.path.join(os.fspath(tmp_path), os.fsdecode(b"caf\xe9.wav"))
    try:
        open(path, "w").close()
    except OSError:
        pytest.skip("the file system takes only Unicode names")
    audio = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)
    write_audio(path, audio)
    assert find_audio(tmp_path) == [tmp_path / os.path.basename(path)]
    np.testing.assert_allclose(read_audio(path), audio, atol=2**-16)
    os.rename(path, f"{path}2")
    stream(f"{path}2", path)
    np.testing.assert_array_equal(read_audio(path), read_audio(f"{path}2"))


# --- ffmpeg -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["a.m4a", "named wrongly.mp3", "12:30.m4a", "-v.m4a"])
def test_what_ffmpeg_decodes_has_the_samples_that_were_encoded(tmp_path, monkeypatch, name):
    """Apple's lossless codec, which libsndfile does not read in this container, with whatever name."""
    if sys.platform == "win32" and ":" in name:
        pytest.skip("no such name there")
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (70_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "alac", "-f", "ipod", f"file:{tmp_path / name}"]  # fmt: skip  # noqa: E501
    subprocess.run(command, check=True)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_audio(name, None, mono=False) * 2**15, samples.T)
    with recordings.opened(name) as recording:
        assert (recording.n_samples, recording.n_channels, recording.sample_rate) == (70_000, 2, RATE)
        assert recording.source.name == name
        np.testing.assert_array_equal(np.concatenate(list(recordings.read(recording))) * 2**15, samples)
    assert not recording.path.exists()
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(name, RATE))) * 2**15, samples.mean(axis=1))


def test_without_ffmpeg_the_error_says_what_would_help(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    with pytest.raises(InputError, match=r"a\.m4a: expected audio .*need ffmpeg, and found none on the PATH"):
        read_audio(tmp_path / "a.m4a")


def test_a_folder_to_write_in_is_asked_for_before_the_work(tmp_path):
    assert writable_folder(tmp_path / "new" / "deep", "--output") == tmp_path / "new" / "deep"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    for taken in ("file", "file/below"):
        with pytest.raises(InputError, match=r"--output: expected a folder to write in, found a file at .*file$"):
            writable_folder(tmp_path / taken, "--output")
    if os.geteuid():  # nothing is forbidden to root
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(InputError, match="cannot be written to"):
            writable_folder(tmp_path / "shut", "--output")
