"""What a run shows: history.csv, the status line, the warnings, animations and TensorBoard."""

import io
import math

import matplotlib
import numpy as np
import pytest
import soundfile
from PIL import Image

import data
from common import plots
from sound.files import read_audio
from training import dataset, outputs
from training.outputs import Status, advise, warnings


def test_status_line_in_a_log_file(monkeypatch, capsys):
    """One line in 30 s without control characters; the first steps, which include the compilation, do not count."""
    now = [0.0]
    monkeypatch.setattr(outputs.time, "monotonic", lambda: now[0])
    status = Status("epoch 1/2", 100, step=20, n_later=240)
    for at in (100.0, 120.0, 140.0):
        now[0] = at
        status.advance(10, {"generator_loss": 12.5, "mae": 0.125})
    status.close()
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("  ") == ["epoch 1/2", "step 30/100", "generator_loss 12.5", "mae 0.125"]
    assert second.endswith("step 50/100  generator_loss 12.5  mae 0.125  0:09:40 left")  # 290 steps of 2 s


def row(epoch=1, **values):
    return {"epoch": epoch, "step": 10 * epoch, "slices_per_second": 2.0, "adversarial": 1.5, **values}


def test_a_discriminator_that_knows_everything_or_guesses():
    rows = [row(1, discriminator_loss=0.5), row(2, discriminator_loss=0.001)]
    assert warnings(rows[:1]) == []
    assert len(warnings(rows)) == 1
    assert warnings([*rows, row(3, discriminator_loss=0.001)]) == []  # said once
    log2 = math.log(2)
    assert warnings([row(1, adversarial=log2)]) == []  # as every run begins
    assert warnings([row(1, adversarial=1.2), row(2, adversarial=log2)]) == []
    assert len(warnings([row(1, adversarial=log2 + 0.003), row(2, adversarial=log2 - 0.003)])) == 1


@pytest.mark.parametrize(("errors", "n_warnings"), [
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1),
    ([0.1, 0.2, 0.3, 0.4, 0.5], 0),
    ([0.1, 0.2, 0.3, 0.2, 0.4, 0.5, 0.6], 0),
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 0),  # said an epoch ago
    ([math.nan] * 7, 0),
])  # fmt: skip
def test_validation_error_that_rises(errors, n_warnings):
    assert len(warnings([row(i, val_mae=error) for i, error in enumerate(errors)])) == n_warnings
    worse = [row(i, val_mae=error, val_copy_mae=0.05) for i, error in enumerate(errors)]
    assert warnings(worse) == []  # nothing was learnt that could be memorised


@pytest.mark.parametrize(("errors", "expected"), [
    ([0.5], "train longer"),  # worse than copying, after too little to tell why
    ([0.5, 0.45, 0.4, 0.35, 0.3, 0.25], "train longer"),  # worse, and falling
    ([0.5, 0.3, 0.3, 0.31, 0.3, 0.3], "other learning rates"),
    ([0.1, 0.05, 0.05, 0.05, 0.05, 0.05], ""),
    ([0.19, 0.18, 0.17, 0.16, 0.15, 0.14], "train longer"),
])  # fmt: skip
def test_the_advice_is_that_of_the_curve(errors, expected):
    found = advise([row(i, val_mae=error, val_copy_mae=0.2) for i, error in enumerate(errors, 1)])
    assert (expected in found) if expected else not found


def test_a_sample_that_cannot_be_drawn_costs_no_epoch(tmp_path, capsys):
    def save_samples(folder):
        raise RuntimeError("no locator available\nfor file")

    outputs.write_epoch(tmp_path, [row(1, mae=0.5)], 3, save_samples, tensorboard=False)
    said = capsys.readouterr().out.splitlines()
    assert "samples could not be drawn" in said[0]
    assert said[-1].startswith("epoch 1/3")
    assert (tmp_path / "history.png").exists()


def test_the_audio_of_a_sample_is_the_generators(tmp_path, note_features):
    """One that changes nothing, then one that answers with silence."""
    made = note_features(tmp_path / "features", {"a": (1.0, 3.0), "b": (2.0, 3.0)}, 1)
    pairs, audios = dataset.find_pairs(made, ["a"], ["b"]), []
    for epoch, generator in (("001", lambda x, training: x), ("002", lambda x, training: 0 * x - 1)):
        outputs.make_sampler(generator, dataset.Batches(pairs, pairs.samples, 1, 0))(tmp_path / epoch)
        audios.append(read_audio(tmp_path / epoch / "audio.wav"))
    level = np.load(made / "a/piece_000.npy")[..., 0]
    found = data.amplitude_to_db(data.forward_transform(audios[0])[0])[:, : level.shape[1]]
    assert np.abs(found - level[:, : found.shape[1]]).mean() < 0.03 < level.mean()
    assert not audios[1].any()


def test_animations_of_evenly_chosen_pictures_of_one_size(tmp_path, monkeypatch, capsys):
    """Nine epochs, five frames: the first has another size, the third is no PNG; both are left out."""
    monkeypatch.setattr(outputs, "MAX_FRAMES", 5)
    colours = [matplotlib.colormaps[plots.COLOUR_MAP](epoch / 9, bytes=True)[:3] for epoch in range(10)]
    for epoch in range(1, 10):
        folder = tmp_path / "samples" / f"{epoch:03d}"
        folder.mkdir(parents=True)
        size = (20, 10) if epoch > 1 else (30, 10)
        Image.new("RGB", size, tuple(map(int, colours[epoch]))).save(folder / "a.png")
        (folder / "b.png").write_bytes(b"no picture")
    Image.new("RGB", (20, 10)).save(tmp_path / "samples" / "005" / "a.png", "EPS")  # would start Ghostscript
    (tmp_path / "samples" / "notes").mkdir()
    outputs.write_animations(tmp_path)
    with Image.open(tmp_path / "a.gif") as animation:
        assert (animation.n_frames, animation.info["loop"]) == (3, 0)  # for ever
        for index, epoch in enumerate((3, 7, 9)):
            animation.seek(index)
            found = np.array(animation.convert("RGB")).astype(int)
            assert np.abs(found - colours[epoch]).max() <= 4  # the map has 208 steps there
    assert not (tmp_path / "b.gif").exists()
    assert "b.gif could not be drawn" in capsys.readouterr().out


def test_tensorboard_reads_scalars_pictures_and_audio(tmp_path):
    """Read with TensorBoard's own reader: tags of one kind each, with what was written under them."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    audio = np.sin(np.arange(8000) / 8).astype(np.float32) / 2

    def save_samples(folder):
        folder.mkdir(parents=True)
        Image.fromarray(picture).save(folder / "guitar.png")
        soundfile.write(folder / "guitar.wav", audio, 8000)

    outputs.write_epoch(tmp_path, [row(1, mae=0.25)], 1, save_samples, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0}).Reload()
    kinds = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in events.Tags()["tensors"]}
    assert (kinds["guitar.png"], kinds["guitar.wav"], kinds["mae"]) == ("images", "audio", "scalars")
    [image], [sound], [mae] = (events.Tensors(tag) for tag in ("guitar.png", "guitar.wav", "mae"))
    found = np.array(Image.open(io.BytesIO(image.tensor_proto.string_val[2])))
    np.testing.assert_array_equal(found, picture)
    written, rate = soundfile.read(io.BytesIO(sound.tensor_proto.string_val[0]))
    assert rate == 8000
    np.testing.assert_allclose(written, audio, atol=2**-14)
    assert (mae.step, tf.make_ndarray(mae.tensor_proto)) == (1, 0.25)
