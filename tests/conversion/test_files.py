"""Conversion of whole files: length, sample rate, channels and level, with networks whose output is known."""

import numpy as np
import pytest
import scipy.signal
import soundfile
from made_conversions import RATE, decibels, make_converter, make_music, make_sine

from common.errors import InputError
from conversion.converter import HIGH_BANDS, LEVELS, PHASES, STEREO, Settings
from conversion.network import load_network
from conversion.recordings import convert_audio, convert_file


@pytest.fixture
def convert(tmp_path):
    """A function that writes a recording, converts it and gives back the output and its rate."""

    def run(audio, network=None, rate=RATE, **settings):
        chosen = Settings(**{"level": "none", "subtype": "float"} | settings)
        soundfile.write(tmp_path / "in.wav", audio.T, rate, "FLOAT")
        made = make_converter(**{"network": network} if network else {}, **vars(chosen))
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, chosen)
        converted, found = soundfile.read(tmp_path / "out.wav", dtype="float32")
        return converted.T, found

    return run


def rms(audio):
    return np.sqrt(np.mean(np.square(audio)))


@pytest.mark.parametrize("rate", [22050, 48000, 192000])
def test_a_sine_and_an_impulse_come_back_where_they_were(convert, rate):
    sine, impulses = make_sine(1234.5, 1, rate), np.zeros(3 * rate, np.float32)
    converted, out_rate = convert(sine, rate=rate, level="peak")
    assert (out_rate, len(converted)) == (rate, rate)
    spectrum = np.abs(np.fft.rfft(converted * np.hanning(rate), 8 * rate))
    assert np.argmax(spectrum) / 8 == pytest.approx(1234.5, abs=0.2)
    assert np.abs(converted).max() == pytest.approx(1, abs=1e-4)
    places = [1000, 40001, 3 * rate - 600]
    impulses[places] = 0.9
    for high_band in HIGH_BANDS:
        converted, _ = convert(impulses, rate=rate, high_band=high_band)
        assert [np.argmax(np.abs(converted[place - 500 : place + 500])) for place in places] == [500] * 3


@pytest.mark.parametrize("n_samples", [1, 511, 512, 513, 131071, 131072, 131073])
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


def test_no_samples_give_no_samples():
    assert convert_audio(np.zeros(0, np.float32), make_converter()).shape == (0,)
    assert list(make_converter().convert([])) == []


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


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("high_band", HIGH_BANDS)
def test_silence_stays_silent(tmp_path, convert, write_generator, phase, high_band):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    for level, mix in (("normalize", 0), ("match", 0.5)):
        converted, _ = convert(
            np.zeros((2, 48000), np.float32), network, phase=phase, high_band=high_band, level=level, mix=mix
        )
        assert converted.shape == (2, 48000)
        assert not converted.any()


@pytest.mark.parametrize("gain_db", [-120, 20])
@pytest.mark.parametrize("level", LEVELS)
def test_very_quiet_and_very_loud_recordings_never_clip(convert, capsys, gain_db, level):
    audio = make_music(2) * np.float32(10 ** (gain_db / 20))
    converted, _ = convert(audio, level=level, subtype="16")
    at_limit = np.count_nonzero(np.abs(np.round(converted * 2**15)) >= 32766)
    if level in ("normalize", "peak"):
        assert at_limit == 0 if level == "normalize" else 1 <= at_limit <= 3  # the peak, and no plateau
    elif gain_db == 20:
        assert 1 <= at_limit <= 3
        assert "14.0 dB" in capsys.readouterr().err  # a peak of 0.5, raised by 20 dB, is 14 dB above full scale
    else:
        assert not converted.any()  # half a step of 16 bits is -96 dB


def test_levels(convert):
    audio = make_music(2)
    oversampled = scipy.signal.resample_poly(convert(audio, level="normalize")[0], 16, 1)
    assert 20 * np.log10(np.abs(oversampled).max()) == pytest.approx(-1, abs=0.1)

    def louder(x):
        return x + np.float32(0.05)

    assert rms(convert(audio / 4, louder, level="match")[0]) == pytest.approx(rms(audio / 4), rel=1e-4)
    assert rms(convert(audio / 4, louder)[0]) > 1.2 * rms(audio / 4)


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


def test_the_rate_of_the_output_holds_the_band_of_the_network(convert):
    for rate, expected in ((8000, 22050), (22050, 22050), (48000, 48000)):
        converted, found = convert(make_music(1, rate=rate), rate=rate)
        assert (found, len(converted)) == (expected, expected)


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
    monkeypatch.setattr("conversion.recordings.FIRST_SECONDS", 0)
    monkeypatch.setattr("conversion.recordings.LONG_MINUTES", 0)
    convert(make_music(20))
    assert capsys.readouterr().err.count("\n") == 1
