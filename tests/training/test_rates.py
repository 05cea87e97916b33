"""Which learning rates, beta_1 and schedule a run gets: given, suggested, published, or for a small network."""

import pytest

import train
import train_generator
from common.errors import InputError
from common.files import write_json
from training import rates


@pytest.fixture
def choose(monkeypatch, tmp_path):
    """The rates that a train command's flags lead to: ``choose("--base_filters 8", n_slices=60)``."""

    def run(flags="", target="guitar_acoustic", n_slices=20000, command=train):
        seen = []
        monkeypatch.setattr("training.pix2pix.train", lambda arguments, *_, **__: seen.append(arguments) or 0)
        command.main(["--dataset_path", "d", "--origin", "a", "--target", target, *flags.split()])
        return rates.choose_rates(seen[0], target, tmp_path, n_slices, command is train)

    return run


@pytest.mark.parametrize(("target", "expected"), [
    ("guitar_acoustic", (5e-5, 5e-6)), ("string_acoustic", (1e-5, 1e-5)), ("synth_lead_synthetic", (1e-4, 1e-5)),
    ("any", (1e-5, 5e-6)), ("harp", (5e-5, 5e-6)),
])  # fmt: skip
def test_published_rates_at_the_published_size_and_by_a_flag(choose, target, expected):
    for flags, n_slices in (("", 20000), ("--preset published --base_filters 8", 60)):
        chosen = choose(flags, target, n_slices)
        assert (chosen.gen_lr, chosen.disc_lr, chosen.beta_1, chosen.lr_schedule) == (*expected, 0.9, "constant")


def test_small_networks_and_little_data_get_higher_rates(choose):
    of_filters = {n: choose(f"--base_filters {n}") for n in (4, 16, 32)}
    assert [chosen.gen_lr for chosen in of_filters.values()] == pytest.approx([1e-3, 8e-4, 4e-4])
    little = choose(n_slices=60)
    assert (little.gen_lr, little.disc_lr) == pytest.approx((2e-4, 2e-5))
    for chosen in (*of_filters.values(), little, choose("--preset small")):
        assert (chosen.beta_1, chosen.lr_schedule) == (0.5, "linear")
    assert "16 filters and 20000 slices" in of_filters[16].reason
    assert "64 filters and 60 slices" in little.reason


def test_a_number_leaves_everything_else_as_published(choose):
    chosen = choose("--base_filters 8 --gen_lr 0.25", n_slices=60)
    assert (chosen.gen_lr, chosen.disc_lr, chosen.beta_1, chosen.lr_schedule) == (0.25, 5e-6, 0.9, "constant")
    chosen = choose("--lr 0.25", command=train_generator, n_slices=60)
    assert (chosen.gen_lr, chosen.beta_1, chosen.lr_schedule, chosen.reason) == (0.25, 0.9, "constant", "as given")


def test_flags_go_before_the_preset(choose):
    chosen = choose("--preset small --base_filters 64 --gen_lr 0.25 --beta_1 0.75")
    assert (chosen.gen_lr, chosen.beta_1, chosen.lr_schedule) == (0.25, 0.75, "linear")
    assert chosen.disc_lr == pytest.approx(2e-5)
    assert choose("--base_filters 8 --lr_schedule constant", n_slices=60).lr_schedule == "constant"


def test_auto_reads_the_suggestion(choose, tmp_path):
    write_json(tmp_path / "lr_finder.json", {"gen_lr": 0.25, "disc_lr": 0.5})
    chosen = choose("--gen_lr auto --disc_lr auto --base_filters 8")
    assert (chosen.gen_lr, chosen.disc_lr, chosen.beta_1, chosen.lr_schedule) == (0.25, 0.5, 0.5, "linear")
    assert "--findlr" in chosen.reason


@pytest.mark.parametrize("rate", [0.0, -0.001, 1e300, float("nan"), "0.1", True, None, [0.1]])
def test_a_suggestion_that_is_no_rate_is_refused(choose, tmp_path, rate):
    write_json(tmp_path / "lr_finder.json", {"gen_lr": rate, "disc_lr": 0.5})
    with pytest.raises(InputError, match=r"--gen_lr: expected .*lr_finder\.json"):
        choose("--gen_lr auto --disc_lr auto --base_filters 8")
