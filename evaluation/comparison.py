"""Models and reference rows against true targets: pairs in, their metrics out, and the summary over all pairs.

A *column* is one way to make an output from a pair: the four references, which give a number its meaning, and the
models. All outputs of a pair are compared with its target at the level that they come out with; nothing is normalised.
A pair is held in memory: about 250 MB a minute of audio with the references and one model.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from common import weights
from common.audio import find_audio, read_audio
from common.errors import InputError
from common.files import piece_names
from conversion import command
from conversion.files import convert_audio, load_converter
from conversion.network import load_network
from conversion.phase import Chunk, apply_phase
from conversion.pix2pix import Pix2PixConverter, read_style
from conversion.settings import Settings
from data import PUBLISHED, Representation, amplitude_to_db, db_to_amplitude, forward_transform, inverse_transform, unit
from evaluation import metrics
from training import dataset

REFERENCES = {
    "copy": "copy the input",
    "input_phase": "true magnitude, input's phase",
    "griffinlim": "true magnitude, Griffin-Lim",
    "bypass": "target through the transform",
}
N_BOOTSTRAP = 2000
_CHUNK = 1024  # frames that Griffin-Lim refines at a time


@dataclasses.dataclass(frozen=True)
class Pair:
    """An origin and its true target."""

    name: str
    origin: pathlib.Path
    target: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Split:
    """What decides which pieces a training holds out: all its targets, and two flags of the train scripts."""

    targets: tuple[str, ...]
    validation_split: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Model:
    """One model to evaluate.

    Attributes:
        name: key of its column.
        path: of its weights.
        summary: what the weights file says of itself.
        convert: (origin audio, pair) to output audio at the evaluation's sample rate.
        is_sliced: its output is made of slices of the representation's frames, at whose borders seams may be.
    """

    name: str
    path: pathlib.Path
    summary: str
    convert: Callable[[np.ndarray, Pair], np.ndarray]
    is_sliced: bool = True


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluated pair.

    Attributes:
        pair: files and name.
        seconds: length of the target.
        values: column: {metric: value}.
        notes: what a reader has to know: other lengths, silence.
        audios: "origin", "target" and each column: audio ``(n_samples,)``, all of one length.
    """

    pair: Pair
    seconds: float
    values: dict[str, dict[str, float]]
    notes: list[str]
    audios: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """One metric of one column over all pairs; `low` and `high` bound the mean with 95 % (NaN for a single pair)."""

    mean: float
    median: float
    low: float
    high: float


# --- pairs ------------------------------------------------------------------------------------------------------------


def find_pairs(origin: str | os.PathLike, target: str | os.PathLike) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of two recordings, or of two folders by the recordings' names (below the folder, without extension).

    Returns:
        pairs: sorted by name; the pair of two files has the origin's name.
        left_out: (file, reason) of what has no counterpart.

    Raises:
        InputError: something is missing, a file and a folder, or no name in common.
    """
    origin, target = pathlib.Path(origin), pathlib.Path(target)
    for flag, path in (("--origin_audio", origin), ("--target_audio", target)):
        if not path.exists():
            raise InputError(f"{flag}: expected a recording or a folder of recordings, found nothing at {path}")
    if origin.is_dir() != target.is_dir():
        folder, file = (origin, target) if origin.is_dir() else (target, origin)
        raise InputError(
            f"--origin_audio, --target_audio: expected two recordings or two folders, found the folder {folder} and "
            f"the file {file}"
        )
    if origin.is_file():
        return [Pair(origin.stem, origin, target)], []
    origins, left_out = _recordings(origin, "--origin_audio")
    targets, also_left_out = _recordings(target, "--target_audio")
    common = sorted(origins.keys() & targets.keys())
    if not common:
        raise InputError(f"--target_audio: expected recordings named as those in {origin}, found none in {target}")
    left_out += also_left_out
    left_out += [(str(path), f"no counterpart in {target}") for name, path in origins.items() if name not in targets]
    left_out += [(str(path), f"no counterpart in {origin}") for name, path in targets.items() if name not in origins]
    return [Pair(name, origins[name], targets[name]) for name in common], left_out


def instruments(
    described: Sequence[tuple[str, weights.Description]], origin: str | None, target: str | None
) -> tuple[str, str]:
    """Origin and target to evaluate on a data set: as given, or else what the first model's file says of itself.

    Raises:
        InputError: not given, and no model says.
    """
    settings = described[0][1].settings if described else {}
    said = {"--origin": origin or settings.get("origin"), "--target": target}
    if target is None and len(settings.get("targets", [])) == 1:
        said["--target"] = settings["targets"][0]
    for flag, instrument in said.items():
        if instrument is None:
            raise InputError(f"{flag}: expected with --dataset, because no model says it (or it says several)")
    return said["--origin"], said["--target"]


def splits(
    described: Sequence[tuple[str, weights.Description]], target: str, validation_split: float | None, seed: int | None
) -> tuple[list[Split], list[str]]:
    """How the data of the models was split: as given, or else what each weights file says, or else the default.

    Returns:
        splits: each different one once; without models that of a training for `target`.
        said: a line for each model that does not say.
    """
    given = {"validation_split": validation_split, "seed": seed}
    given = {flag: value for flag, value in given.items() if value is not None}
    default = {"validation_split": 0.1, "seed": 0}
    found, said = [], []
    for name, description in described:
        if description.system != "pix2pix":  # trained on other data
            continue
        kept = {flag: description.settings[flag] for flag in default if flag in description.settings}
        unsaid = [f"--{flag} {value}" for flag, value in default.items() if flag not in {**kept, **given}]
        if unsaid:
            said.append(
                f"{name}: the weights do not say how their data was split; taking {' '.join(unsaid)}, which may let in "
                "pieces that they were trained on"
            )
        found.append(Split(tuple(description.settings.get("targets", [target])), **(default | kept | given)))
    return list(dict.fromkeys(found)) or [Split((target,), **(default | given))], said


def find_validation_pairs(
    features: str | os.PathLike, audios: str | os.PathLike, origin: str, target: str, splits: Sequence[Split]
) -> tuple[list[Pair], list[tuple[str, str]], list[str]]:
    """The recordings of the pieces that training has held out, with each of several splits.

    Args:
        features, audios: data set and recordings, one folder an instrument in each.
        origin, target: instruments.
        splits: of the models, at least one.

    Returns:
        pairs, left_out: as `find_pairs`.
        said: a line about each split, and one about what they have in common.

    Raises:
        InputError: see `dataset.find_pairs`; or a single piece, of which training holds out the end only; or no piece
            that is held out with all splits.
    """
    names = dataset.find_pairs(features, [origin], [target]).piece_names
    if len(names) < 2:
        raise InputError(f"--dataset: expected several pieces in {features}, found {names[0]} alone")
    pieces, said = set(names), []
    for split in splits:
        pairs = dataset.find_pairs(features, [origin], split.targets)  # of all its targets, as training has split them
        _, held_out, line = dataset.split_by_piece(pairs, split.validation_split, split.seed)
        if not len(held_out):
            raise InputError(
                f"--validation_split: expected a share that holds a piece out, found {split.validation_split}"
            )
        pieces &= {pairs.piece_names[i] for i in pairs.pieces[held_out[:, 0]]}
        said.append(line)
    if not pieces:
        raise InputError(f"--dataset: expected a piece of {target} that all models have held out, found none")
    if len(splits) > 1:
        said.append(f"held out with all of these splits: {len(pieces)} pieces")
    recordings = {
        instrument: _recordings(pathlib.Path(audios, instrument), "--audios_path")[0] for instrument in (origin, target)
    }
    found, left_out = [], []
    for piece in sorted(pieces):
        missing = [instrument for instrument in (origin, target) if piece not in recordings[instrument]]
        if missing:
            left_out.append((piece, f"expected a recording in {audios} for {' and '.join(missing)}, found none"))
        else:
            found.append(Pair(piece, recordings[origin][piece], recordings[target][piece]))
    if not found:
        raise InputError(
            f"--audios_path: expected recordings of the {len(pieces)} held-out pieces in {audios}, found none"
        )
    return found, left_out, said


def _recordings(folder: pathlib.Path, flag: str) -> tuple[dict[str, pathlib.Path], list[tuple[str, str]]]:
    return piece_names(find_audio(folder, flag), folder)


# --- models -----------------------------------------------------------------------------------------------------------


def describe_models(paths: Sequence[str | os.PathLike]) -> list[tuple[str, weights.Description]]:
    """Column name and description of each model, as `conversion.describe_generator` finds it.

    The name is that of the model's folder, with more of the path where two would be the same.

    Raises:
        InputError: as there, or the same one twice.
    """
    descriptions = [command.describe_generator(path) for path in paths]
    files = [description.path.resolve() for description in descriptions]
    if len(set(files)) < len(files):
        raise InputError(f"--model: expected different models, found one of {', '.join(map(str, paths))} twice")
    return list(zip(_short_names(files), descriptions, strict=True))


def _short_names(files: Sequence[pathlib.Path]) -> list[str]:
    """A name of its own for each file, with as few of its folders as that takes."""
    for n_folders in range(1, max((len(file.parts) for file in files), default=1)):
        names = ["/".join(file.parent.parts[-n_folders:]) for file in files]
        if len({*names, *REFERENCES}) == len(names) + len(REFERENCES):
            return names
        names = [f"{name}/{file.name}" for name, file in zip(names, files, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def common_representation(descriptions: Sequence[weights.Description]) -> Representation:
    """The representation of the pix2pix models, or the published one where there are none.

    Raises:
        InputError: two models with different ones, whose numbers could not stand side by side.
    """
    known = {d.representation: d.path for d in descriptions if d.system == "pix2pix"}
    if len(known) > 1:
        raise InputError(
            f"--model: expected one representation, found different ones in {', '.join(map(str, known.values()))}"
        )
    return next(iter(known), PUBLISHED)


def load_models(
    described: Sequence[tuple[str, weights.Description]],
    pairs: Sequence[Pair],
    sample_rate: int,
    settings: Settings | None = None,
    precision: str = "auto",
    gpu: int | None = -1,
    style: str | os.PathLike | None = None,
) -> list[Model]:
    """The models, ready to convert at `sample_rate` as `settings` say.

    A multitarget model takes its style from the recording `style`; without, from the target of the next pair, so that
    it does not hear the answer (of a single pair there is no other: then from its own target).
    """
    settings = settings or Settings()
    following = {pair.name: pairs[(i + 1) % len(pairs)].target for i, pair in enumerate(pairs)}

    def loaded(name: str, description: weights.Description) -> Model:
        if description.in_channels != 2:
            converter = load_converter(description, settings, precision, gpu)
            return Model(
                name, description.path, description.summary,
                lambda audio, _: convert_audio(audio, converter, sample_rate),
                is_sliced=description.system == "pix2pix",
            )  # fmt: skip
        network = load_network(description.path, precision, gpu)  # once, whatever the style

        def convert(audio: np.ndarray, pair: Pair) -> np.ndarray:
            styled = read_style(style or following[pair.name], description.representation)
            converter = Pix2PixConverter(network, description.representation, styled, settings)
            return convert_audio(audio, converter, sample_rate)

        return Model(name, description.path, description.summary, convert)

    return [loaded(name, description) for name, description in described]


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluate(
    pairs: Sequence[Pair],
    models: Sequence[Model],
    representation: Representation = PUBLISHED,
    griffinlim_iterations: int = 32,
    seed: int = 0,
    n_overlap: int = 0,
    left_out: list[tuple[str, str]] | None = None,
) -> Iterator[Result]:
    """Evaluate pair after pair; a progress bar on a terminal's stderr.

    Args:
        pairs: from `find_pairs` or `find_validation_pairs`.
        models: columns after the references.
        representation: of the metrics and references.
        griffinlim_iterations: of the reference with Griffin-Lim.
        seed: of its first phase.
        n_overlap: frames that the models' slices share: the seam score looks there.
        left_out: gets (file, reason) of pairs that cannot be read; without, such a pair raises its InputError.
    """
    from tqdm import tqdm

    for pair in tqdm(pairs, desc="evaluating", unit="pair", disable=None, leave=False):
        try:
            yield evaluate_pair(pair, models, representation, griffinlim_iterations, seed, n_overlap)
        except InputError as error:
            if left_out is None:
                raise
            left_out.append((pair.name, str(error)))


def evaluate_pair(
    pair: Pair,
    models: Sequence[Model],
    representation: Representation = PUBLISHED,
    griffinlim_iterations: int = 32,
    seed: int = 0,
    n_overlap: int = 0,
) -> Result:
    """All columns of one pair; see `evaluate`.

    Raises:
        InputError: a recording that cannot be read, or a model whose output is no finite number.
    """
    import threadpoolctl

    rate = representation.sample_rate
    origin, target = read_audio(pair.origin, rate), read_audio(pair.target, rate)
    notes = _notes(origin, target, rate)
    n_target = len(target)
    origin, target = metrics.same_length(origin, target)
    audios = {"origin": origin, "target": target}
    # FFTs and array arithmetic leave the interpreter's lock, so threads share the cores without copies of the audio.
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        references = threads.submit(reference_audios, origin, target, representation, griffinlim_iterations, seed)
        outputs = {model.name: _converted(model, origin, pair) for model in models}
        audios |= references.result() | outputs
        # Threads within matrix products would be in the way, and sum in another order: equal recordings must be equal.
        with threadpoolctl.threadpool_limits(1):
            reference = metrics.analyse(target, representation)

            def compared(name: str) -> dict[str, float]:
                shared = None if name in unsliced else n_overlap
                return metrics.compare_features(metrics.analyse(audios[name], representation), reference, shared)

            unsliced = {model.name for model in models if not model.is_sliced}
            columns = [*REFERENCES, *outputs]
            values = dict(zip(columns, threads.map(compared, columns), strict=True))
    return Result(pair, n_target / rate, values, notes, audios)


def _converted(model: Model, origin: np.ndarray, pair: Pair) -> np.ndarray:
    output = model.convert(origin, pair)
    if not np.isfinite(output).all():
        raise InputError(f"{model.path}: expected finite samples from the network, found NaN for {pair.origin}")
    return output


def reference_audios(
    origin: np.ndarray,
    target: np.ndarray,
    representation: Representation = PUBLISHED,
    griffinlim_iterations: int = 32,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """The outputs of `REFERENCES` for an origin and a target ``(n_samples,)`` of one length, by name.

    * copy: the origin itself; a model that does worse has learned nothing.
    * input_phase: the target's magnitude with the origin's phase; the best that a magnitude model can do while the
      phase is passed through.
    * griffinlim: the target's magnitude with a phase found by fast Griffin-Lim from noise, 1024 frames at a time.
    * bypass: the target through transform, log scale and back; the best that the representation can do.

    The magnitude is limited to the log scale's [0, 1], as everything is that a network gives.
    """
    magnitude, own_phase = forward_transform(target, representation)
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    magnitude = db_to_amplitude(level, representation.amin)
    input_phase = forward_transform(origin, representation)[1]
    found = _griffin_lim(magnitude, representation, griffinlim_iterations, seed)
    return {
        "copy": origin.copy(),
        "input_phase": inverse_transform(magnitude, input_phase, len(target), representation),
        "griffinlim": inverse_transform(magnitude, found, len(target), representation),
        "bypass": inverse_transform(magnitude, own_phase, len(target), representation),
    }


def _griffin_lim(magnitude: np.ndarray, representation: Representation, iterations: int, seed: int) -> np.ndarray:
    """Phase ``(n_bins, n_frames)`` for a magnitude, from noise."""
    rng = np.random.default_rng(seed)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, magnitude.shape[1], _CHUNK):
            target = magnitude[:, start : start + _CHUNK] / representation.magnitude_scale
            yield target, np.exp(2j * np.pi * rng.random(target.shape, np.float32)).astype(np.complex64)

    refined = apply_phase(chunks(), "griffinlim", iterations, representation)
    return unit(np.concatenate([spectrum for spectrum, _ in refined], axis=1))


def _notes(origin: np.ndarray, target: np.ndarray, sample_rate: int) -> list[str]:
    """What is odd about a pair: different lengths, silence."""
    notes = []
    difference = (len(target) - len(origin)) / sample_rate
    if difference:
        longer = "target" if difference > 0 else "origin"
        notes.append(f"the {longer} is {abs(difference):.3f} s longer; the other was filled up with silence")
    for name, audio in (("origin", origin), ("target", target)):
        peak = float(np.abs(audio).max())
        if peak < 1e-3:
            notes.append(
                f"the {name} is silent (peak {20 * np.log10(peak):.0f} dB)" if peak else f"the {name} is silent"
            )
    return notes


# --- summary ----------------------------------------------------------------------------------------------------------


def summarise(values: Sequence[dict[str, dict[str, float]]], seed: int = 0) -> dict[str, dict[str, Statistics]]:
    """Mean, median and the mean's bootstrap interval: column: {metric: `Statistics`}.

    The interval is the percentile bootstrap (Efron, 1979): the 2.5th and 97.5th percentile of the means of 2000 data
    sets drawn from the pairs with replacement, the same ones for every column and metric.

    Args:
        values: of each `Result`.
        seed: of the draws.
    """
    n = len(values)
    draws = np.random.default_rng(seed).integers(n, size=(N_BOOTSTRAP, n))
    summary: dict[str, dict[str, Statistics]] = {}
    for column in values[0]:
        summary[column] = {}
        for metric in values[0][column]:
            sample = np.array([of_pair[column][metric] for of_pair in values])
            low, high = np.percentile(sample[draws].mean(axis=1), [2.5, 97.5]) if n > 1 else (np.nan, np.nan)
            summary[column][metric] = Statistics(
                float(sample.mean()), float(np.median(sample)), float(low), float(high)
            )
    return summary


def worst(names: Sequence[str], values: Sequence[dict[str, dict[str, float]]], column: str, n: int = 5) -> list[str]:
    """Names of the `n` pairs on which `column` has the greatest MAE, worst first."""
    order = sorted(range(len(names)), key=lambda i: -values[i][column]["mae"])
    return [names[i] for i in order[:n]]
