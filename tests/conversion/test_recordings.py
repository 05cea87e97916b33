"""What both predict commands find, skip and refuse; and whole files: length, rate, channels and level, with networks
whose output is known."""

import pathlib

import numpy as np
import pytest
import scipy.signal
import soundfile
from made_conversions import (
    RATE,
    decibels,
    load_network,
    make_converter,
    make_music,
    make_sine,
    read_refusal,
    run,
    write_tone,
)

from common import InputError, cli, weights
from conversion import recordings
from conversion.converter import HIGH_BANDS, INPUT_LEVELS, LEVELS, PHASES, STEREO, Settings, load_converter
from conversion.recordings import convert_audio, convert_file


@pytest.fixture(scope="module")
def pair(tmp_path_factory, write_generator):
    """Weights of a generator for a guitar."""
    path = tmp_path_factory.mktemp("model") / "generator.h5"
    return str(write_generator(path, targets=["guitar_acoustic"]))


@pytest.fixture
def convert(tmp_path):
    """A function that writes a recording, converts it and gives back the output and its rate."""

    def run(audio, network=None, rate=RATE, **settings):
        chosen = Settings(**{"level": "none", "subtype": "float"} | settings)
        soundfile.write(tmp_path / "in.wav", audio.T, rate, "FLOAT")
        made = make_converter(**{"generator": network} if network else {}, **vars(chosen))
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, chosen)
        converted, found = soundfile.read(tmp_path / "out.wav", dtype="float32")
        return converted.T, found

    return run


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def rms(audio):
    return np.sqrt(np.mean(np.square(audio)))


def test_every_flag_reaches_its_setting_and_those_of_the_other_system_are_refused(tmp_path, pair, write_hum2guitar):
    def parse(path, **flags):
        parser = cli.Parser("predict")
        recordings.add_arguments(parser)
        recordings.add_hum_arguments(parser)
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        return recordings.read_settings(parser.parse_args(words), weights.describe(path))

    shared = {"overlap": 0.1, "level": "match", "stereo": "mono", "mix": 0.3, "subtype": "24"}
    of_pair = {"phase": "griffinlim", "input_level": "peak", "high_band": "keep"}
    of_hum = {"f0": "cepstrum", "transpose": -12.0}
    hum = write_hum2guitar(tmp_path / "hum.h5")
    for path, flags, others in ((pair, shared | of_pair, of_hum), (hum, shared | of_hum, of_pair)):
        assert parse(path, **flags) == Settings(**flags)
        assert parse(path, transpose="auto", input_level="auto") == Settings()
        for name, value in others.items():
            with pytest.raises(InputError):
                parse(path, **{name: value})


def test_bad_recordings_and_outputs_are_one_line_and_leave_nothing(tmp_path, pair, capsys):
    write_tone(tmp_path / "good.wav")
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan, 0], np.float32), RATE, "FLOAT")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    (tmp_path / "song.mid").write_bytes(b"MThd")
    write_tone(tmp_path / "six.wav", n_channels=6)
    before = sorted(tmp_path.iterdir())
    for source, output, options, named in (
        ("none.wav", "o.wav", [], "none.wav"),
        ("*.xyz", "o", [], "*.xyz"),
        ("empty", "o", [], "--input"),
        ("text.wav", "o.wav", [], "text.wav"),
        ("nan.wav", "o.wav", [], "nan.wav"),
        ("song.mid", "o.wav", [], "synthesize_audios.py"),
        ("good.wav", "good.wav", [], "good.wav"),
        ("good.wav", "o.xyz", [], ".xyz"),
        ("good.wav", "o.mp3", ["--subtype", "24"], "--subtype"),
        ("six.wav", "o.mp3", [], "6 channels"),
        ("good.wav", "o.wav", ["--plot", tmp_path / "o.gif"], "--plot"),
        ("good.wav", "file/o.wav", [], "file"),
        (".", "file", [], "--output"),
        (".", "o.wav", [], "--output"),
        ("*.wav", "o", ["--plot", tmp_path / "o.png"], "--plot"),
        ("/dev/zero", "o.wav", [], "/dev/zero"),
    ):
        ends = ["--input", tmp_path / source, "--output", tmp_path / output]
        assert named in read_refusal(capsys, "--model", pair, *ends, *options), (source, output)
    assert "--input" in read_refusal(capsys, "--model", pair, "--output", tmp_path / "o.wav")
    assert "--model" in read_refusal(capsys, "--model", pair, "--to", "guitar", tmp_path / "good.wav")
    assert "--to" in read_refusal(capsys, tmp_path / "good.wav")
    assert sorted(tmp_path.iterdir()) == before


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders_are_mirrored_existing_outputs_skipped_and_bad_recordings_reported(tmp_path, pair, monkeypatch, capsys):
    source, output = tmp_path / "in", tmp_path / "in/converted"
    write_tone(source / "a.wav")
    write_tone(source / "deep/er/b.flac")
    write_tone(source / "deep/.hidden.wav")
    (source / "deep/broken.wav").write_text("no audio")
    (source / "notes.txt").write_text("no recording")
    loads = []
    monkeypatch.setattr("predict.load_converter", lambda *args: loads.append(args) or load_converter(*args))
    assert run("--model", pair, "--input", source, "--output", output) == 1
    assert "broken.wav" in capsys.readouterr().err
    assert written(output) == ["a.guitar.wav", "deep/er/b.guitar.wav"]
    assert len(loads) == 1
    (source / "deep/broken.wav").unlink()
    stamps = [path.stat().st_mtime_ns for path in sorted(output.rglob("*.*"))]
    write_tone(source / "c.wav")
    assert run("--model", pair, "--input", source, "--output", output) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [str(output / "c.guitar.wav")]
    assert [(output / name).stat().st_mtime_ns for name in ("a.guitar.wav", "deep/er/b.guitar.wav")] == stamps
    assert run("--model", pair, "--input", source, "--output", output, "--overwrite") == 0
    assert (output / "a.guitar.wav").stat().st_mtime_ns > stamps[0]


def test_recordings_of_every_kind_are_found_and_outputs_are_not(tmp_path, pair, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac", "takes/one/c.wav", "x/d1.wav", "x/d1.flac", "x/[2].wav"):
        write_tone(tmp_path / name, 0.01)
    assert run("--model", pair, "a.wav", "b.flac", "takes", "x/d*", "--output", "out") == 0
    expected = ["a.guitar.wav", "b.guitar.wav", "d1.guitar.wav", "d1.wav.guitar.wav", "one/c.guitar.wav"]
    assert written(tmp_path / "out") == expected
    # What a file is called is not a pattern; a folder is made where the name of the output ends in a slash.
    assert run("--model", pair, "--input", "x/[2].wav", "--output", "new/") == 0
    assert written(tmp_path / "new") == ["[2].guitar.wav"]
    # Without --output, outputs are beside their recordings, and the next run does not take them for recordings.
    for _ in range(2):
        assert run("--model", pair, *map(str, sorted((tmp_path / "x").iterdir()))) == 0
        assert run("--model", pair, "takes") == 0
    assert len(written(tmp_path / "x")) == 6
    assert written(tmp_path / "takes.guitar") == ["one/c.guitar.wav"]
    write_tone(tmp_path / "y/a.wav", 0.01)
    write_tone(tmp_path / "z/a.wav", 0.01)
    assert "y/a.wav" in read_refusal(capsys, "--model", pair, "a.wav", "y/a.wav", "z/a.wav", "--output", "both")
    assert not pathlib.Path("both").exists()


def test_pictures_are_beside_the_outputs_or_where_they_are_wanted(tmp_path, pair):
    for name in ("a", "b"):
        write_tone(tmp_path / f"in/{name}.wav")
    assert run("--model", pair, tmp_path / "in", "--plot") == 0
    assert written(tmp_path / "in.guitar") == ["a.guitar.png", "a.guitar.wav", "b.guitar.png", "b.guitar.wav"]
    assert run("--model", pair, tmp_path / "in/a.wav", "--plot", tmp_path / "p/o.png", "--high_band", "keep") == 0
    assert (tmp_path / "p/o.png").stat().st_size > 10_000


# --- whole files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "expected"), [(8000, 22050), (22050, 22050), (192000, 192000)])
def test_a_sine_and_an_impulse_come_back_where_they_were(convert, rate, expected):
    """The rate of the output is at least what the network's band needs."""
    sine = make_sine(1234.5, 1, rate)
    converted, rate = convert(sine, rate=rate, level="peak")
    assert (rate, len(converted)) == (expected, expected)
    spectrum = np.abs(np.fft.rfft(converted * np.hanning(rate), 8 * rate))
    assert np.argmax(spectrum) / 8 == pytest.approx(1234.5, abs=0.2)
    assert np.abs(converted).max() == pytest.approx(1, abs=1e-4)
    impulses = np.zeros(3 * rate, np.float32)
    places = [1000, 40001, 3 * rate - 600]
    impulses[places] = 0.9
    for high_band in HIGH_BANDS:
        converted, _ = convert(impulses, rate=rate, high_band=high_band)
        assert [np.argmax(np.abs(converted[place - 500 : place + 500])) for place in places] == [500] * 3


@pytest.mark.parametrize("n_samples", [1, 511, 513, 131072])
def test_every_length_is_kept_and_the_end_does_not_blow_up(tmp_path, convert, write_generator, n_samples):
    """Also if the last sample lies where the last window is almost zero: dividing by it would amplify the end."""
    network = load_network(write_generator(tmp_path / "generator.h5"))
    audio = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    for chosen in ({}, {"overlap": 0, "phase": "griffinlim"}):
        converted, _ = convert(audio, network, **chosen)
        assert converted.shape == audio.shape
        assert np.isfinite(converted).all()
        if n_samples > 100_000:
            assert np.abs(converted[-511:]).max() < 4 * np.abs(converted[:-511]).max()
    np.testing.assert_allclose(convert(audio, high_band="keep")[0], audio, atol=1e-5)


@pytest.mark.parametrize("stereo", STEREO)
def test_the_ways_to_convert_stereo(convert, stereo):
    """Two tones, the quieter one below what the network lets pass where it stands alone."""
    left, right = make_sine(500, 1), make_sine(1500, 1, level=0.02)
    converted, _ = convert(np.stack([left, right]), stereo=stereo)
    inner = np.s_[..., 500:-500]  # a tone that starts at once has sound above the band there
    expected = (left + right) / 2 if stereo == "mono" else np.stack([left, right])
    np.testing.assert_allclose(converted[inner], expected[inner], atol=1e-3)
    short, _ = convert(np.full((2, 2), 0.5), rate=192000, stereo=stereo)  # less than a sample of the network's rate
    assert short.shape == ((2,) if stereo == "mono" else (2, 2))


def test_high_band_keep_crosses_over_to_the_input(convert):
    """If the network gives silence, only the input's own sound above the band is left, at any sample rate."""
    rate = 96000
    low, high, ultra = (make_sine(hz, 1, rate, 0.2) for hz in (2000, 15000, 30000))
    inner = slice(4000, -4000)
    converted, _ = convert(low + high + ultra, lambda x: np.full_like(x, -1), rate, high_band="keep")
    assert decibels((converted - high - ultra)[inner], high[inner]) < -50
    converted, _ = convert(low + high + ultra, rate=rate)
    assert decibels((converted - low)[inner], low[inner]) < -50


def test_silence_and_nothing_stay_what_they_are(tmp_path, convert, write_generator):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    names = "phase", "input_level", "high_band", "level", "mix"
    for chosen in zip(PHASES, INPUT_LEVELS, HIGH_BANDS, ("normalize", "match"), (0, 0.5), strict=True):
        converted, _ = convert(np.zeros((2, 48000), np.float32), network, **dict(zip(names, chosen, strict=True)))
        assert converted.shape == (2, 48000)
        assert not converted.any()
    assert convert_audio(np.zeros(0, np.float32), make_converter()).shape == (0,)


@pytest.mark.parametrize("level", LEVELS)
def test_very_quiet_and_very_loud_recordings_never_clip(convert, capsys, level):
    for gain_db in (-120, 20):
        converted, _ = convert(make_music(2) * np.float32(10 ** (gain_db / 20)), level=level, subtype="16")
        at_limit = np.count_nonzero(np.abs(np.round(converted * 2**15)) >= 32766)
        if level == "normalize":
            assert at_limit == 0
        elif level == "peak" or gain_db == 20:
            assert 1 <= at_limit <= 3  # the peak, and no plateau
        else:
            assert not converted.any()  # half a step of 16 bits is -96 dB
    assert ("14.0 dB" in capsys.readouterr().err) == (level in ("match", "none"))  # a peak of 0.5, raised by 20 dB


def test_levels(convert):
    audio = make_music(2)
    oversampled = scipy.signal.resample_poly(convert(audio, level="normalize")[0], 16, 1)
    assert 20 * np.log10(np.abs(oversampled).max()) == pytest.approx(-1, abs=0.1)
    made = {level: convert(audio / 4, lambda x: x + np.float32(0.05), level=level)[0] for level in ("match", "none")}
    assert rms(made["match"]) == pytest.approx(rms(audio / 4), rel=1e-4)
    assert rms(made["none"]) > 1.2 * rms(audio / 4)


def test_the_input_is_mixed_in_at_equal_loudness(convert):
    """A network that gives another tone, ten times as loud: half of each has the same loudness."""
    low, high = make_sine(500, 2, level=0.04), round(3000 / RATE * 1024)

    def other(slices):
        made = np.full_like(slices, -1)
        made[:, high] = 0.9
        return made

    converted, _ = convert(low, other)
    mixed, _ = convert(low, other, mix=0.25)
    inner = slice(2000, -2000)
    share = 2 * np.mean(mixed[inner] * low[inner]) / 0.04  # amplitude of the low tone
    assert share == pytest.approx(0.25 * rms(converted) * np.sqrt(2), rel=0.02)
    np.testing.assert_allclose(convert(low, other, mix=1)[0], low * rms(converted) / rms(low), atol=1e-4)


def test_damaged_networks_and_recordings_leave_nothing(tmp_path, convert):
    with pytest.raises(InputError):
        convert(make_music(1), lambda x: x * np.nan)
    audio = np.zeros((2, 200_000), np.float32)
    audio[1, 150_000] = np.nan
    with pytest.raises(InputError):
        convert(audio, rate=48000)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_line_says_how_long_a_long_conversion_will_take(convert, monkeypatch, capsys):
    convert(make_music(20))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("conversion.recordings.LOG_SECONDS", 0)
    convert(make_music(20))
    assert "/20 s of audio" in capsys.readouterr().err
