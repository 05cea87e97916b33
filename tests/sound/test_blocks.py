"""Audio files in and out: every format and name, exact samples, and files that are no sound recordings."""

import os
import shutil
import sys
import types

import numpy as np
import pytest
import soundfile
from made_sounds import write_alac

from common.errors import InputError
from sound.blocks import CountedBlocks, TruePeak, resample, resample_blocks, to_pcm
from sound.files import (
    BLOCK,
    find_audio,
    find_ffmpeg,
    iterate_blocks,
    open_audio,
    read_audio,
    read_blocks,
    render_to_disk,
    write_audio,
    write_rendering,
)

RATE = 44100


def write_in_blocks(path, sound):
    with render_to_disk([sound[:, np.newaxis]], 1, path) as rendering:
        write_rendering(path, rendering, 1.0, RATE)


def test_recordings_are_found_by_their_extension(tmp_path):
    for name in ("b.wav", "a.WAV", "c.m4a", "d.caf", "e.opus", "f.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_audio(tmp_path)] == ["a.WAV", "b.wav", "c.m4a", "d.caf", "e.opus"]


def test_a_folder_without_recordings_is_named_with_its_flag(tmp_path):
    for folder, found in ((tmp_path, "found none in"), (tmp_path / "none", "found nothing at")):
        with pytest.raises(InputError, match=f"--audios_path: expected .*{found}"):
            find_audio(folder, "--audios_path")


@pytest.mark.parametrize("extension", [".wav", ".flac", ".aiff"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_reading_and_writing_changes_no_sample_of_16_bits(tmp_path, extension, n_channels):
    every = np.random.default_rng(0).permutation(np.arange(-(2**15), 2**15).astype(np.int16)).reshape(-1, n_channels)
    source, copy = (tmp_path / f"{name}{extension}" for name in ("source", "copy"))
    soundfile.write(source, every, RATE)
    write_audio(copy, read_audio(source, None, mono=False))
    np.testing.assert_array_equal(soundfile.read(copy, dtype="int16", always_2d=True)[0], every)


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
        ("none.wav", "found nothing"),
        ("", "found a folder"),
    ):
        with pytest.raises(InputError, match=reason):
            read_audio(tmp_path / name)
        with pytest.raises(InputError, match=reason):
            list(read_blocks(tmp_path / name))


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
    assert capfd.readouterr().err == f"{path}: found 2.0 of 4.0 s: was it cut off?\n" * 2


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


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("name", ["a.m4a", "named wrongly.mp3", "12:30.m4a", "-v.m4a"])
def test_what_ffmpeg_decodes_has_the_samples_that_were_encoded(tmp_path, monkeypatch, name):
    if sys.platform == "win32" and ":" in name:
        pytest.skip("no such name there")
    samples = write_alac(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_audio(name, None, mono=False) * 2**15, samples.T)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(name, RATE))) * 2**15, samples.mean(axis=1))


def test_without_ffmpeg_the_error_says_what_would_help(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # not installed
    with pytest.raises(InputError, match=r"a\.m4a: expected audio .*need ffmpeg, .*: pip install imageio-ffmpeg"):
        read_audio(tmp_path / "a.m4a")


def test_ffmpeg_may_come_from_pip(tmp_path, monkeypatch):
    """The system's goes before that of the package, which may have none for this system."""
    package = types.ModuleType("imageio_ffmpeg")
    package.get_ffmpeg_exe = lambda: "ffmpeg of the package"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", package)
    system = tmp_path / ("ffmpeg.exe" if os.name == "nt" else "ffmpeg")
    system.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == str(system)
    system.unlink()
    assert find_ffmpeg() == "ffmpeg of the package"

    def has_none():
        raise RuntimeError("No ffmpeg exe could be found")

    package.get_ffmpeg_exe = has_none
    assert find_ffmpeg() is None


def test_what_is_made_of_counted_blocks_is_cut_to_their_length():
    counted = CountedBlocks([np.ones(3), np.ones(0), np.ones(4)])
    made = ([*block, 9, 9] for block in counted)  # two samples more a block
    assert [len(block) for block in counted.trim(made)] == [3, 4]
    assert counted.n_samples == 7


# --- files that are not trusted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 99, 10**7 + 1, 2**31 - 1])
def test_a_sample_rate_that_no_sound_has_is_refused(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", np.zeros(4000), rate)
    with pytest.raises(InputError, match=rf"a\.wav: expected a sample rate .* found {rate} Hz"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("rates", [(100, 44100), (44100, 10**7), (10**7, 44100)])
def test_resampled_blocks_are_small_whatever_the_rates_are(rates):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 5000).astype(np.float32)
    blocks = list(resample_blocks([sound], *rates))
    assert max(map(len, blocks)) < 1.5 * 2**20
    np.testing.assert_array_equal(np.concatenate(blocks), resample(sound, *rates))


def test_one_sample_stays_one_at_least(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), 192000)
    assert read_audio(tmp_path / "a.wav", 44100).shape == (1,)
    assert read_audio(tmp_path / "a.wav", 22050, mono=False).shape == (1, 1)
    assert [block.shape for block in read_blocks(tmp_path / "a.wav", 22050)] == [(0,), (1,)]


def test_a_recording_that_is_too_long_to_be_read_whole_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("sound.files.MAX_AUDIO", 4000)
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 1000)
    assert len(read_audio(tmp_path / "a.wav", 4000)) == 4000
    with pytest.raises(InputError, match=r"a\.wav: expected .* up to 4000 samples"):
        read_audio(tmp_path / "a.wav", 4001)


def test_many_channels_are_read_in_smaller_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("sound.files.MAX_BLOCK", 1024)
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 256)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 44100, subtype="FLOAT")
    with open_audio(tmp_path / "a.wav") as file:
        assert [len(block) for block in iterate_blocks(file, "a.wav")] == [4] * 5
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", None, mono=False), sound.T)


def test_an_mp3_that_cannot_be_searched_is_read(tmp_path, monkeypatch):
    write_audio(tmp_path / "a.mp3", np.zeros(3000), 44100)
    expected = len(read_audio(tmp_path / "a.mp3"))
    monkeypatch.setattr(soundfile.SoundFile, "seekable", lambda file: False)
    assert len(read_audio(tmp_path / "a.mp3")) == expected
    assert sum(map(len, read_blocks(tmp_path / "a.mp3"))) == expected


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_recording_that_may_not_be_read_is_said_to_be_so(tmp_path):
    write_audio(tmp_path / "a.wav", np.zeros(3000), 44100)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("write", [write_audio, write_in_blocks])
def test_what_cannot_be_written_says_why(tmp_path, write):
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "file/a.wav", "file"), (tmp_path / f"{'a' * 256}.wav", "File name too long")):
        with pytest.raises(OSError, match=reason):
            write(path, np.zeros(300, np.float32))
    write(tmp_path / f"{'a' * 251}.wav", np.zeros(300, np.float32))


def test_the_true_peak_lies_between_the_samples():
    time = np.arange(4000)
    quarter = np.sin(2 * np.pi * 0.25 * time + np.pi / 4).astype(np.float32)  # samples at 0.707 only
    other = 0.9 * np.sin(2 * np.pi * 0.2 * time).astype(np.float32)
    for channels, expected in (([quarter], 1), ([other, 0.5 * quarter], 0.9), ([0.01 * quarter], 0.01)):
        whole, parts = TruePeak(), TruePeak()
        stream = np.stack(channels, axis=1) * np.hanning(4000).astype(np.float32)[:, np.newaxis]
        whole.add(stream)
        for part in np.split(stream, [1, 5, 30, 1999, 2001]):
            parts.add(part)
        assert whole.value == pytest.approx(expected, rel=0.01)
        assert parts.value == pytest.approx(whole.value, rel=1e-6)


def test_the_true_peak_of_short_streams_is_at_least_that_of_the_samples():
    for n in (0, 1, 23, 24, 25):
        meter = TruePeak()
        meter.add(np.full((n, 2), -0.5, np.float32))
        assert (0.5 if n else 0) <= meter.value < 0.75


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{other}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{other}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 4000 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
}


@pytest.mark.skipif(find_ffmpeg() is None, reason="needs ffmpeg")
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_no_recording(tmp_path, kind):
    write_audio(tmp_path / "other.wav", 0.1 * np.ones(3000), RATE)
    (tmp_path / "a.m4a").write_text(PLAYLISTS[kind].format(other=tmp_path / "other.wav"))
    with pytest.raises(InputError, match=r"a\.m4a: expected audio, and ffmpeg found none"):
        read_audio(tmp_path / "a.m4a")
