"""The range test against functions whose best rate is known, and the command that runs it."""

import csv
import math

import numpy as np
import pytest

import lr_finder
import train
from common import InputError
from common.files import read_json


def bowl(curvature, rates, start=1.0):
    """Gradient descent on curvature * x^2 / 2, its loss measured before each update as training does."""
    x = start
    for rate in rates:
        yield {"rate": rate, "loss": 0.5 * curvature * x * x}
        x -= rate * curvature * x


@pytest.mark.parametrize("curvature", [0.1, 10.0, 10_000.0])
def test_a_quadratic_bowl_is_steepest_where_the_formula_says(curvature):
    rates = np.geomspace(lr_finder.MIN_RATE, lr_finder.MAX_RATE, 400)
    rows = lr_finder.until_divergence(bowl(curvature, rates), "loss")
    rate, _ = lr_finder.suggest(rates[: len(rows)], np.array([row["loss"] for row in rows]))
    # For small rates the loss is L0 exp(-2 a rate / ln r) with growth factor r: steepest over ln(rate) at ln r / 2a.
    analytic = math.log(rates[1] / rates[0]) / (2 * curvature)
    assert analytic / 3 < rate < analytic * 3
    losses = np.array([row["loss"] for row in rows])  # the test ends with the first loss that has diverged
    assert (losses[:-1] <= 100 * np.minimum.accumulate(losses)[:-1]).all()
    assert len(rows) == 400 or losses[-1] > 100 * losses.min()


def test_falling_back_from_a_divergence_is_not_taken_for_learning():
    rates = np.geomspace(lr_finder.MIN_RATE, lr_finder.MAX_RATE, 300)
    position = np.log10(rates)
    learning = 1 / (1 + np.exp(4 * (position + 4)))  # falls by 1 around 1e-4
    bump = 5 * np.exp(-(((position + 1.5) / 0.3) ** 2))  # blows up at 0.03, and falls by 5 after it
    rate, _ = lr_finder.suggest(rates, learning + bump)
    assert abs(math.log10(rate) + 4) < 0.3


def test_a_loss_that_never_falls_is_said():
    rates = np.geomspace(lr_finder.MIN_RATE, lr_finder.MAX_RATE, 50)
    for losses in (np.linspace(1, 2, 50), np.linspace(2, 1, 9)):  # the second one diverges after nine steps
        with pytest.raises(InputError):
            lr_finder.suggest(rates[: len(losses)], losses)


@pytest.mark.slow
def test_findlr_writes_its_files_and_leaves_trained_weights_alone(
    note_features, tmp_path, monkeypatch, capsys, write_generator
):
    folder = tmp_path / "a_2_b"
    features = note_features(tmp_path / "features", {"a": (2.0, 4.0), "b": (1.0, 2.0)}, 4)
    argv = (
        f"--dataset_path {features} --origin a --target b --models_path {tmp_path} --base_filters 2 --batch_size 2 "
        "--gpu -1"
    ).split()
    generator = write_generator(folder / "generator.h5", base_filters=2).read_bytes()
    trained = {"generator.h5": generator, "checkpoints/state-000000001.zip": b"state", "history.csv": b"epoch"}
    for name, content in trained.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert train.main([*argv, "--findlr", "--max_steps", "50"]) == 0
    assert {name: (folder / name).read_bytes() for name in trained} == trained

    said = capsys.readouterr().out
    found = read_json(folder / "lr_finder.json")
    assert f"--gen_lr {found['gen_lr']:.2g} --disc_lr {found['disc_lr']:.2g}" in said
    with (folder / "lr_finder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["test"] for row in rows} == {"generator", "discriminator"}
    first = {row["test"]: float(row["generator_loss"]) for row in reversed(rows)}
    assert first["generator"] == first["discriminator"]  # each from the same weights and data
    plots = {path.name for path in folder.glob("lr_finder_*.png")}
    assert plots == {f"lr_finder_{name}.png" for name in ("generator_loss", "generator_mae", "discriminator_loss")}

    # The suggestion is what auto takes.
    runs = []
    monkeypatch.setattr("training.loop.fit", runs.append)
    assert train.main([*argv, "--findlr", "False", "--fresh", "--gen_lr", "auto", "--disc_lr", "auto"]) == 0
    assert (runs[0].generator_rate, runs[0].discriminator_rate) == (found["gen_lr"], found["disc_lr"])


def test_a_third_of_the_steepest_rate_is_suggested_and_each_loss_that_falls_has_a_plot(tmp_path):
    rates = np.geomspace(lr_finder.MIN_RATE, lr_finder.MAX_RATE, 40)
    falling, rising = np.linspace(2, 1, 40) ** 3, np.linspace(1, 2, 40)

    def rows(loss):
        names = ("rate", "generator_loss", "discriminator_loss", "mae")  # the MAE only rises
        return [dict(zip(names, values, strict=True)) for values in zip(rates, loss, loss, rising, strict=True)]

    third = pytest.approx(lr_finder.suggest(rates, falling)[0] / 3)
    both = {"generator": rows(falling), "discriminator": rows(falling)}
    assert lr_finder.suggest_rates(both, tmp_path) == {"gen_lr": third, "disc_lr": third}
    names = ["lr_finder_discriminator_loss.png", "lr_finder_generator_loss.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(InputError):
        lr_finder.suggest_rates({"generator": rows(falling), "discriminator": rows(rising)}, tmp_path)
