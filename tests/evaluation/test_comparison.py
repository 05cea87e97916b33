"""Columns of models, reference rows and summaries, against hand-made cases."""

import dataclasses
import warnings

import numpy as np
import pytest
import scipy.stats
from made_sounds import RATE, melody, tone, write
from made_weights import write_generator

import data
from common import InputError, weights
from evaluation import comparison, metrics
from evaluation.pairing import Pair
from sound.files import read_audio

BEST = {metric.name: metric.best for metric in metrics.METRICS}


@pytest.fixture
def pair(tmp_path):
    origin, target = write(tmp_path / "origin.wav", melody()), write(tmp_path / "target.wav", melody(3))
    return Pair("origin", origin, target)


def test_models_are_named_by_their_folders_or_by_paths_that_tell_them_apart(tmp_path):
    first, second, copy = (
        write_generator(tmp_path / folder / "generator.h5") for folder in ("x/a_2_b", "y/a_2_b", "copy")
    )
    for models, names in (
        ([first.parent], ["a_2_b"]),
        ([first, second], ["x/a_2_b/generator.h5", "y/a_2_b/generator.h5"]),
        ([copy], ["generator.h5"]),  # copy is a reference row
    ):
        assert list(comparison.describe_models(models)) == names


def test_seeds_of_one_model_are_found(tmp_path):
    described = weights.describe(write_generator(tmp_path / "generator.h5"))

    def find(*settings):
        return comparison.find_seeds({f"model {i}": dataclasses.replace(described, settings=s) for i, s in settings})

    settings = [{"seed": 0}, {"seed": 1, "epoch": 7}, {"seed": 2, "augment": True}, {"seed": 0, "epoch": 3}]
    assert find(*enumerate(settings)) == ["model 0", "model 1"]
    assert find((0, settings[0]), (2, settings[2])) == find((0, settings[0]), (3, settings[3])) == find() == []


def test_a_multitarget_model_hears_the_next_pairs_target_or_the_given_style(tmp_path):
    path = write_generator(tmp_path / "any" / "generator.h5", in_channels=2)
    recordings = [write(tmp_path / f"{i}.wav", tone(pitch, 1.0)) for i, pitch in enumerate((50, 60))]
    pairs = [Pair(str(i), recordings[0], recording) for i, recording in enumerate(recordings)]
    described, audio = weights.describe(path), melody()
    convert = comparison.load_model(described, pairs, RATE)
    first, second = (convert(audio, pair) for pair in pairs)
    assert np.abs(first - second).max() > 1e-6
    given = comparison.load_model(described, pairs, RATE, style=recordings[1])
    np.testing.assert_array_equal(given(audio, pairs[1]), first)  # the target of pair 1 is the style of pair 0


def test_a_perfect_model_is_at_its_best_in_every_metric_and_a_bad_one_is_not(pair):
    target = read_audio(pair.target)
    models = {"perfect": lambda audio, _: target.copy(), "quiet": lambda audio, _: 0.1 * audio}
    result, audios = comparison.evaluate_pair(pair, models)
    values = result["values"]
    assert list(values) == [*comparison.REFERENCES, "perfect", "quiet"]
    assert values["perfect"] == BEST
    assert values["quiet"]["gain"] == pytest.approx(20, abs=4)
    assert values["quiet"]["mae"] == pytest.approx(values["copy"]["mae"], rel=0.02)  # only its level differs
    assert result["target_itself"]["attack"] > 0
    assert (result["seconds"], result["notes"]) == (pytest.approx(2), [])
    np.testing.assert_array_equal(audios["origin"], read_audio(pair.origin))
    with pytest.raises(InputError):
        comparison.evaluate_pair(pair, {"broken": lambda audio, _: audio * np.nan})


def test_reference_rows_are_what_they_say():
    origin, target = melody(), melody(3)
    rows = comparison.make_references(origin, target)
    np.testing.assert_array_equal(rows["copy"], origin)
    assert all(row.shape == target.shape for row in rows.values())
    # Only the clicks at the notes' beginnings reach above the band: the way through the transform loses 1 % at most.
    assert np.linalg.norm(rows["bypass"] - target) < 0.01 * np.linalg.norm(target)
    magnitude, _ = data.forward_transform(target)
    errors = {name: metrics.network_mae(data.forward_transform(row)[0], magnitude) for name, row in rows.items()}
    assert errors["bypass"] < errors["griffinlim"] < errors["input_phase"]
    assert errors["bypass"] < errors["input_phase"] < errors["copy"]
    own = comparison.make_references(target, target)
    np.testing.assert_array_equal(own["input_phase"], own["bypass"])


def test_length_and_silence_are_noted(tmp_path, monkeypatch):
    origin = write(tmp_path / "o.wav", np.concatenate([melody(), np.zeros(RATE, np.float32)]))
    silent = write(tmp_path / "t.wav", np.zeros(2 * RATE, np.float32))
    result, _ = comparison.evaluate_pair(Pair("p", origin, silent), {})
    assert any("origin is 1.000 s longer" in note for note in result["notes"])
    assert any("target is silent" in note for note in result["notes"])
    bypass = {name: value for name, value in result["values"]["bypass"].items() if np.isfinite(value)}
    assert bypass == {name: best for name, best in BEST.items() if name not in ("attack", "flutter")}

    monkeypatch.setattr(comparison, "MAX_SECONDS", 1)  # of a long recording, only the beginning is evaluated
    result, audios = comparison.evaluate_pair(Pair("a", origin, origin), {})
    np.testing.assert_array_equal(audios["target"], read_audio(origin)[:RATE])
    assert len(result["notes"]) == 2


def _values(maes):
    return [{"copy": {"mae": mae}} for mae in maes]


def test_mean_median_and_interval():
    maes = [0.1, 0.2, 0.2, 0.3, 0.9, 0.4, 0.15, 0.25]
    found = comparison.summarise(_values(maes))["copy"]["mae"]
    assert found["mean"] == pytest.approx(np.mean(maes))
    assert found["median"] == pytest.approx(0.225)
    expected = scipy.stats.bootstrap((maes,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    np.testing.assert_allclose([found["low"], found["high"]], expected.confidence_interval, atol=0.02)


def test_all_pairs_of_a_piece_are_drawn_together():
    """Two pieces in four voices each: a data set drawn from the pieces has the mean 0.2, 0.3 or 0.4."""
    statistics = comparison.summarise(_values([0.2] * 4 + [0.4] * 4), ["a"] * 4 + ["b"] * 4)["copy"]["mae"]
    assert (statistics["mean"], statistics["low"], statistics["high"]) == pytest.approx((0.3, 0.2, 0.4))
    # Of three pairs of a and one of b the mean is that of the pairs.
    uneven = comparison.summarise(_values([0.1, 0.1, 0.1, 0.5]), list("aaab"))["copy"]["mae"]
    assert uneven["mean"] == pytest.approx(0.2)
    assert np.isnan(comparison.summarise(_values([0.1, 0.2]), ["a", "a"])["copy"]["mae"]["low"])


def test_intervals_of_one_pair_and_of_what_has_no_value():
    single = comparison.summarise(_values([0.2]))["copy"]["mae"]
    assert single == pytest.approx({"mean": 0.2, "median": 0.2, "low": np.nan, "high": np.nan}, nan_ok=True)
    values = [{"copy": {"attack": np.nan, "flutter": flutter}} for flutter in (1, np.nan, 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = comparison.summarise(values)["copy"]
    assert np.isnan(list(summary["attack"].values())).all()
    assert summary["flutter"] == {"mean": 2, "median": 2, "low": 1, "high": 3}
