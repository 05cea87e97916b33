"""Feature files to batches: a batch depends on nothing but its step."""

import collections
import shutil

import numpy as np
import pytest
from made_pairs import samples_of

from common.errors import InputError
from training import dataset
from training.augmentation import Augmentation
from training.batches import Batches, iterate_batches, read_level, stream_batches

# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_precision_are_read(tmp_path, noise_features, dtype):
    """float16 is ours, float64 the original program's."""
    path = noise_features(tmp_path, {"a": {"x": 1}}, dtype) / "a" / "x_000.npy"
    found = read_level(path, (256, 256, 1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.load(path).astype(np.float64), atol=1e-7)
    assert found.min() < 0.01
    assert found.max() > 0.99


def damaged_files():
    good = np.zeros((256, 256, 1), np.float16)
    yield "no array", lambda path: path.write_text("nothing of the kind")
    yield "empty", lambda path: path.touch()
    yield "truncated", lambda path: (np.save(path, good), path.write_bytes(path.read_bytes()[:-10]))
    yield "damaged header", lambda path: (np.save(path, good), path.write_bytes(path.read_bytes().replace(b"{", b"(")))
    yield "objects", lambda path: np.save(path, np.array([{}], object))
    yield "archive", lambda path: (np.savez(path.with_suffix(".npz"), good), path.with_suffix(".npz").rename(path))
    yield "shape", lambda path: np.save(path, good[:, :200])
    yield "NaN", lambda path: np.save(path, good + np.nan)
    yield "infinite", lambda path: np.save(path, good + np.inf)
    yield "decibels", lambda path: np.save(path, good - 80)
    yield "words", lambda path: np.save(path, np.full(good.shape, "x"))
    yield "a folder", lambda path: path.mkdir()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "write"), damaged_files(), ids=[kind for kind, _ in damaged_files()])
def test_damaged_slice_is_named(tmp_path, kind, write):
    path = tmp_path / "x_000.npy"
    write(path)
    with pytest.raises(InputError, match=r"x_000\.npy: expected"):
        read_level(path, (256, 256, 1))


def test_wrong_shape_says_both(tmp_path):
    np.save(tmp_path / "x_000.npy", np.zeros((256, 128, 1)))
    with pytest.raises(InputError, match=r"\(256, 256, 1\), found \(256, 128, 1\)"):
        read_level(tmp_path / "x_000.npy", (256, 256, 1))


# --- batches ----------------------------------------------------------------------------------------------------------


def batches_of(pairs, batch_size=4, seed=3, **options):
    return Batches(pairs, pairs.samples, batch_size, seed, **options)


@pytest.mark.parametrize("style", [False, True])
def test_an_epoch_visits_every_slice_and_target_once(pairs, style):
    batches = batches_of(pairs, style=style)
    assert batches.steps_per_epoch == 6  # 23 in batches of 4
    for epoch in range(3):
        rows, _ = batches.order(epoch)
        assert sorted(rows) == list(range(23))


def test_batches_hold_what_the_order_says(folder, pairs):
    batches = batches_of(pairs, style=True)
    rows, styles = batches.order(1)
    inputs, target = batches.load(6 + 5)  # the last of the second epoch
    assert inputs.shape == (3, 256, 256, 2)
    assert target.shape == (3, 256, 256, 1)
    assert inputs.dtype == target.dtype == np.float32

    def level(instrument, name):
        return 2 * np.load(folder / instrument / str(name)).astype(np.float32)[..., 0] - 1

    for i, (row, style) in enumerate(zip(rows[20:], styles[20:], strict=True)):
        name, instrument = samples_of(pairs, pairs.samples[row : row + 1])[0]
        np.testing.assert_array_equal(inputs[i, ..., 0], level("piano", name))
        np.testing.assert_array_equal(target[i, ..., 0], level(instrument, name))
        np.testing.assert_array_equal(inputs[i, ..., 1], level(instrument, pairs.names[style]))


def test_style_is_never_the_answer(pairs):
    batches = batches_of(pairs, style=True)
    drawn = collections.defaultdict(set)
    for epoch in range(60):
        for row, style in zip(*batches.order(epoch), strict=True):
            drawn[tuple(pairs.samples[row])].add(int(style))
    for (name, target, _), styles in drawn.items():
        of_target = set(pairs.samples[pairs.samples[:, 1] == target, 0].tolist())
        assert styles == of_target - {name}  # all the others, in the long run


def test_a_single_slice_takes_its_style_from_elsewhere(pairs):
    """Of the one slice that is held out of a target, the style is a training slice, not the answer."""
    batches = Batches(pairs, pairs.samples[:1], 1, 0, style=True, shuffle=False)
    rows, styles = batches.order(0)
    assert rows.tolist() == [0]
    assert styles[0] != pairs.samples[0, 0]
    assert styles[0] in pairs.samples[pairs.samples[:, 1] == pairs.samples[0, 1], 0]


def test_validation_is_the_same_every_time(pairs):
    batches = batches_of(pairs, style=True, shuffle=False)
    first, again = batches.order(0), batches.order(7)
    assert first[0].tolist() == list(range(23))
    assert first[1].tolist() == again[1].tolist() == batches_of(pairs, style=True, shuffle=False).order(2)[1].tolist()


def test_order_depends_on_seed_and_epoch_alone(pairs):
    batches = batches_of(pairs, style=True)
    third = [part.tolist() for part in batches.order(3)]
    fresh = batches_of(pairs, style=True)
    assert [part.tolist() for part in fresh.order(3)] == third  # without having been through the epochs before
    assert fresh.order(2)[0].tolist() != third[0]
    assert batches_of(pairs, style=True, seed=4).order(3)[0].tolist() != third[0]
    assert batches_of(pairs, batch_size=5, style=True).order(3)[0].tolist() == third[0]


def test_batch_size_above_the_data(pairs):
    with pytest.raises(InputError, match=r"--batch_size: expected at most the 23 slices.*found 24"):
        batches_of(pairs, batch_size=24)
    assert batches_of(pairs, batch_size=24, shuffle=False).steps_per_epoch == 1  # validation may be small


def test_remainder_may_be_dropped(pairs):
    batches = batches_of(pairs, drop_remainder=True)
    assert batches.steps_per_epoch == 5
    assert [len(batches.load(step)[0]) for step in (4, 5)] == [4, 4]


def test_stream_gives_what_load_gives(pairs):
    batches = batches_of(pairs, style=True)
    for step, (inputs, target) in enumerate(iterate_batches(stream_batches(batches, 4, 9), batches), 4):
        expected = batches_of(pairs, style=True).load(step)
        np.testing.assert_array_equal(inputs.numpy(), expected[0])
        np.testing.assert_array_equal(target.numpy(), expected[1])
    assert step == 8


def test_stream_names_the_damaged_file(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "guitar" / "satie_003.npy").write_bytes(b"damaged")
    pairs = dataset.find_pairs(tmp_path / "copy", ["piano"], ["guitar"])
    batches = batches_of(pairs)
    with pytest.raises(InputError, match=r"guitar.satie_003\.npy: expected a feature slice"):
        list(iterate_batches(stream_batches(batches, 0, batches.steps_per_epoch), batches))


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_augmentation_changes_the_origin_alone_and_differently_in_each_epoch(pairs):
    augmentation = Augmentation(pairs.representation)
    plain = batches_of(pairs, batch_size=23, style=True)
    augmented = batches_of(pairs, batch_size=23, style=True, augmentation=augmentation)
    kept = {}
    for epoch in (0, 1):
        rows, _ = plain.order(epoch)
        inputs, target = augmented.load(epoch)
        expected, truth = plain.load(epoch)
        np.testing.assert_array_equal(target, truth)
        np.testing.assert_array_equal(inputs[..., 1], expected[..., 1])  # the style
        assert (np.abs(inputs[..., 0] - expected[..., 0]).max(axis=(1, 2)) > 1e-3).all()
        kept[epoch] = {row: origin for row, origin in zip(rows, inputs[..., 0], strict=True)}
    assert all((kept[0][row] != kept[1][row]).any() for row in kept[0])


def test_augmentation_depends_on_seed_epoch_and_sample_alone(pairs):
    """So a resumed run, another batch size and another order of loading see the same."""
    augmentation = Augmentation(pairs.representation)
    whole = batches_of(pairs, batch_size=23, augmentation=augmentation)
    whole.load(0)
    inputs, _ = whole.load(1)
    fresh = batches_of(pairs, batch_size=1, augmentation=Augmentation(pairs.representation))
    for i in (22, 3):
        np.testing.assert_array_equal(fresh.load(23 + i)[0][0], inputs[i])
    other = batches_of(pairs, batch_size=23, seed=4, augmentation=augmentation)
    assert sorted(other.order(1)[0]) == sorted(whole.order(1)[0])
    assert (other.load(1)[0] != inputs).any()
