"""From arguments to a run: learning rates, initial weights, the data held out, and what is refused before it starts."""

import numpy as np
import pytest
from made_weights import arrays_of

import model
import train
import train_generator
from common.files import write_json
from training import checkpoints, run

PUBLISHED, SMALL = (0.9, "constant"), (0.5, "linear")
LITTLE = {"base_filters": 8, "n_slices": 60}


@pytest.mark.parametrize(("options", "rates", "how"), [
    ({"target": "string_acoustic"}, (1e-5, 1e-5), PUBLISHED),
    ({"target": "synth_lead_synthetic"}, (1e-4, 1e-5), PUBLISHED),
    ({"target": "any"}, (1e-5, 5e-6), PUBLISHED),
    ({"target": "harp"}, (5e-5, 5e-6), PUBLISHED),
    ({**LITTLE, "preset": "published"}, (5e-5, 5e-6), PUBLISHED),
    ({"preset": "small"}, (2e-4, 2e-5), SMALL),
    ({"n_slices": 60}, (2e-4, 2e-5), SMALL),
    ({"base_filters": 16}, (8e-4, 8e-5), SMALL),
    ({"base_filters": 4}, (1e-3, 1e-4), SMALL),
    ({**LITTLE, "gen_lr": 0.25}, (0.25, 5e-6), PUBLISHED),  # a number leaves everything else as published
    ({"gen_lr": 0.25, "preset": "small"}, (0.25, 2e-5), SMALL),
    ({**LITTLE, "gen_lr": "auto", "disc_lr": "auto"}, (0.125, 0.5), SMALL),
])  # fmt: skip
def test_rates_by_target_size_preset_and_suggestion(tmp_path, options, rates, how):
    write_json(tmp_path / "lr_finder.json", {"gen_lr": 0.125, "disc_lr": 0.5})
    usual = {"gen_lr": None, "disc_lr": None, "preset": None, "base_filters": 64, "target": "harp", "n_slices": 20000}
    chosen = run.choose_rates(folder=tmp_path, **{**usual, **options})
    assert chosen[:2] == pytest.approx(rates)
    assert run.PRESETS[chosen[2]] == how


# --- the start of a run -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voices(tmp_path_factory, noise_features):
    pieces = {"bach": 1, "satie": 1, "chopin": 1, "grieg": 1}
    slices = {"piano@a": pieces, "piano@b": pieces, "guitar": pieces}
    return noise_features(tmp_path_factory.mktemp("voices"), slices)


def test_init_starts_from_weights_of_other_instruments(voices, write_generator, tmp_path, monkeypatch):
    """The best weights of a folder, with the discriminator beside them; a state goes before them."""
    started, source = [], tmp_path / "flute_2_harp"
    last = write_generator(source / "generator.h5", base_filters=2, seed=1)
    best = write_generator(source / "generator_best.h5", base_filters=2, seed=2, origin="flute", epoch=90)
    judge = model.build_discriminator(2, seed=7)
    model.save(judge, source / "discriminator.h5", {})
    monkeypatch.setattr("training.loop.fit", started.append)
    argv = (
        f"--dataset_path {voices} --origin piano --target guitar --gpu -1 --base_filters 2 --batch_size 2 "
        f"--precision float32 --models_path {tmp_path / 'models'} --epochs 2 --max_steps 5 --patience 3 --seed 4 "
        "--objective perceptual --l1_weight 30 --init"
    ).split()
    for init, expected in ((source, best), (last, last)):
        assert train.main([*argv, str(init)]) == 0
        networks = started[-1].networks
        assert_same_weights(networks.generator, arrays_of(expected))
        assert_same_weights(networks.discriminator, judge.get_weights())
    made = started[-1]  # what the flags say, and of so few slices the small preset
    assert (made.epochs, made.max_steps, made.patience, made.seed) == (2, 5, 3, 4)
    assert (made.lr_schedule, made.networks.generator_optimizer.beta_1) == ("linear", 0.5)
    shares = {name: share for name, (share, _) in made.networks.objective.generator.items()}
    assert shares == {"adversarial": 1, "mae": 30, "band_energy": 15, "onset": 30}
    checkpoints.save(made.folder, 1, [], {}, checkpoints.Progress())
    (made.folder / "generator.h5").touch()  # empty, as a power failure may leave it
    assert train.main([*argv, str(tmp_path / "deleted.h5")]) == 0  # the same command again goes on from the state


def assert_same_weights(network, expected):
    found = [weight.numpy() for weight in network.weights if "seed_generator" not in weight.path]
    assert all(np.array_equal(array, other) for array, other in zip(found, expected, strict=True))


def test_a_finished_model_is_not_written_over(voices, write_generator, tmp_path, capsys):
    """Neither by training nor by the learning-rate finder, nor is anything left beside it."""
    path = write_generator(tmp_path / "guitar_2_piano" / "generator.h5", base_filters=2, exported=True)
    argv = f"--dataset_path {voices} --origin guitar --target piano@a --models_path {tmp_path} --batch_size 1".split()
    for flags in ([], ["--findlr"]):
        assert train.main([*argv, *flags]) == 2
        assert "--models_path" in capsys.readouterr().err
        assert [entry.name for entry in path.parent.iterdir()] == ["generator.h5"]


def test_the_generator_alone_and_one_voice_of_a_target_with_several(voices, tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("training.loop.fit", started.append)
    argv = f"--dataset_path {voices} --origin guitar --models_path {tmp_path} --gpu -1 --base_filters 2 --batch_size 1"
    assert train_generator.main([*argv.split(), "--target", "piano"]) == 2
    assert "piano@a, piano@b" in capsys.readouterr().err
    assert train_generator.main([*argv.split(), "--target", "piano@a", "--lr", "0.25"]) == 0
    made = started[0]
    assert (made.networks.discriminator, made.generator_rate) == (None, 0.25)
    assert {name: share for name, (share, _) in made.networks.objective.generator.items()} == {"mae": 1}
