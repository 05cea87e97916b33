"""The losses by name, and the objectives: weighted sums of them.

A discriminator returns one list of feature maps for each of its scales, in which the logits come last. All losses are
float32 scalars, averaged over the batch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from data import Representation

Scales = list[list[tf.Tensor]]
BANDS = (64, 16, 1)  # mel bands in which `band_energy` and `onset` hear


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the losses are computed from: one batch through both networks.

    Attributes:
        target, output: true and generated spectrograms, (batch, bins, frames, 1) in [-1, 1].
        real, fake: what the discriminator returns for them; empty lists without a discriminator.
    """

    target: tf.Tensor
    output: tf.Tensor
    real: Scales = dataclasses.field(default_factory=list)
    fake: Scales = dataclasses.field(default_factory=list)


Terms = Mapping[str, tuple[float, Callable[[Outcome], tf.Tensor]]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """The named losses of both networks: ``{name: (weight, function of an Outcome)}``."""

    generator: Terms
    discriminator: Terms = dataclasses.field(default_factory=dict)


def evaluate(terms: Terms, outcome: Outcome) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The weighted sum of `terms`, and each of them by name without its weight."""
    values = {name: function(outcome) for name, (_, function) in terms.items()}
    return tf.add_n([terms[name][0] * value for name, value in values.items()]), values


def l1(outcome: Outcome) -> tf.Tensor:
    """Mean absolute error of the output, in the range [0, 2] of the network's scale."""
    return tf.reduce_mean(tf.abs(_float(outcome.target) - _float(outcome.output)))


def adversarial_bce(outcome: Outcome) -> tf.Tensor:
    """Binary cross-entropy of the output being judged real (Goodfellow et al., 2014)."""
    return _sum_over_scales(lambda logits: tf.nn.softplus(-logits), outcome.fake)


def discriminator_bce(outcome: Outcome) -> tf.Tensor:
    """Binary cross-entropy of target judged real plus that of output judged generated; not halved, as published."""
    real = _sum_over_scales(lambda logits: tf.nn.softplus(-logits), outcome.real)
    return real + _sum_over_scales(tf.nn.softplus, outcome.fake)


def adversarial_least_squares(outcome: Outcome) -> tf.Tensor:
    """Mean of (D(fake) - 1)^2, summed over the scales (LSGAN; Mao et al., 2017)."""
    return _sum_over_scales(lambda logits: tf.square(logits - 1), outcome.fake)


def discriminator_least_squares(outcome: Outcome) -> tf.Tensor:
    """Mean of (D(real) - 1)^2 plus mean of D(fake)^2, summed over the scales (LSGAN; Mao et al., 2017)."""
    real = _sum_over_scales(lambda logits: tf.square(logits - 1), outcome.real)
    return real + _sum_over_scales(tf.square, outcome.fake)


def feature_matching(outcome: Outcome) -> tf.Tensor:
    """Sum over scales and layers, logits left out, of the mean |D(real) - D(fake)| (pix2pixHD; Wang et al., 2018)."""
    distances = [
        tf.reduce_mean(tf.abs(tf.stop_gradient(_float(real)) - _float(fake)))
        for real_maps, fake_maps in zip(outcome.real, outcome.fake, strict=True)
        for real, fake in zip(real_maps[:-1], fake_maps[:-1], strict=True)
    ]
    return tf.add_n(distances)


def band_energy(outcome: Outcome, representation: Representation) -> tf.Tensor:
    """Mean |difference| of the levels in 64 mel bands, in 16, and of the whole frame; the mean of the three.

    A sum over a band forgives a partial that is drawn a bin too high and sees a note that is too soft, where `l1`
    weighs every bin alike. Levels are in dB above a floor of -80, in the network's unit (see `band_levels`).
    """
    return _distance(*(band_levels(x, representation) for x in (outcome.target, outcome.output)))


def onset(outcome: Outcome, representation: Representation) -> tf.Tensor:
    """As `band_energy`, of the change of the levels from frame to frame, which is large where a note begins."""
    levels = (band_levels(x, representation) for x in (outcome.target, outcome.output))
    return _distance(*([bands[..., 1:] - bands[..., :-1] for bands in of_one] for of_one in levels))


def _distance(target: list[tf.Tensor], output: list[tf.Tensor]) -> tf.Tensor:
    """Mean absolute difference, averaged over the sets of bands."""
    pairs = zip(target, output, strict=True)
    return tf.add_n([tf.reduce_mean(tf.abs(a - b)) for a, b in pairs]) / len(BANDS)


def band_levels(spectrogram: tf.Tensor, representation: Representation) -> list[tf.Tensor]:
    """Levels of spectrograms (batch, bins, frames, 1) in each of BANDS: (batch, bands, frames) each.

    10 log10(power + 1e-8), divided by half of the dB that the log scale spans for loud sounds (48.16 dB with the
    published amin), so that a difference has the unit of the network's range [-1, 1].
    """
    span = math.log1p(1 / representation.amin)
    magnitude = representation.amin * tf.math.expm1((_float(spectrogram)[..., 0] + 1) / 2 * span)
    decibels = 10 / math.log(10) / (10 * math.log10(1 / representation.amin))
    return [
        decibels * tf.math.log(tf.einsum("bft,fm->bmt", tf.square(magnitude), _filters(n_bands, representation)) + 1e-8)
        for n_bands in BANDS
    ]


@functools.cache
def _filters(n_bands: int, representation: Representation):
    """Triangular mel filters (bins, bands) from 30 Hz to the highest bin; for one band, the sum of all bins."""
    import librosa
    import numpy as np

    if n_bands == 1:
        return np.ones((representation.n_bins, 1), np.float32)
    highest = representation.n_bins * representation.bin_hz
    mel = librosa.filters.mel(
        sr=representation.sample_rate, n_fft=representation.n_fft, n_mels=n_bands, fmin=30, fmax=highest, norm=None
    )
    return mel[:, : representation.n_bins].T.astype(np.float32)


def _sum_over_scales(function: Callable[[tf.Tensor], tf.Tensor], scales: Scales) -> tf.Tensor:
    return tf.add_n([tf.reduce_mean(function(_float(maps[-1]))) for maps in scales])


def _float(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.float32)


def pix2pix(adversarial: bool = True, l1_weight: float = 100.0, perceptual: Representation | None = None) -> Objective:
    """The published objective: adversarial + 100 L1 or, without a discriminator, L1 alone.

    Args:
        adversarial: with a discriminator; `l1_weight` has no effect without.
        l1_weight: of the mean absolute error.
        perceptual: spectrograms of the data; adds `band_energy` and `onset` with half and once the weight of L1.
    """
    weight = l1_weight if adversarial else 1.0
    terms = {"mae": (weight, l1)}
    if perceptual:
        terms["band_energy"] = (0.5 * weight, functools.partial(band_energy, representation=perceptual))
        terms["onset"] = (weight, functools.partial(onset, representation=perceptual))
    if not adversarial:
        return Objective(terms)
    return Objective({"adversarial": (1.0, adversarial_bce), **terms}, {"classification": (1.0, discriminator_bce)})


def hum2guitar(l1_weight: float) -> Objective:
    """The published objective of pix2pixHD, with `l1_weight` times the mean absolute error added.

    Instance normalisation makes the discriminators blind to a constant added to a spectrogram. The published system
    does not need this term, because it scales each spectrogram to the full range of tanh. Here the range is fixed, so
    that no other loss tells the generator how loud a guitar is.
    """
    terms = {"adversarial": (1.0, adversarial_least_squares), "feature_matching": (10.0, feature_matching)}
    if l1_weight:
        terms["mae"] = (l1_weight, l1)
    return Objective(terms, {"classification": (1.0, discriminator_least_squares)})
