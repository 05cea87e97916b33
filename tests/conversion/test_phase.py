"""Griffin-Lim brings audio closer to a given magnitude, also in chunks."""

import librosa
import numpy as np
import pytest
from made_conversions import make_music

from conversion.phase import apply_phase, griffin_lim
from data import PUBLISHED, forward_transform, unit
from sound.streaming import istft_blocks


def inconsistency(converted, wanted):
    """Spectral convergence: distance between the magnitude of the audio and the wanted one, over the latter."""
    magnitude, _ = forward_transform(converted)
    return np.linalg.norm(magnitude - wanted) / np.linalg.norm(wanted)


def test_griffin_lim_brings_the_audio_closer_to_the_magnitude():
    """The phase is that of one piece of music, the magnitude that of another."""
    other = make_music(4, 2)
    (wanted, _), (_, phase) = forward_transform(other), forward_transform(make_music(4, 1))
    chunk = (wanted / PUBLISHED.magnitude_scale, phase[: PUBLISHED.n_bins])
    results = {}
    for kind, iterations in (("input", 0), ("griffinlim", 0), ("griffinlim", 4), ("griffinlim", 24)):
        spectra = (output for output, _ in apply_phase([chunk], kind, PUBLISHED, iterations))
        audio = np.concatenate(list(istft_blocks(spectra, PUBLISHED)))[: len(other)]
        results[kind, iterations] = inconsistency(audio, wanted)
    assert results["griffinlim", 0] == pytest.approx(results["input", 0], rel=1e-6)
    assert results["griffinlim", 24] < results["griffinlim", 4] < 0.9 * results["input", 0]


def test_refining_in_chunks_is_about_as_good_as_refining_the_whole():
    """Each chunk is refined together with frames of its neighbours, so the seams are as consistent as the rest."""
    spectrum = np.random.default_rng(0).normal(size=(256, 400, 2)).astype(np.float32).view(np.complex64)[..., 0]
    target = np.abs(spectrum[:, ::-1]).copy()
    whole = target * griffin_lim(target, unit(spectrum), spectrum[:, :0], 16, PUBLISHED)
    pieces = zip(np.split(target, 4, axis=1), np.split(spectrum, 4, axis=1), strict=True)
    streamed = list(apply_phase(pieces, "griffinlim", PUBLISHED))
    chunked = np.concatenate([s for s, _ in streamed], axis=1)
    np.testing.assert_array_equal(np.concatenate([s for _, s in streamed], axis=1), spectrum)
    np.testing.assert_allclose(np.abs(chunked), target, rtol=1e-4, atol=1e-5)

    def error(refined):
        audio = np.concatenate(list(istft_blocks([refined], PUBLISHED)))
        found = librosa.stft(audio, n_fft=1024, hop_length=512, window=np.hanning(1024))[:256, :400]
        return np.linalg.norm(np.abs(found) - target) / np.linalg.norm(target)

    assert error(chunked) < 1.02 * error(whole) < 0.9 * error(target * unit(spectrum))
