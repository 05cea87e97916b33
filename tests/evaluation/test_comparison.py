"""Pairs found, reference rows, columns of models, summaries: against hand-made cases."""

import dataclasses
import pathlib
import warnings

import numpy as np
import pytest
import scipy.stats
from made_sounds import RATE, melody, tone, write
from made_weights import write_model

import data
from common.audio import read_audio, resample
from common.errors import InputError
from data import PUBLISHED, Representation
from evaluation import comparison, metrics
from training import dataset

BEST = {metric.name: metric.best for metric in metrics.METRICS}


@pytest.fixture
def pair(tmp_path):
    origin, target = write(tmp_path / "origin.wav", melody()), write(tmp_path / "target.wav", melody(3))
    return comparison.Pair("origin", origin, target)


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_two_recordings_are_one_pair(pair):
    assert comparison.find_pairs(pair.origin, str(pair.target)) == ([pair], [])


def test_folders_are_paired_by_name_whatever_the_extension(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "a/sub/3.wav", "b/1.flac", "b/sub/3.wav", "b/4.wav"):
        write(tmp_path / name)
    pairs, left_out = comparison.find_pairs(tmp_path / "a", tmp_path / "b")
    assert [(p.name, p.origin.name, p.target.name) for p in pairs] == [
        ("1", "1.wav", "1.flac"), ("sub_3", "3.wav", "3.wav"),
    ]  # fmt: skip
    assert sorted(name[-5:] for name, _ in left_out) == ["2.wav", "4.wav"]
    assert all("no counterpart" in reason for _, reason in left_out)


def test_what_cannot_be_paired_is_refused(tmp_path):
    file = write(tmp_path / "a" / "1.wav")
    write(tmp_path / "b" / "2.wav")
    for origin, target, text in (
        (tmp_path / "none", file, "--origin_audio: expected a recording or a folder"),
        (file, tmp_path / "none", "--target_audio: expected a recording or a folder"),
        (file, tmp_path / "b", "two recordings or two folders"),
        (tmp_path / "a", tmp_path / "b", "with the same names"),
    ):
        with pytest.raises(InputError, match=text):
            comparison.find_pairs(origin, target)


def split(share, seed, targets=("guitar",)):
    return comparison.Split(("piano",), targets, share, seed)


def _dataset(tmp_path, pieces, instruments=("piano", "guitar")):
    for instrument in instruments:
        (tmp_path / "features" / instrument).mkdir(parents=True)
        for piece in pieces:
            np.save(tmp_path / "features" / instrument / f"{piece}_000.npy", np.zeros((256, 256, 1), np.float16))
            write(tmp_path / "audios" / instrument / f"{piece}.wav", tone(60, 0.02))
    return tmp_path / "features", tmp_path / "audios", "piano", "guitar"


def test_validation_pairs_are_whole_held_out_pieces_with_their_recordings(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(10)])
    held_out = {}
    for seed in range(3):
        pairs, left_out, remarks = comparison.find_validation_pairs(*paths, [split(0.3, seed)])
        held_out[seed] = tuple(p.name for p in pairs)
        assert len(pairs) == 3
        assert not left_out
        assert remarks[0].startswith("3 of 10 pieces")
        for p in pairs:
            assert (p.origin.parent.name, p.target.parent.name) == ("piano", "guitar")
            assert p.origin.stem == p.target.stem == p.name
    assert len(set(held_out.values())) > 1
    (tmp_path / "audios" / "guitar" / f"{held_out[0][0]}.wav").unlink()
    pairs, left_out, _ = comparison.find_validation_pairs(*paths, [split(0.3, 0)])
    assert tuple(p.name for p in pairs) == held_out[0][1:]
    assert left_out[0][0] == held_out[0][0]
    assert "guitar" in left_out[0][1]


def test_a_data_set_without_a_held_out_piece_is_refused(tmp_path):
    def find(name, pieces, *shares):
        splits = [split(share, seed) for seed, share in enumerate(shares)]
        return comparison.find_validation_pairs(*_dataset(tmp_path / name, pieces), splits)

    with pytest.raises(InputError, match="--validation_split"):
        find("two", ["a", "b"], 0.0)
    with pytest.raises(InputError, match="several pieces"):
        find("one", ["a"], 0.5)
    with pytest.raises(InputError, match="all models have held out"):  # one of ten each
        find("ten", list("abcdefghij"), 0.1, 0.1)


def test_a_multitarget_models_pieces_are_those_that_its_own_training_has_held_out(tmp_path):
    """It draws them from the pieces of all its targets, of which one may lack some."""
    features, audios, *_ = _dataset(tmp_path, [f"piece {i}" for i in range(10)], ("piano", "guitar", "flute"))
    for i in (2, 5):
        (features / "flute" / f"piece {i}_000.npy").unlink()
    targets, differs = ("guitar", "flute"), False
    for seed in range(4):
        pairs = dataset.find_pairs(features, ["piano"], targets)
        training, held_out, _ = dataset.split_by_piece(pairs, 0.3, seed)
        trained, expected = ({str(pairs.names[n])[:-8] for n, t, _ in rows if t == 1} for rows in (training, held_out))
        splits = [split(0.3, seed, targets)]
        found, _, _ = comparison.find_validation_pairs(features, audios, "piano", "flute", splits)
        assert {pair.name for pair in found} == expected
        alone = [split(0.3, seed, ("flute",))]
        found, _, _ = comparison.find_validation_pairs(features, audios, "piano", "flute", alone)
        differs |= bool({pair.name for pair in found} & trained)
    assert differs


def test_pieces_are_those_that_all_models_have_held_out(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(10)])
    splits = [split(0.5, seed) for seed in (0, 1)]
    one, two = ({p.name for p in comparison.find_validation_pairs(*paths, [each])[0]} for each in splits)
    pairs, _, remarks = comparison.find_validation_pairs(*paths, splits)
    assert {p.name for p in pairs} == one & two != one
    assert remarks[-1].endswith(f"{len(one & two)} pieces")


def test_splits_are_those_given_or_those_recorded_with_the_models(tmp_path):
    silent = comparison.describe_models([write_model(tmp_path / "silent" / "g.h5")])
    settings = {"origin": "a", "targets": ["b", "c"], "validation_split": 0.25, "seed": 7}
    recorded = [("recorded", dataclasses.replace(silent[0][1], settings=settings))]

    def read(described, *flags):
        return comparison.read_splits(described, "a", "b", *flags)

    assert read(recorded) == ([comparison.Split(("a",), ("b", "c"), 0.25, 7)], [])
    assert read(recorded, 0.5, 3) == ([comparison.Split(("a",), ("b", "c"), 0.5, 3)], [])
    assert read([], None, 3) == ([comparison.Split(("a",), ("b",), 0.1, 3)], [])
    splits, (remark,) = read([*recorded, *silent])
    assert splits == [comparison.Split(("a",), ("b", "c"), 0.25, 7), comparison.Split(("a",), ("b",), 0.1, 0)]
    assert "silent" in remark
    assert "--validation_split 0.1 --seed 0" in remark
    assert read(silent, 0.1, 0)[1] == []  # then the user has said it
    voices = {"origins": ["a@1", "a@2"], "targets": ["b", "b"], "voices": ["b@1", "b@2"], "identity": False}
    recorded = [("recorded", dataclasses.replace(silent[0][1], settings={**settings, **voices}))]
    assert read(recorded)[0] == [comparison.Split(("a@1", "a@2"), ("b@1", "b@2"), 0.25, 7, identity=False)]


# --- voices -----------------------------------------------------------------------------------------------------------

PIANOS = ("piano@grand", "piano@upright")


def test_a_folder_stands_for_all_voices_of_its_instrument(tmp_path):
    for folder, names in {"piano@grand": "12", "piano@upright": "23", "pianola": "1", "guitar": "124"}.items():
        for name in names:
            write(tmp_path / folder / f"{name}.wav", tone(60, 0.1))
    pairs, left_out = comparison.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [(p.name, p.voice, p.piece, p.target.stem) for p in pairs] == [
        ("piano@grand/1", "piano@grand", "1", "1"),
        ("piano@grand/2", "piano@grand", "2", "2"),
        ("piano@upright/2", "piano@upright", "2", "2"),
    ]
    assert [p.origin.parent.name for p in pairs] == ["piano@grand", "piano@grand", "piano@upright"]
    assert sorted(pathlib.Path(name).name for name, _ in left_out) == ["3.wav", "4.wav"]
    single, _ = comparison.find_pairs(tmp_path / "piano@upright", tmp_path / "guitar")
    assert [(p.name, p.voice) for p in single] == [("2", "")]
    write(tmp_path / "guitar@steel" / "1.wav", tone(60, 0.1))
    pairs, _ = comparison.find_pairs(tmp_path / "piano", tmp_path / "guitar")
    assert [p.voice for p in pairs] == [
        "piano@grand to guitar", "piano@grand to guitar", "piano@grand to guitar@steel", "piano@upright to guitar",
    ]  # fmt: skip


def test_validation_pairs_of_an_instrument_are_those_of_all_its_voices(tmp_path):
    pieces = [f"piece {i}" for i in range(8)] + ["piece 0~1", "piece 1~1"]  # two in another key as well
    features, audios, *_ = _dataset(tmp_path, pieces, (*PIANOS, "guitar"))
    splits = [split(0.5, 0)]
    pairs, left_out, _ = comparison.find_validation_pairs(features, audios, "piano", "guitar", splits)
    assert not left_out
    of_voice = {voice: [p.piece for p in pairs if p.voice == voice] for voice in PIANOS}
    assert of_voice[PIANOS[0]] == of_voice[PIANOS[1]]
    scores = {piece.removesuffix("~1") for piece in of_voice[PIANOS[0]]}
    assert 2 <= len(scores) <= 6
    assert of_voice[PIANOS[0]] == sorted(piece for piece in pieces if piece.removesuffix("~1") in scores)
    assert all(p.origin.parent.name == p.voice and p.target.parent.name == "guitar" for p in pairs)
    # One voice is a row of its own; its pieces are those that the model of both voices has not been trained on.
    pairs, _, _ = comparison.find_validation_pairs(features, audios, "piano@upright", "guitar", splits)
    assert [(p.voice, p.piece) for p in pairs] == [("", piece) for piece in of_voice[PIANOS[1]]]


def test_a_model_of_voices_that_the_data_set_lacks_is_evaluated_with_a_remark(tmp_path):
    paths = _dataset(tmp_path, [f"piece {i}" for i in range(8)])
    own, _, (line,) = comparison.find_validation_pairs(*paths, [split(0.5, 0)])
    others = [comparison.Split(("piano@grand", "piano"), ("guitar",), 0.5, 0)]
    pairs, _, remarks = comparison.find_validation_pairs(*paths, others)
    assert pairs == own
    assert "piano@grand" in remarks[0]
    assert remarks[1] == line


def test_a_multitarget_model_gets_the_style_of_another_piece_of_the_same_voice(tmp_path):
    path = write_model(tmp_path / "any" / "generator.h5", in_channels=2)
    sounds = [write(tmp_path / f"{i}.wav", tone(pitch, 0.5)) for i, pitch in enumerate((50, 60))]
    pairs = [comparison.Pair(str(i), sounds[0], sounds[i], voice) for voice in PIANOS for i in (0, 1)]
    (model,) = comparison.load_models(comparison.describe_models([path]), pairs, RATE)
    outputs = [model.convert(tone(55, 0.5), pair) for pair in pairs]
    for one, other in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(outputs[one], outputs[other])
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-6


# --- models -----------------------------------------------------------------------------------------------------------


def test_models_are_named_by_their_folders_as_shortly_as_tells_them_apart(tmp_path):
    paths = [
        write_model(tmp_path / "x" / "a_2_b" / "generator.h5"),
        write_model(tmp_path / "y" / "a_2_b" / "generator.h5"),
        write_model(tmp_path / "y" / "copy" / "generator.h5"),
    ]
    (name, description), *_ = comparison.describe_models([paths[0].parent])
    assert name == "a_2_b"
    assert description.path == paths[0]
    assert [name for name, _ in comparison.describe_models(paths[:2])] == ["x/a_2_b", "y/a_2_b"]
    assert comparison.describe_models(paths[2:])[0][0] == "copy/generator.h5"  # copy is a reference row
    other = write_model(paths[0].with_name("generator_best.h5"))
    names = [name for name, _ in comparison.describe_models([paths[0], other])]
    assert names == ["a_2_b/generator.h5", "a_2_b/generator_best.h5"]
    with pytest.raises(InputError, match="twice"):
        comparison.describe_models([paths[0], paths[0].parent])
    with pytest.raises(InputError, match="found nothing"):
        comparison.describe_models([tmp_path / "none"])
    with pytest.raises(InputError, match="1 or 2 input channels, found 3"):
        comparison.describe_models([write_model(tmp_path / "3" / "generator.h5", 3)])
    assert comparison.describe_models([]) == []


def test_models_of_different_representations_do_not_stand_side_by_side(tmp_path):
    other = Representation(n_fft=2048)
    paths = [
        write_model(tmp_path / "a" / "generator.h5"),
        write_model(tmp_path / "b" / "generator.h5", representation=other.to_dict()),
    ]
    described = [description for _, description in comparison.describe_models(paths)]
    assert comparison.common_representation([]) == PUBLISHED
    assert comparison.common_representation(described[1:]) == other
    with pytest.raises(InputError, match="one representation"):
        comparison.common_representation(described)


def test_instruments_are_those_given_or_those_that_the_model_says(tmp_path):
    one = comparison.describe_models([write_model(tmp_path / "1" / "g.h5", origin="a", targets=["b"])])
    several = comparison.describe_models([write_model(tmp_path / "2" / "g.h5", origin="a", targets=["b", "c"])])
    assert comparison.choose_instruments(one, None, None) == ("a", "b")
    assert comparison.choose_instruments(one, "x", "y") == ("x", "y")
    assert comparison.choose_instruments(several, None, "c") == ("a", "c")
    voices = {"origins": ["a@1", "a@2"], "targets": ["b", "b"]}
    two = comparison.describe_models(
        [write_model(tmp_path / "3" / "g.h5", origin="a", voices=["b@1", "b@2"], **voices)]
    )
    assert comparison.choose_instruments(two, None, None) == ("a", "b")
    of_one = comparison.describe_models([write_model(tmp_path / "4" / "g.h5", origin="any", voices=["b@1"], **voices)])
    assert comparison.choose_instruments(of_one, "a@1", None) == ("a@1", "b@1")
    for described, flag in ((several, "--target"), ([], "--origin"), (of_one, "--origin")):
        with pytest.raises(InputError, match=flag):
            comparison.choose_instruments(described, None, None)


def test_a_multitarget_model_hears_the_next_pairs_target_or_the_given_style(tmp_path):
    path = write_model(tmp_path / "any" / "generator.h5", in_channels=2)
    recordings = [write(tmp_path / f"{i}.wav", tone(pitch, 1.0)) for i, pitch in enumerate((50, 60, 80))]
    pairs = [comparison.Pair(str(i), recordings[0], recording) for i, recording in enumerate(recordings[:2])]
    described, audio = comparison.describe_models([path]), melody()
    (model,) = comparison.load_models(described, pairs, RATE)
    first, second = (model.convert(audio, pair) for pair in pairs)
    (styled,) = comparison.load_models(described, pairs, RATE, style=recordings[1])
    assert np.abs(first - second).max() > 1e-6
    np.testing.assert_array_equal(styled.convert(audio, pairs[1]), first)  # the target of pair 1 is the style of pair 0
    (other,) = comparison.load_models(described, pairs, RATE, style=recordings[2])
    assert np.abs(other.convert(audio, pairs[0]) - first).max() > 1e-6


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_a_perfect_model_is_at_its_best_in_every_metric_and_a_bad_one_is_not(pair):
    target = read_audio(pair.target)
    models = [
        comparison.Model("perfect", pair.target, "", lambda audio, _: target.copy()),
        comparison.Model("quiet", pair.target, "", lambda audio, _: 0.1 * audio),
    ]
    models.append(dataclasses.replace(models[0], name="unsliced", is_sliced=False))
    result = comparison.evaluate_pair(pair, models, griffinlim_iterations=2, n_overlap=64)
    assert list(result.values) == [*comparison.REFERENCES, "perfect", "quiet", "unsliced"]
    assert result.values["perfect"] == BEST
    assert np.isnan(result.values["unsliced"].pop("seam"))
    assert {**result.values["unsliced"], "seam": 1.0} == BEST
    assert result.values["quiet"]["loudness"] == pytest.approx(20, abs=4)
    assert result.values["quiet"]["mae"] > result.values["copy"]["mae"] > 0
    assert result.seconds == pytest.approx(2)
    assert not result.notes
    np.testing.assert_array_equal(result.audios["origin"], read_audio(pair.origin))


def test_a_model_that_answers_nan_is_named(pair):
    model = comparison.Model("broken", pair.target, "", lambda audio, _: audio * np.nan)
    with pytest.raises(InputError, match=r"target\.wav.*NaN"):
        comparison.evaluate_pair(pair, [model], griffinlim_iterations=0)


def test_reference_rows_are_what_they_say():
    origin, target = melody(), melody(3)
    rows = comparison.make_references(origin, target, griffinlim_iterations=8)
    assert list(rows) == list(comparison.REFERENCES)
    np.testing.assert_array_equal(rows["copy"], origin)
    assert all(row.shape == target.shape for row in rows.values())
    # Only the clicks at the notes' beginnings reach above the band: the way through the transform loses 1 % at most.
    assert np.linalg.norm(rows["bypass"] - target) < 0.01 * np.linalg.norm(target)
    magnitude, _ = data.forward_transform(target)
    errors = {
        name: metrics.network_mae(data.forward_transform(row)[0], magnitude)
        for name, row in {
            **rows, "noise": comparison.make_references(origin, target, griffinlim_iterations=0)["griffinlim"],
        }.items()
    }  # fmt: skip
    assert errors["bypass"] < errors["griffinlim"] < errors["noise"]
    assert errors["bypass"] < errors["input_phase"] < errors["copy"]
    own = comparison.make_references(target, target, griffinlim_iterations=0)
    np.testing.assert_array_equal(own["input_phase"], own["bypass"])


def test_griffin_lim_of_a_long_piece_is_drawn_from_its_seed(monkeypatch):
    monkeypatch.setattr("evaluation.comparison.CHUNK_FRAMES", 50)
    audio = melody()
    once, again, other = (
        comparison.make_references(audio, audio, griffinlim_iterations=2, seed=seed)["griffinlim"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01


def test_length_and_silence_are_noted(tmp_path):
    origin = write(tmp_path / "o.wav", np.concatenate([melody(), np.zeros(RATE, np.float32)]))
    silent = write(tmp_path / "t.wav", np.zeros(2 * RATE, np.float32))
    result = comparison.evaluate_pair(comparison.Pair("p", origin, silent), [], griffinlim_iterations=1)
    assert any("origin is 1.000 s longer" in note for note in result.notes)
    assert any("target is silent" in note for note in result.notes)
    assert all(np.isfinite(list(values.values())).all() for values in result.values.values())
    assert result.values["bypass"] == BEST


def test_another_sample_rate_and_stereo_are_brought_to_the_representations(tmp_path):
    audio = resample(melody(), RATE, 48000)
    origin = write(tmp_path / "o.wav", np.stack([audio, audio]), 48000)
    target = write(tmp_path / "t.wav", melody())
    result = comparison.evaluate_pair(comparison.Pair("p", origin, target), [], griffinlim_iterations=0)
    assert result.values["copy"]["mae"] < 0.02
    assert result.values["copy"]["onset_f1"] == 1


def test_a_pair_that_cannot_be_read_is_left_out_of_many(tmp_path, pair):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    pairs = [comparison.Pair("bad", bad, pair.target), pair]
    left_out = []
    results = list(comparison.evaluate(pairs, [], griffinlim_iterations=0, left_out=left_out))
    assert [result.pair.name for result in results] == ["origin"]
    assert [name for name, _ in left_out] == ["bad"]
    with pytest.raises(InputError, match=r"bad\.wav"):
        list(comparison.evaluate(pairs, [], griffinlim_iterations=0))


# --- summary ----------------------------------------------------------------------------------------------------------


def _values(maes):
    return [{"copy": {"mae": mae}, "double": {"mae": 2 * mae}} for mae in maes]


def test_mean_median_and_interval():
    maes = [0.1, 0.2, 0.2, 0.3, 0.9, 0.4, 0.15, 0.25]
    found = comparison.summarise(_values(maes))["copy"]["mae"]
    assert found.mean == pytest.approx(np.mean(maes))
    assert found.median == pytest.approx(0.225)
    expected = scipy.stats.bootstrap((maes,), np.mean, n_resamples=20_000, method="percentile", rng=1)
    np.testing.assert_allclose([found.low, found.high], expected.confidence_interval, atol=0.02)
    double = comparison.summarise(_values(maes))["double"]["mae"]
    np.testing.assert_allclose([double.low, double.high], [2 * found.low, 2 * found.high])


def test_all_pairs_of_a_piece_are_drawn_together():
    """Two pieces in four voices each: a data set drawn from the pieces has the mean 0.2, 0.3 or 0.4."""
    statistics = comparison.summarise(_values([0.2] * 4 + [0.4] * 4), ["a"] * 4 + ["b"] * 4)["copy"]["mae"]
    assert (statistics.mean, statistics.low, statistics.high) == pytest.approx((0.3, 0.2, 0.4))
    # Of three pairs of a and one of b the mean is that of the pairs.
    assert comparison.summarise(_values([0.1, 0.1, 0.1, 0.5]), list("aaab"))["copy"]["mae"].mean == pytest.approx(0.2)
    assert np.isnan(comparison.summarise(_values([0.1, 0.2]), ["a", "a"])["copy"]["mae"].low)


def test_intervals_of_one_pair_of_equal_pairs_and_of_what_has_no_value():
    single = comparison.summarise(_values([0.2]))["copy"]["mae"]
    assert (single.mean, single.median) == (0.2, 0.2)
    assert np.isnan([single.low, single.high]).all()
    equal = comparison.summarise(_values([0.2, 0.2, 0.2]))["copy"]["mae"]
    np.testing.assert_allclose([equal.low, equal.high], 0.2)
    values = [{"copy": {"mae": mae, "seam": np.nan}} for mae in (0.1, 0.2, 0.3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown = comparison.summarise(values)["copy"]["seam"]
    assert np.isnan([unknown.mean, unknown.low, unknown.high]).all()


def test_the_worst_are_named_worst_first():
    names = list("abcdefg")
    assert comparison.find_worst(names, _values([0.1, 0.7, 0.3, 0.2, 0.6, 0.5, 0.4]), "copy") == list("befgc")
    assert comparison.find_worst(names[:2], _values([0.1, 0.7]), "double") == ["b", "a"]
