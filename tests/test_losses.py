"""Losses against values worked out by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

import data
import losses


def scale(*maps):
    """The answer of one discriminator: feature maps, the logits last."""
    return [tf.constant(values, tf.float32) for values in maps]


def outcome(target=(0.0,), output=(0.0,), real=(), fake=()):
    return losses.Outcome(tf.constant(target), tf.constant(output), list(real), list(fake))


def bce(probability):
    return -math.log(probability)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_l1_is_the_mean_absolute_difference():
    assert float(losses.l1(outcome((1.0, -1.0, 0.5, 0.0), (0.0, -1.0, -0.5, 1.0)))) == pytest.approx(0.75)


def test_binary_cross_entropy_by_hand():
    expected = (bce(sigmoid(2.0)) + bce(sigmoid(-1.0))) / 2
    assert float(losses.adversarial_bce(outcome(fake=[scale([2.0, -1.0])]))) == pytest.approx(expected, rel=1e-6)
    for real, fake, both in (
        (0.5, 3.0, bce(sigmoid(0.5)) + bce(1 - sigmoid(3.0))),
        (0.0, 0.0, 2 * math.log(2)),  # undecided
        (-500.0, 500.0, 1000.0),
    ):
        found = losses.discriminator_bce(outcome(real=[scale([real])], fake=[scale([fake])]))
        assert float(found) == pytest.approx(both, rel=1e-6)


def test_low_precision_is_added_up_in_float32():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (1, 64, 64, 1))
    exact = np.mean(np.log1p(np.exp(-logits)))
    found = losses.adversarial_bce(outcome(fake=[[tf.cast(logits, tf.float16)]]))
    assert found.dtype == tf.float32
    assert float(found) == pytest.approx(exact, rel=1e-3)


REAL = [scale([1.0, 2.0], [0.0], [1.0, 0.5]), scale([3.0], [4.0], [2.0])]
FAKE = [scale([0.0, 4.0], [0.5], [0.0, 0.5]), scale([3.0], [2.0], [-1.0])]


def test_least_squares_are_summed_over_scales():
    # First scale: ((0 - 1)^2 + (0.5 - 1)^2) / 2 = 0.625; second: (-1 - 1)^2 = 4.
    assert float(losses.adversarial_least_squares(outcome(real=REAL, fake=FAKE))) == pytest.approx(4.625)
    # Real: (0 + 0.25) / 2 + 1 = 1.125; fake: (0 + 0.25) / 2 + 1 = 1.125.
    assert float(losses.discriminator_least_squares(outcome(real=REAL, fake=FAKE))) == pytest.approx(2.25)


def test_feature_matching_sums_the_layers_and_leaves_out_the_logits():
    # (1 + 2) / 2 + 0.5, and 0 + 2.
    given = outcome((0.5, -1.0), (0.0, -0.5), REAL, FAKE)
    assert float(losses.feature_matching(given)) == pytest.approx(4.0)
    for l1_weight in (0.0, 10.0):
        total, _ = losses.evaluate(losses.hum2guitar(l1_weight).generator, given)
        assert float(total) == pytest.approx(4.625 + 10 * 4.0 + l1_weight * 0.5)


REPRESENTATION = data.Representation()


def tone(*magnitudes, bin_number=100):
    """A batch of one in the network's range: a partial with a magnitude for each frame."""
    frames = np.zeros((1, 256, len(magnitudes), 1), np.float32)
    frames[0, bin_number, :, 0] = magnitudes
    return tf.constant(2 * data.amplitude_to_db(frames, REPRESENTATION.amin) - 1)


def heard(loss, target, output):
    return float(loss(losses.Outcome(target, output), REPRESENTATION))


def test_a_tone_at_half_the_magnitude_is_6_db_too_soft_in_every_set_of_bands():
    levels = losses.band_levels(tone(0.5), REPRESENTATION)
    halved = losses.band_levels(tone(0.25), REPRESENTATION)
    for before, after in zip(levels, halved, strict=True):
        # The band of the tone falls by 6.02 dB; a range of 96.33 dB is 2 units wide.
        assert float(tf.reduce_max(before - after)) == pytest.approx(20 * math.log10(2) / (96.33 / 2), rel=1e-3)
    assert float(levels[-1][0, 0, 0]) == pytest.approx(20 * math.log10(0.5) / (96.33 / 2), rel=1e-3)


def test_band_energy_forgives_a_tone_one_bin_too_high_and_hears_one_that_is_too_soft():
    moved = heard(losses.band_energy, tone(0.5), tone(0.5, bin_number=101))
    softer = heard(losses.band_energy, tone(0.5), tone(0.25))
    assert moved < softer
    assert heard(losses.band_energy, tone(0.5), tone(0.5)) == 0


def test_onset_hears_the_change_and_not_the_level():
    steady, rising = tone(0.5, 0.5), tone(0.05, 0.5)
    assert heard(losses.onset, steady, tone(0.25, 0.25)) == pytest.approx(0, abs=1e-5)
    one_band = losses.band_levels(rising, REPRESENTATION)[-1]
    assert float(one_band[0, 0, 1] - one_band[0, 0, 0]) == pytest.approx(20 / (96.33 / 2), rel=1e-3)
    assert heard(losses.onset, rising, steady) >= 20 / (96.33 / 2) / 3 * 0.99


def test_perceptual_losses_have_a_finite_gradient_in_silence():
    output = tf.Variable(tone(0.0, 0.0, 0.0))
    with tf.GradientTape() as tape:
        outcome_ = losses.Outcome(tone(0.0, 0.5, 0.1), output)
        total, _ = losses.evaluate(losses.pix2pix(False, perceptual=REPRESENTATION).generator, outcome_)
    assert np.isfinite(tape.gradient(total, output).numpy()).all()


def test_the_weights_of_the_objectives():
    weights = {name: weight for name, (weight, _) in losses.pix2pix(True, 10.0, REPRESENTATION).generator.items()}
    assert weights == {"adversarial": 1.0, "mae": 10.0, "band_energy": 5.0, "onset": 10.0}
    assert losses.pix2pix().generator["mae"][0] == 100  # as published
    alone = losses.pix2pix(adversarial=False)
    assert {name: weight for name, (weight, _) in alone.generator.items()} == {"mae": 1.0}
    assert not alone.discriminator
