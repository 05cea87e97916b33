"""Conversion of whole files: length, sample rate, channels and level, with networks whose output is known."""

import errno
import functools
import io
import pathlib
import sys
import types

import numpy as np
import pytest
import scipy.signal
import soundfile
import tqdm
from made_conversions import RATE, decibels, identity, make_converter, make_music, make_sine

from common import weights
from common.errors import InputError
from conversion import files
from conversion.converter import HIGH_BANDS, LEVELS, STEREO, Settings, load_converter
from conversion.files import convert_audio, convert_file
from conversion.network import load_network
from conversion.phase import PHASES
from data import amplitude_to_db
from sound.files import Rendering


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [44100, 22050])
def test_the_progress_bar_ends_at_the_length_without_a_warning(monkeypatch, rate):
    """Three blocks of 0.1 s, whose sum in seconds is above 0.3, and one more sample than the recording has."""
    monkeypatch.setattr("tqdm.tqdm", functools.partial(tqdm.tqdm, mininterval=0, miniters=1))
    monkeypatch.setattr("sys.stderr", Terminal())
    recording = types.SimpleNamespace(n_samples=13230, sample_rate=44100, path=pathlib.Path("a.wav"))
    blocks = [np.zeros(rate // 10)] * 3 + [np.zeros(1)]
    assert len(list(files._show_progress(blocks, recording, rate))) == 4
    last = sys.stderr.getvalue().rpartition("a.wav")[2]
    assert "100 %" in last
    assert " 0/0 s of audio" in last


def frequency_of(audio, rate):
    """The strongest frequency in Hz, by the peak of a zero-padded spectrum."""
    windowed = audio * np.hanning(len(audio))
    spectrum = np.abs(np.fft.rfft(windowed, 8 * len(audio)))
    return np.argmax(spectrum) * rate / (8 * len(audio))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
def test_a_sine_comes_back_at_its_frequency_and_rate(tmp_path, rate):
    soundfile.write(tmp_path / "in.wav", make_sine(1234.5, 1, rate), rate, "FLOAT")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter, Settings(sample_rate=rate, level="peak"))
    converted, out_rate = soundfile.read(tmp_path / "out.wav")
    assert (out_rate, len(converted)) == (rate, rate)
    assert frequency_of(converted, rate) == pytest.approx(1234.5, abs=0.2)
    assert np.abs(converted).max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("rate", [22050, 44100, 96000])
@pytest.mark.parametrize("high_band", HIGH_BANDS)
def test_an_impulse_keeps_its_position_to_the_sample(tmp_path, rate, high_band):
    audio = np.zeros(3 * rate, np.float32)
    places = [1000, 40001, 3 * rate - 600]
    audio[places] = 0.9
    soundfile.write(tmp_path / "in.wav", audio, rate, "FLOAT")
    settings = Settings(high_band=high_band)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(high_band=high_band), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    for place in places:
        around = converted[place - 500 : place + 500]
        assert np.argmax(np.abs(around)) == 500


@pytest.mark.parametrize("n_samples", [1, 2, 511, 512, 513, 1023, 131071, 131072, 131073])
def test_every_length_is_kept_and_the_end_does_not_blow_up(tmp_path, write_generator, n_samples):
    """Also if the last sample lies where the last window is almost zero: dividing by it would amplify the end."""
    network = load_network(write_generator(tmp_path / "generator.h5"))
    audio = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(network))
    assert soundfile.info(tmp_path / "out.wav").frames == n_samples
    for made in (
        make_converter(network),
        make_converter(network, overlap=0, phase="griffinlim", griffinlim_iterations=2),
    ):
        converted = convert_audio(audio, made)
        assert converted.shape == audio.shape
        assert np.isfinite(converted).all()
        if n_samples > 100_000:
            assert np.abs(converted[-511:]).max() < 4 * np.abs(converted[:-511]).max()
    bypassed = convert_audio(audio, make_converter(high_band="keep"))
    np.testing.assert_allclose(bypassed, audio, atol=1e-5)


@pytest.mark.parametrize("stereo", STEREO)
def test_a_recording_shorter_than_a_sample_of_the_output_keeps_its_channels(tmp_path, stereo):
    soundfile.write(tmp_path / "in.wav", np.full((2, 2), 0.5), 192000)
    settings = Settings(sample_rate=44100, stereo=stereo)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter, settings)
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.frames, info.channels) == (1, 1 if stereo == "mono" else 2)


def test_no_samples_give_no_samples():
    assert convert_audio(np.zeros(0, np.float32), make_converter()).shape == (0,)
    assert list(make_converter().convert([])) == []


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_channels_are_converted_separately(tmp_path, write_generator, n_channels):
    made = make_converter(load_network(write_generator(tmp_path / "generator.h5")))
    audio = np.stack([make_music(1.5, seed, 48000) for seed in range(n_channels)])
    soundfile.write(tmp_path / "in.wav", audio.T, 48000, "FLOAT")
    settings = Settings(level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: made, settings)
    converted, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    expected = convert_audio(audio, made, 48000)
    assert expected.shape == audio.shape
    np.testing.assert_allclose(converted.T, expected, atol=1e-5)
    np.testing.assert_allclose(expected[-1], convert_audio(audio[-1], made, 48000), atol=1e-5)


def test_mid_side_and_mono(tmp_path):
    left, right = make_sine(500, 1, RATE), make_sine(1500, 1, RATE, 0.02)
    soundfile.write(tmp_path / "in.wav", np.stack([left, right], 1), RATE, "FLOAT")

    def convert(stereo, network=identity):
        settings = Settings(stereo=stereo, level="none", subtype="float")
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(network), settings)
        return soundfile.read(tmp_path / "out.wav", always_2d=True)[0].T

    inner = slice(500, -500)  # a tone that starts at once has sound above the band there
    np.testing.assert_allclose(convert("mid_side")[:, inner], np.stack([left, right])[:, inner], atol=1e-3)
    np.testing.assert_allclose(convert("mono")[:, inner], [((left + right) / 2)[inner]], atol=1e-3)

    def loud_only(slices):
        """Remove what is below a magnitude of 0.3: the tone on the left stays, half of it does not."""
        return np.where(slices > 2 * amplitude_to_db(0.3) - 1, slices, -1)

    assert np.abs(convert("per_channel", loud_only)[0, inner]).max() > 0.3
    assert np.abs(convert("mid_side", loud_only)[:, inner]).max() < 1e-3  # half in the middle, half at the side
    assert np.abs(convert("mono", loud_only)[:, inner]).max() < 1e-3


def test_high_band_keep_crosses_over_to_the_input(tmp_path):
    """If the network gives silence, only the input's own sound above the band is left, at any sample rate."""

    def silent(slices):
        return np.full(slices.shape, -1, np.float32)

    rate = 96000
    low, high, ultra = make_sine(2000, 1, rate, 0.2), make_sine(15000, 1, rate, 0.2), make_sine(30000, 1, rate, 0.2)
    soundfile.write(tmp_path / "in.wav", low + high + ultra, rate, "FLOAT")
    settings = Settings(high_band="keep", level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(silent, high_band="keep"), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    inner = slice(4000, -4000)
    assert decibels((converted - high - ultra)[inner], high[inner]) < -50
    settings = Settings(level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(high_band="zero"), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    assert decibels((converted - low)[inner], low[inner]) < -50


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("high_band", HIGH_BANDS)
def test_silence_stays_silent(tmp_path, write_generator, phase, high_band):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    soundfile.write(tmp_path / "in.wav", np.zeros((3 * 48000, 2)), 48000)
    made = make_converter(network, phase=phase, high_band=high_band, griffinlim_iterations=2)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: made)
    converted, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert converted.shape == (3 * 48000, 2)
    assert not converted.any()


@pytest.mark.parametrize("gain_db", [-120, 20])
@pytest.mark.parametrize("level", LEVELS)
def test_very_quiet_and_very_loud_recordings_never_clip(tmp_path, capsys, gain_db, level):
    audio = make_music(2) * np.float32(10 ** (gain_db / 20))
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    settings = Settings(level=level)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter, settings)
    converted, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    message = capsys.readouterr().err
    assert np.isfinite(converted).all()
    at_limit = np.count_nonzero(np.abs(converted.astype(int)) >= 32766)
    if level in ("normalize", "peak"):
        assert at_limit == 0 if level == "normalize" else 1 <= at_limit <= 3  # the peak, and no plateau
        assert ("raised by" in message) == (gain_db == -120)
    elif gain_db == 20:
        assert 1 <= at_limit <= 3
        assert "lowered by 14.0 dB" in message  # a peak of 0.5, raised by 20 dB, is 14 dB above full scale
    else:
        assert not converted.any()  # half a step of 16 bits is -96 dB
        assert message == ""


def test_the_true_peak_of_a_normalised_output_is_one_decibel_below_full_scale(tmp_path):
    audio = make_music(2)
    soundfile.write(tmp_path / "in.wav", audio, RATE)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter, Settings(subtype="float"))
    converted, _ = soundfile.read(tmp_path / "out.wav")
    oversampled = scipy.signal.resample_poly(converted, 16, 1)
    assert 20 * np.log10(np.abs(oversampled).max()) == pytest.approx(-1, abs=0.1)


def test_the_rate_of_the_output_holds_the_band_of_the_network(tmp_path):
    for rate, expected in ((8000, 22050), (22050, 22050), (48000, 48000)):
        soundfile.write(tmp_path / "in.wav", make_music(1, rate=rate), rate)
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter)
        information = soundfile.info(tmp_path / "out.wav")
        assert (information.samplerate, information.frames) == (expected, expected)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter, Settings(sample_rate=8000))
    assert soundfile.info(tmp_path / "out.wav").samplerate == 8000


def test_level_match_and_none(tmp_path):
    audio = make_music(3) / 4
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")

    def rms(level, subtype="24"):
        settings = Settings(level=level, subtype=subtype)
        # A network that adds a constant to the log level makes everything louder.
        made = make_converter(lambda x: x + np.float32(0.05))
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: made, settings)
        return np.sqrt(np.mean(np.square(soundfile.read(tmp_path / "out.wav")[0])))

    assert rms("match") == pytest.approx(np.sqrt(np.mean(np.square(audio))), rel=1e-4)
    assert rms("none") > 1.2 * rms("match")


def test_a_nan_in_the_input_is_reported_with_its_position(tmp_path):
    audio = np.zeros((200_000, 2), np.float32)
    audio[150_000, 1] = np.nan
    soundfile.write(tmp_path / "in.wav", audio, 48000, "FLOAT")
    with pytest.raises(InputError, match=r"in.wav: .*found nan at 3\.125 s \(sample 150000, channel 1\)"):
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter)
    assert not (tmp_path / "out.wav").exists()


def test_a_nan_from_the_network_is_reported(tmp_path):
    soundfile.write(tmp_path / "in.wav", make_music(1), RATE)
    with pytest.raises(InputError, match="finite samples from the network"):
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", lambda: make_converter(lambda x: x * np.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_the_input_is_refused_as_output_under_any_name(tmp_path):
    soundfile.write(tmp_path / "in.wav", make_music(1), RATE)
    (tmp_path / "link.wav").symlink_to(tmp_path / "in.wav")
    before = (tmp_path / "in.wav").read_bytes()
    for name in ("in.wav", "link.wav", "../" + tmp_path.name + "/in.wav"):
        with pytest.raises(InputError, match="not the input itself"):
            convert_file(tmp_path / "in.wav", tmp_path / name, make_converter)
    assert (tmp_path / "in.wav").read_bytes() == before


def test_the_network_is_loaded_after_recording_and_output_are_checked(tmp_path):
    def load():
        raise AssertionError("the network was loaded")

    soundfile.write(tmp_path / "in.wav", make_music(1), 96000)
    (tmp_path / "text.wav").write_text("no audio")
    for source, output in (("none.wav", "o.wav"), ("text.wav", "o.wav"), ("in.wav", "o.xyz"), ("in.wav", "o.mp3")):
        with pytest.raises(InputError, match=r"none\.wav|text\.wav|o\.xyz|96000 Hz"):
            convert_file(tmp_path / source, tmp_path / output, load)


def test_unknown_systems_and_overlaps_are_refused(tmp_path):
    description = weights.Description(tmp_path / "g.h5", "unet", 1, 4, {"system": "wavenet"})
    with pytest.raises(InputError, match="wavenet"):
        load_converter(description)
    with pytest.raises(InputError, match=r"0 to 0\.5"):
        make_converter(overlap=0.7)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    """The output gets fewer samples than were converted, as when the disk is full."""
    soundfile.write(tmp_path / "in.wav", make_music(1), RATE)
    monkeypatch.setattr(Rendering, "blocks", lambda *_: iter([np.zeros((100, 1), np.float32)]))
    with pytest.raises(OSError, match="disk full") as caught:
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", make_converter)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_very_many_channels_are_converted_as_their_mean_only(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((20, 65), 0.25), RATE)
    with pytest.raises(InputError, match="found 65; --stereo mono"):
        convert_file(tmp_path / "a.wav", tmp_path / "b.wav", make_converter)
    convert_file(tmp_path / "a.wav", tmp_path / "b.wav", make_converter, Settings(stereo="mono"))
    assert soundfile.read(tmp_path / "b.wav", always_2d=True)[0].shape == (20, 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stereo", STEREO)
def test_a_recording_that_decays_into_subnormal_numbers_is_converted(tmp_path, phase, stereo):
    noise = np.random.default_rng(0).standard_normal((RATE, 2)) * 10.0 ** -np.linspace(0, 44, RATE)[:, np.newaxis]
    soundfile.write(tmp_path / "a.wav", 0.3 * noise, RATE, subtype="FLOAT")
    settings = Settings(phase=phase, stereo=stereo, griffinlim_iterations=2)
    convert_file(
        tmp_path / "a.wav", tmp_path / "b.wav", lambda: make_converter(phase=phase, griffinlim_iterations=2), settings
    )
    assert np.isfinite(soundfile.read(tmp_path / "b.wav")[0]).all()
