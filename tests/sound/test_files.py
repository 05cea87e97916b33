"""Recordings in and out: every format, exact samples, files that players play though they are odd, files of strangers.

Each input is made here, by PyAV, by soundfile, or by editing bytes.
"""

import fractions
import os
import pathlib

import av
import numpy as np
import pytest
import soundfile

from common import InputError
from sound.files import (
    AUDIO_EXTENSIONS,
    BLOCK,
    FORMATS,
    choose_format,
    find_audio,
    open_audio,
    read_audio,
    read_blocks,
    spool,
    write_audio,
    write_blocks,
)

RATE = 44100
LOSSLESS = [
    ("flac", "flac"), ("ipod", "alac"), ("wv", "wavpack"), ("tta", "tta"), ("matroska", "pcm_s16le"),
    ("wav", "pcm_s16le"), ("mov", "pcm_s16be"), ("aiff", "pcm_s16be"), ("au", "pcm_s16be"), ("caf", "pcm_s16le"),
    ("w64", "pcm_s16le"), ("avi", "pcm_s16le"), ("ogg", "flac"),
]  # fmt: skip
# With the delay of the encoder, where the format does not tell it.
LOSSY = [
    ("mp3", "libmp3lame", 0), ("ogg", "libopus", 0), ("matroska", "libopus", 0), ("mp4", "aac", 0), ("mov", "aac", 0),
    ("adts", "aac", 1024), ("ac3", "ac3", 256), ("mpegts", "mp2", 481), ("mp2", "mp2", 481),
]  # fmt: skip


def encode(path, form, codec, samples, rate=RATE, start=0.0):
    """Write int16 `samples`, ``(n, n_channels)``, that begin at `start` seconds, after a picture at 0 s."""
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(str(path), "w", format=form) as container:
        video = container.add_stream("mpeg4", rate=25, width=16, height=16) if start else None
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = next(
            (kind for kind in stream.codec.audio_formats if kind.name.startswith("s16")), stream.codec.audio_formats[0]
        )
        if video:
            picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")
            container.mux(video.encode(picture))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "s16", layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, fractions.Fraction(1, rate), round(start * rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise(n, n_channels=1, seed=0):
    return np.random.default_rng(seed).integers(-8000, 8000, (n, n_channels)).astype(np.int16)


def tone(n, n_channels=1, rate=RATE):
    wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)
    return np.tile(np.round(wave).astype(np.int16)[:, np.newaxis], (1, n_channels))


def edit(path, start, content):
    """Replace bytes of a file."""
    changed = bytearray(path.read_bytes())
    changed[start : start + len(content)] = content
    path.write_bytes(changed)
    return path


def copy_in_blocks(source, destination):
    """Read a recording and write it as it is, block by block."""
    with open_audio(source) as audio, spool(audio.blocks, audio.n_channels, pathlib.Path(destination)) as spooled:
        form = choose_format(destination, audio.sample_rate, audio.n_channels, n_bits=audio.n_bits)
        write_blocks(destination, spooled.blocks(), spooled.shape, audio.sample_rate, form)


# --- every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "codec"), LOSSLESS)
def test_lossless_formats_give_the_samples_that_were_encoded_whatever_the_name(tmp_path, form, codec):
    samples = noise(30_012, 2)
    path = encode(tmp_path / "name.mp3", form, codec, samples)
    np.testing.assert_array_equal(read_audio(path, None, mono=False) * 2**15, samples.T)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, RATE))) * 2**15, samples.mean(axis=1))


@pytest.mark.parametrize(("form", "codec", "delay"), LOSSY)
def test_lossy_formats_begin_with_the_first_sample(tmp_path, form, codec, delay):
    rate = 48000 if codec == "libopus" else RATE
    samples = np.repeat(noise(rate // 8, 2), 8, axis=0)  # low frequencies, which all codecs keep
    found = read_audio(encode(tmp_path / "a.wav", form, codec, samples, rate), None)
    assert len(samples) <= len(found) <= len(samples) + 5000
    expected = np.pad(samples.mean(axis=1), (0, len(found) - len(samples)))
    fits = np.fft.irfft(np.fft.rfft(found) * np.conj(np.fft.rfft(expected)))
    assert abs(np.argmax(fits) - delay) <= 1


@pytest.mark.parametrize(
    ("extension", "bits"), [(".wav", 16), (".wav", 24), (".flac", 24), (".aiff", 16), (".w64", 24)]
)
def test_reading_and_writing_changes_no_sample(tmp_path, extension, bits):
    top, drawn = 2 ** (bits - 1), np.random.default_rng(0)
    samples = np.concatenate([[-top, 1 - top, -1, 0, 1, top - 1], drawn.integers(-top, top, 100_000)])
    source, copy = tmp_path / f"source{extension}", tmp_path / os.fsdecode(b"caf\xe9" + extension.encode())
    soundfile.write(source, (samples << 32 - bits).astype(np.int32).reshape(-1, 2), RATE, subtype=f"PCM_{bits}")
    copy_in_blocks(source, copy)
    assert soundfile.info(os.fsencode(copy)).subtype == f"PCM_{bits}"
    np.testing.assert_array_equal(soundfile.read(os.fsencode(copy), dtype="int32")[0].ravel() >> 32 - bits, samples)


def test_the_output_keeps_the_depth_of_the_input_where_its_format_has_it(tmp_path):
    for subtype in ("PCM_16", "PCM_U8", "ULAW", "PCM_24", "PCM_32", "FLOAT"):
        soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE, subtype=subtype)
        with open_audio(tmp_path / "a.wav") as audio:
            n_bits = audio.n_bits
        assert n_bits == (24 if subtype in ("PCM_24", "PCM_32", "FLOAT") else 16)
        assert choose_format("a.flac", RATE, 1, None, n_bits) == ("FLAC", "PCM_24" if n_bits == 24 else None)
        assert choose_format("a.mp3", RATE, 1, None, n_bits) == ("MP3", None)


@pytest.mark.parametrize("n_channels", [3, 5, 6, 7, 8])
def test_channels_of_ogg_keep_the_order_of_wav(tmp_path, n_channels):
    time = np.arange(RATE) / RATE
    pitches = 60 + 10 * np.arange(n_channels)
    write_audio(tmp_path / "a.wav", 0.1 * np.sin(2 * np.pi * pitches[:, np.newaxis] * time))
    copy_in_blocks(tmp_path / "a.wav", tmp_path / "a.ogg")
    channels = read_audio(tmp_path / "a.ogg", None, mono=False)
    assert [round(np.argmax(np.abs(np.fft.rfft(channel[:RATE])))) for channel in channels] == list(pitches)


# --- odd files that players play --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "codec"), [("ogg", "libopus"), ("mp3", "libmp3lame")])
@pytest.mark.parametrize("second", [(48000, 1), (48000, 2), (44100, 2)])
def test_all_parts_of_a_chain_are_read_whatever_their_rate_and_channels(tmp_path, form, codec, second):
    rate, n_channels = (48000, 1) if codec == "libopus" else (44100, 1)
    second = (48000, second[1]) if codec == "libopus" else second
    parts = [(rate, n_channels), second]
    files = [encode(tmp_path / f"{i}", form, codec, tone(2 * r, n, r), r) for i, (r, n) in enumerate(parts)]
    path = tmp_path / "chained"
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    with open_audio(path) as opened:
        assert (opened.sample_rate, opened.n_channels) == (rate, n_channels)
    audio = read_audio(path, None)
    assert 4 * rate - 600 <= len(audio) <= 4 * rate + 5000
    for seconds in (0.5, 1.5, 2.5, 3.5):  # the tone goes on at its pitch and level
        part = audio[round(seconds * rate) :][: rate // 4]
        assert np.argmax(np.abs(np.fft.rfft(part))) == 110
        assert np.sqrt(2 * np.mean(part**2)) == pytest.approx(8000 / 2**15, rel=0.1)


@pytest.mark.parametrize(
    ("name", "places", "announced"),
    [("a.flac", [22], n.to_bytes(4, "big")) for n in (0, 10)]  # the low bits of STREAMINFO's number of samples
    + [("a.wav", [4, 40], n.to_bytes(4, "little")) for n in (0, 2**32 - 1, 2**31 - 1)],
)
def test_a_length_that_was_not_known_is_found_without_a_warning(tmp_path, capfd, name, places, announced):
    samples = noise(10_000, 2)
    soundfile.write(tmp_path / name, samples, RATE)
    for place in places:
        edit(tmp_path / name, place, announced)
    np.testing.assert_array_equal(read_audio(tmp_path / name, None, mono=False) * 2**15, samples.T)
    assert capfd.readouterr().err == ""


def test_damaged_parts_are_skipped_and_never_silent(tmp_path, capfd):
    path = edit(encode(tmp_path / "a.mp3", "mp3", "libmp3lame", noise(4 * RATE)), 15_000, bytes(5000))
    assert 3.3 * RATE < len(read_audio(path, None)) < 4 * RATE
    assert capfd.readouterr().err.count("damaged packet") == 1
    path = encode(tmp_path / "a.ogg", "ogg", "libopus", noise(4 * 48000), 48000)
    edit(path, path.stat().st_size // 2, b"damaged")
    assert len(read_audio(path, None)) < 3.5 * 48000
    assert "of 4.0 s" in capfd.readouterr().err


@pytest.mark.parametrize(("start", "n_expected"), [(0.5, 66_150), (0, 44_100)])
def test_sound_that_begins_after_the_picture_keeps_its_place(tmp_path, start, n_expected):
    samples = noise(RATE)
    audio = read_audio(encode(tmp_path / "a.mkv", "matroska", "pcm_s16le", samples, start=start), None)
    assert len(audio) == n_expected
    np.testing.assert_array_equal(audio[-RATE:] * 2**15, samples[:, 0])
    assert not audio[:-RATE].any()


@pytest.mark.parametrize(
    ("name", "form"), [("a.wav", "WAV"), ("a.wav", "WAVEX"), ("a.aiff", "AIFF"), ("a.flac", "FLAC")]
)
def test_a_recording_that_was_cut_off_is_read_with_one_warning(tmp_path, capfd, name, form):
    path, samples = tmp_path / name, noise(4 * RATE, 2)
    soundfile.write(path, samples, RATE, format=form)
    os.truncate(path, path.stat().st_size // 2)
    cut = read_audio(path, None, mono=False).T
    assert 0 <= 2 * RATE - len(cut) < 5000
    np.testing.assert_array_equal(cut * 2**15, samples[: len(cut)])
    assert capfd.readouterr().err.count("damaged or cut off?") == 1


# --- files that are not trusted ---------------------------------------------------------------------------------------


def test_what_is_no_recording_is_refused_in_one_line(tmp_path, capfd):
    audio = np.zeros((2 * BLOCK, 2), np.float32)
    audio[BLOCK + 5, 1] = np.inf
    soundfile.write(tmp_path / "inf.wav", audio, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "99.wav", np.zeros(4000), 99)
    soundfile.write(tmp_path / "other.wav", np.zeros(3000), RATE)
    other = tmp_path / "other.wav"
    contents = {
        "empty.wav": "", "text.snd": "<html>a page</html>" * 100, "noise.gsm": "x" * 5000,
        "hls.m4a": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{other}\n#EXT-X-ENDLIST\n",
        "concat.wav": f"ffconcat version 1.0\nfile '{other}'\n",
        "sdp.wav": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 4000 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    for name in ("inf.wav", "none.wav", "99.wav", *contents, "missing.wav", ""):
        with pytest.raises(InputError) as refused:
            read_audio(tmp_path / name)
        assert name in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", [".wav", ".mp3"])
@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 9000), lambda path: path.write_bytes(bytes(9))])
def test_a_recording_that_changes_while_it_is_read_gives_no_output(tmp_path, extension, change):
    source = tmp_path / f"source{extension}"
    write_audio(source, noise(3 * RATE)[:, 0] / 2**15, RATE)
    with open_audio(source) as audio:
        change(source)
        with pytest.raises(InputError), spool(audio.blocks, 1, tmp_path / "out.wav"):
            pytest.fail("the output would be written")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


# --- folders, names, levels, writing ----------------------------------------------------------------------------------


def test_recordings_are_found_by_their_extension_and_others_counted(tmp_path, capsys):
    assert set(FORMATS) <= set(AUDIO_EXTENSIONS)
    for name in ("b.wav", "a.WAV", "c.m4b", "d.caf", "e.mkv", "f.txt", "g", "synthesis.json"):
        (tmp_path / name).touch()
    assert [path.name for path in find_audio(tmp_path)] == ["a.WAV", "b.wav", "c.m4b", "d.caf", "e.mkv"]
    assert " 2 other files skipped" in capsys.readouterr().err
    for folder in (tmp_path / "none", tmp_path / "missing"):
        (tmp_path / "none").mkdir(exist_ok=True)
        with pytest.raises(InputError):
            find_audio(folder)
