"""The conversion against an independent offline pipeline, physics and hand-made streams."""

import errno
import itertools

import librosa
import numpy as np
import pytest
import soundfile

from common import recordings, weights
from common.errors import InputError
from conversion.files import convert_audio, convert_file, load_converter
from conversion.network import load_network
from conversion.phase import PHASES, apply_phase, griffin_lim, unit
from conversion.pix2pix import Pix2PixConverter, read_style
from conversion.settings import HIGH_BANDS, LEVELS, STEREO, Settings
from conversion.streaming import istft_blocks, spectrogram
from data import PUBLISHED, amplitude_to_db, forward_transform
from evaluation import metrics

RATE = PUBLISHED.sample_rate


def identity(slices):
    return slices[..., :1]


def converter(network=identity, style=None, **settings):
    return Pix2PixConverter(network, style=style, settings=Settings(**settings))


def music(seconds, seed=0, rate=RATE):
    """Decaying tones at random times over a little noise, peak 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    audio = rng.normal(0, 1e-4, len(time))
    for _ in range(max(1, round(4 * seconds))):
        since = time - rng.uniform(0, seconds)
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * since) * np.exp(-3 * np.maximum(since, 0))
        audio += np.where(since > 0, tone, 0)
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def sine(frequency, seconds, rate, level=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def decibels(error, reference):
    """Level of an error against the reference, both by their RMS."""
    return 20 * np.log10(np.sqrt(np.mean(np.square(error)) / np.mean(np.square(reference))) + 1e-30)


def frequency_of(audio, rate):
    """The strongest frequency in Hz, from the phase advance of the middle (one lag of 1 s / 20)."""
    windowed = audio * np.hanning(len(audio))
    spectrum = np.abs(np.fft.rfft(windowed, 8 * len(audio)))
    return np.argmax(spectrum) * rate / (8 * len(audio))


# --- the published pipeline -------------------------------------------------------------------------------------------


def published_offline(audio, network):
    """The published pipeline written straightforwardly with librosa, whole file at once, slice by slice."""
    window = np.hanning(1024)
    spectrum = librosa.stft(audio, n_fft=1024, hop_length=512, window=window)
    magnitude = 2 * np.abs(spectrum[:256]) / window.sum()
    level = np.log1p(magnitude * 2**16) / np.log1p(2**16)
    n_frames = level.shape[1]
    level = np.pad(level, ((0, 0), (0, -n_frames % 256)))
    outputs = []
    for start in range(0, level.shape[1], 256):
        output = network(2 * level[np.newaxis, :, start : start + 256, np.newaxis] - 1)
        outputs.append((np.asarray(output)[0, :, :, 0] + 1) / 2)
    predicted = np.expm1(np.concatenate(outputs, axis=1)[:, :n_frames] * np.log1p(2**16)) / 2**16
    converted = np.zeros_like(spectrum)
    converted[:256] = predicted * window.sum() / 2 * np.exp(1j * np.angle(spectrum[:256]))
    return librosa.istft(converted, hop_length=512, window=window, length=len(audio))


def test_without_overlap_it_is_the_published_pipeline(tmp_path, write_generator):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    # Several batches, the last slice and batch unfilled. Only 100 samples lie beyond the last frame's centre: were it
    # nearly 512, the offline pipeline would divide them by the foot of its window.
    audio = music(14)[: 1200 * 512 + 100]
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    settings = Settings(overlap=0, subtype="float")
    made = Pix2PixConverter(network, settings=settings)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, settings)
    converted, rate = soundfile.read(tmp_path / "out.wav")
    expected = published_offline(audio, network)
    assert (rate, converted.shape) == (RATE, audio.shape)
    assert decibels(expected - audio, audio) > -20  # the network does something
    assert decibels(converted - expected / np.abs(expected).max(), converted) < -80
    # Blocks of odd sizes give the same as one block.
    cuts = np.sort(np.random.default_rng(0).integers(0, len(audio), 40))
    streamed = np.concatenate(list(made.convert(np.split(audio, cuts))))
    np.testing.assert_allclose(streamed, convert_audio(audio, made), atol=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("phase", PHASES)
def test_identity_network_gives_back_what_lies_in_the_band(overlap, phase):
    audio = music(5)
    converted = convert_audio(audio, converter(overlap=overlap, phase=phase, griffinlim_iterations=3))
    assert decibels(converted - audio, audio) < -45  # the noise above 11 kHz is gone


@pytest.mark.parametrize("overlap", [0.25, 0.1, 0.5])
def test_weights_of_overlapping_slices_sum_to_one(overlap):
    """A network whose output is constant gives a constant, whatever the number of slices and frames."""

    def constant(slices):
        return np.full(slices.shape, 0.2, np.float32)

    made = converter(constant, overlap=overlap)
    for n_frames in (1, 255, 256, 257, 400, 1000, 1001, 2100):
        spectrum = np.full((513, n_frames), 1 + 1j, np.complex64)
        chunks = list(made._predict(np.array_split(spectrum, max(1, n_frames // 100), axis=1)))
        magnitude = np.concatenate([predicted for predicted, _ in chunks], axis=1)
        assert magnitude.shape == (256, n_frames)
        np.testing.assert_allclose(magnitude / magnitude[0, 0], 1, rtol=1e-5)


def test_slices_are_blended_in_the_log_level():
    """Slices that alternate between two levels: each frame of the overlap is the weighted mean of the levels."""
    calls = itertools.count()

    def alternating(slices):
        return np.stack([np.full(s.shape, 0.4 if next(calls) % 2 else -0.4, np.float32) for s in slices])

    spectrum = np.ones((513, 448), np.complex64)  # two slices of 256, 64 in common
    ((magnitude, _),) = converter(alternating, overlap=0.25)._predict([spectrum])
    level = amplitude_to_db(magnitude * 2 / PUBLISHED.window.sum())[0]
    weight = np.sin(np.pi / 2 * (np.arange(64) + 0.5) / 64) ** 2
    np.testing.assert_allclose(level[:192], 0.3, atol=1e-5)
    np.testing.assert_allclose(level[192:256], 0.3 + 0.4 * weight, atol=1e-5)
    np.testing.assert_allclose(level[256:], 0.7, atol=1e-5)


def test_no_seams_with_the_default_overlap():
    """Noise has no onsets: what stands out at the borders comes from a network that hears each slice differently."""

    def seams(overlap, **where):
        calls = itertools.count()

        def moody(slices):
            return np.stack([s + np.float32(0.15 if next(calls) % 2 else -0.15) for s in slices])

        return metrics.seam_score(convert_audio(noise, converter(moody, overlap=overlap)), **where)

    noise = np.random.default_rng(3).normal(0, 0.1, 40 * RATE).astype(np.float32)
    assert seams(0) > 1.3  # the fault that the overlap is there for
    for offset in (0, 32, 64):
        assert seams(0.25, period_frames=192, offset=offset) <= 1.05


# --- nothing lost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
def test_a_sine_comes_back_at_its_frequency_and_rate(tmp_path, rate):
    soundfile.write(tmp_path / "in.wav", sine(1234.5, 1, rate), rate, "FLOAT")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter())
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
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(high_band=high_band), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    for place in places:
        around = converted[place - 500 : place + 500]
        assert np.argmax(np.abs(around)) == 500


@pytest.mark.parametrize("n_samples", [1, 2, 511, 512, 513, 1023, 131071, 131072, 131073])
def test_every_length_is_kept_and_stays_tame(tmp_path, write_generator, n_samples):
    """Also where only the foot of the last window reaches the last sample: dividing by it would blow up."""
    network = load_network(write_generator(tmp_path / "generator.h5"))
    audio = np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(network))
    assert soundfile.info(tmp_path / "out.wav").frames == n_samples
    for made in (converter(network), converter(network, overlap=0, phase="hybrid", griffinlim_iterations=2)):
        converted = convert_audio(audio, made)
        assert converted.shape == audio.shape
        assert np.isfinite(converted).all()
        if n_samples > 100_000:
            assert np.abs(converted[-511:]).max() < 4 * np.abs(converted[:-511]).max()
    bypassed = convert_audio(audio, converter(high_band="keep"))
    np.testing.assert_allclose(bypassed, audio, atol=1e-5)


@pytest.mark.parametrize("stereo", STEREO)
def test_a_recording_shorter_than_a_sample_of_the_output_keeps_its_channels(tmp_path, stereo):
    soundfile.write(tmp_path / "in.wav", np.full((2, 2), 0.5), 192000)
    settings = Settings(sample_rate=44100, stereo=stereo)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(), settings)
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.frames, info.channels) == (1, 1 if stereo == "mono" else 2)


def test_no_samples_in_memory_are_no_samples_out():
    assert convert_audio(np.zeros(0, np.float32), converter()).shape == (0,)
    assert list(converter().convert([])) == []


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_channels_are_converted_each_on_its_own(tmp_path, write_generator, n_channels):
    made = converter(load_network(write_generator(tmp_path / "generator.h5")))
    audio = np.stack([music(1.5, seed, 48000) for seed in range(n_channels)])
    soundfile.write(tmp_path / "in.wav", audio.T, 48000, "FLOAT")
    settings = Settings(level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, settings)
    converted, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    expected = convert_audio(audio, made, 48000)
    assert expected.shape == audio.shape
    np.testing.assert_allclose(converted.T, expected, atol=1e-5)
    np.testing.assert_allclose(expected[-1], convert_audio(audio[-1], made, 48000), atol=1e-5)


def test_mid_side_and_mono(tmp_path):
    left, right = sine(500, 1, RATE), sine(1500, 1, RATE, 0.02)
    soundfile.write(tmp_path / "in.wav", np.stack([left, right], 1), RATE, "FLOAT")

    def convert(stereo, network=identity):
        settings = Settings(stereo=stereo, level="none", subtype="float")
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(network), settings)
        return soundfile.read(tmp_path / "out.wav", always_2d=True)[0].T

    inner = slice(500, -500)  # the ends of a tone that starts at once reach above the band
    np.testing.assert_allclose(convert("mid_side")[:, inner], np.stack([left, right])[:, inner], atol=1e-3)
    np.testing.assert_allclose(convert("mono")[:, inner], [((left + right) / 2)[inner]], atol=1e-3)

    def loud_only(slices):
        """What lies below a magnitude of 0.3 vanishes: the tone on the left passes, but not half of it."""
        return np.where(slices > 2 * amplitude_to_db(0.3) - 1, slices, -1)

    assert np.abs(convert("per_channel", loud_only)[0, inner]).max() > 0.3
    assert np.abs(convert("mid_side", loud_only)[:, inner]).max() < 1e-3  # half in the middle, half at the side
    assert np.abs(convert("mono", loud_only)[:, inner]).max() < 1e-3


def test_high_band_keep_crosses_over_to_the_input(tmp_path):
    """With a network that is silent, only the input's own sound above the band is left, at any sample rate."""

    def silent(slices):
        return np.full(slices.shape, -1, np.float32)

    rate = 96000
    low, high, ultra = sine(2000, 1, rate, 0.2), sine(15000, 1, rate, 0.2), sine(30000, 1, rate, 0.2)
    soundfile.write(tmp_path / "in.wav", low + high + ultra, rate, "FLOAT")
    settings = Settings(high_band="keep", level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(silent, high_band="keep"), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    inner = slice(4000, -4000)
    assert decibels((converted - high - ultra)[inner], high[inner]) < -50
    settings = Settings(level="none", subtype="float")
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(high_band="zero"), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav")
    assert decibels((converted - low)[inner], low[inner]) < -50


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("high_band", HIGH_BANDS)
def test_silence_in_silence_out(tmp_path, write_generator, phase, high_band):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    soundfile.write(tmp_path / "in.wav", np.zeros((3 * 48000, 2)), 48000)
    made = converter(network, phase=phase, high_band=high_band, griffinlim_iterations=2)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made)
    converted, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert converted.shape == (3 * 48000, 2)
    assert not converted.any()


@pytest.mark.parametrize("gain_db", [-120, 20])
@pytest.mark.parametrize("level", LEVELS)
def test_very_quiet_and_very_loud_recordings_never_clip(tmp_path, capsys, gain_db, level):
    audio = music(2) * np.float32(10 ** (gain_db / 20))
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")
    settings = Settings(level=level)
    convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(), settings)
    converted, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    said = capsys.readouterr().err
    assert np.isfinite(converted).all()
    at_limit = np.count_nonzero(np.abs(converted.astype(int)) >= 32766)
    if level == "normalize":
        assert 1 <= at_limit <= 3  # the peak, and no plateau
        assert ("raised by" in said) == (gain_db == -120)
    elif gain_db == 20:
        assert 1 <= at_limit <= 3
        assert "lowered by 14.0 dB" in said  # a peak of 0.5 raised by 20 dB stands 14 dB above full scale
    else:
        assert not converted.any()  # half a step of 16 bits is -96 dB
        assert said == ""


def test_level_match_and_none(tmp_path):
    audio = music(3) / 4
    soundfile.write(tmp_path / "in.wav", audio, RATE, "FLOAT")

    def rms(level, subtype="24"):
        settings = Settings(level=level, subtype=subtype)
        # A network that adds a constant to the log level: everything much louder.
        made = converter(lambda x: x + np.float32(0.05))
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", made, settings)
        return np.sqrt(np.mean(np.square(soundfile.read(tmp_path / "out.wav")[0])))

    assert rms("match") == pytest.approx(np.sqrt(np.mean(np.square(audio))), rel=1e-4)
    assert rms("none") > 1.2 * rms("match")


# --- phase ------------------------------------------------------------------------------------------------------------


def inconsistency(converted, wanted):
    """Spectral convergence: distance of the magnitude that audio has from that asked for, over the latter."""
    magnitude, _ = forward_transform(converted)
    return np.linalg.norm(magnitude - wanted) / np.linalg.norm(wanted)


def test_griffin_lim_brings_the_audio_nearer_to_the_magnitude_asked_for():
    """Asked for: the magnitude of other music than the one whose phase is given."""
    audio, other = music(7, 1), music(7, 2)
    wanted, _ = forward_transform(other)
    levels = np.pad(amplitude_to_db(wanted), ((0, 0), (0, 1024)))
    results = {}
    for phase, iterations in (("input", 0), ("griffinlim", 0), ("griffinlim", 4), ("griffinlim", 24), ("hybrid", 24)):
        position = itertools.count(0, 256)
        made = converter(
            lambda x, position=position: 2 * np.stack([levels[:, p : p + 256, None] for _, p in zip(x, position)]) - 1,  # noqa: B905
            overlap=0, phase=phase, griffinlim_iterations=iterations,
        )  # fmt: skip
        results[phase, iterations] = inconsistency(convert_audio(audio, made), wanted)
    assert results["griffinlim", 0] == pytest.approx(results["input", 0], rel=1e-6)
    assert results["griffinlim", 24] < results["griffinlim", 4] < 0.9 * results["input", 0]
    assert results["griffinlim", 24] < results["hybrid", 24] < results["input", 0]


def test_refining_in_chunks_is_nearly_refining_the_whole():
    """Frames that wait and frames that stay fixed make the chunks one: no jump in consistency where they meet."""
    spectrum = np.random.default_rng(0).normal(size=(256, 400, 2)).astype(np.float32).view(np.complex64)[..., 0]
    target = np.abs(spectrum[:, ::-1]).copy()
    whole = target * griffin_lim(target, unit(spectrum), spectrum[:, :0], 16, PUBLISHED)
    pieces = zip(np.split(target, 4, axis=1), np.split(spectrum, 4, axis=1), strict=True)
    streamed = list(apply_phase(pieces, "griffinlim", 16, PUBLISHED))
    chunked = np.concatenate([s for s, _ in streamed], axis=1)
    np.testing.assert_array_equal(np.concatenate([s for _, s in streamed], axis=1), spectrum)
    np.testing.assert_allclose(np.abs(chunked), target, rtol=1e-4, atol=1e-5)

    def error(refined):
        audio = np.concatenate(list(istft_blocks([refined], PUBLISHED)))
        found = librosa.stft(audio, n_fft=1024, hop_length=512, window=np.hanning(1024))[:256, :400]
        return np.linalg.norm(np.abs(found) - target) / np.linalg.norm(target)

    assert error(chunked) < 1.02 * error(whole) < 0.9 * error(target * unit(spectrum))


# --- style ------------------------------------------------------------------------------------------------------------


def style_file(path, levels, rate=RATE, seconds=PUBLISHED.slice_seconds):
    """One slice of a sine for each level; the slices' pitches are 500, 1000, 1500 ... Hz."""
    n = round(seconds * rate)
    audio = np.concatenate([sine(500 * (i + 1), 1, n, level) for i, level in enumerate(levels)])
    audio = np.concatenate([sine(500 * (i + 1), seconds, rate, level)[:n] for i, level in enumerate(levels)])
    soundfile.write(path, audio, rate, "FLOAT")
    return path


def pitch_of(style):
    """Number of the sine that a style slice holds."""
    return round(np.argmax(style.sum(axis=1)) * PUBLISHED.bin_hz / 500) - 1


def test_style_slice_is_the_loudest_by_default_or_the_one_asked_for(tmp_path):
    path = style_file(tmp_path / "style.wav", [0.1, 0.5, 0.9, 0.2, 0])
    style = read_style(path)
    assert style.shape == (256, 256)
    assert pitch_of(style) == 2
    np.testing.assert_array_equal(style, read_style(path))
    assert [pitch_of(read_style(path, choice=n)) for n in range(4)] == [0, 1, 2, 3]
    drawn = {pitch_of(read_style(path, choice="random", seed=seed)) for seed in range(30)}
    assert drawn == {0, 1, 2, 3}  # never the silent one
    first = read_style(path, choice="random", seed=7)
    np.testing.assert_array_equal(first, read_style(path, choice="random", seed=7))
    with pytest.raises(InputError, match=r"expected 0 to 4 in .*found 5"):
        read_style(path, choice=5)


def test_a_short_style_is_repeated_and_a_half_silent_one_not_preferred(tmp_path):
    soundfile.write(tmp_path / "short.wav", sine(1000, 0.5, 22050), 22050)
    style = read_style(tmp_path / "short.wav")
    row = style[round(1000 / PUBLISHED.bin_hz)]
    assert style.shape == (256, 256)
    assert row.min() > 0.7  # it sounds all along
    audio = np.concatenate([sine(500, 1.2, RATE, 0.9), np.zeros(round(1.8 * RATE)), sine(1000, 4, RATE, 0.3)])
    soundfile.write(tmp_path / "style.wav", audio, RATE, "FLOAT")
    assert pitch_of(read_style(tmp_path / "style.wav")) == 1


def test_silent_and_empty_styles_are_refused(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    with pytest.raises(InputError, match="silence"):
        read_style(tmp_path / "silent.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(InputError, match="without samples"):
        read_style(tmp_path / "empty.wav")


def test_the_style_reaches_the_network_as_second_channel():
    style = np.random.default_rng(0).uniform(0, 1, (256, 256)).astype(np.float32)
    seen = []

    def network(slices):
        seen.append(slices)
        return slices[..., :1]

    convert_audio(music(5), converter(network, style))
    assert all(batch.shape[-1] == 2 for batch in seen)
    for item in np.concatenate(seen):
        np.testing.assert_allclose(item[..., 1], 2 * style - 1, atol=1e-6)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_nan_is_named_with_its_place(tmp_path):
    audio = np.zeros((200_000, 2), np.float32)
    audio[150_000, 1] = np.nan
    soundfile.write(tmp_path / "in.wav", audio, 48000, "FLOAT")
    with pytest.raises(InputError, match=r"in.wav: .*found nan at 3\.125 s \(sample 150000, channel 1\)"):
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter())
    assert not (tmp_path / "out.wav").exists()


def test_a_network_that_makes_nan_is_said_so(tmp_path):
    soundfile.write(tmp_path / "in.wav", music(1), RATE)
    with pytest.raises(InputError, match="finite samples from the network"):
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter(lambda x: x * np.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_the_input_itself_is_no_output_under_any_name(tmp_path):
    soundfile.write(tmp_path / "in.wav", music(1), RATE)
    (tmp_path / "link.wav").symlink_to(tmp_path / "in.wav")
    before = (tmp_path / "in.wav").read_bytes()
    for name in ("in.wav", "link.wav", "../" + tmp_path.name + "/in.wav"):
        with pytest.raises(InputError, match="not the input itself"):
            convert_file(tmp_path / "in.wav", tmp_path / name, converter())
    assert (tmp_path / "in.wav").read_bytes() == before


def test_the_network_is_loaded_only_for_a_sound_recording_and_output(tmp_path):
    def load():
        raise AssertionError("the network was loaded")

    soundfile.write(tmp_path / "in.wav", music(1), 96000)
    (tmp_path / "text.wav").write_text("no audio")
    for source, output in (("none.wav", "o.wav"), ("text.wav", "o.wav"), ("in.wav", "o.xyz"), ("in.wav", "o.mp3")):
        with pytest.raises(InputError, match=r"none\.wav|text\.wav|o\.xyz|96000 Hz"):
            convert_file(tmp_path / source, tmp_path / output, load)


def test_systems_that_nothing_converts_with_are_refused(tmp_path):
    description = weights.Description(tmp_path / "g.h5", "unet", 1, 4, {"system": "wavenet"})
    with pytest.raises(InputError, match="wavenet"):
        load_converter(description)
    with pytest.raises(InputError, match=r"0 to 0\.5"):
        converter(overlap=0.7)


# --- recordings -------------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    """Both writes: the temporary samples, and the recording itself."""
    soundfile.write(tmp_path / "in.wav", music(1), RATE)
    monkeypatch.setattr(recordings.Rendering, "blocks", lambda *_: iter([np.zeros((100, 1), np.float32)]))
    with pytest.raises(OSError, match="disk full") as caught:
        convert_file(tmp_path / "in.wav", tmp_path / "out.wav", converter())
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_spectrogram_thins_long_recordings_and_keeps_onsets(tmp_path):
    audio = np.zeros(20 * RATE, np.float32)
    audio[10 * RATE] = 0.9
    soundfile.write(tmp_path / "in.flac", audio, RATE)
    level, seconds = spectrogram(tmp_path / "in.flac", 100)
    assert level.shape[0] == 256
    assert 90 <= level.shape[1] <= 110
    assert np.argmax(level.sum(axis=0)) * seconds == pytest.approx(10, abs=2 * seconds)
