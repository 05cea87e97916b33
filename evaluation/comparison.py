"""Models and reference rows compared with true targets: pairs in, metrics out, and summaries over all pairs.

A *column* is one way to make an output from a pair: the four references, which give a number its meaning, and the
models. Every output is compared with the pair's target. A pair is held in memory, about 250 MB a minute of audio with
the references and one model, so at most `MAX_SECONDS` of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from common import weights
from common.errors import InputError
from conversion.converter import Chunk, Settings, apply_phase, load_converter
from conversion.models import describe_generator, read_style
from conversion.recordings import convert_audio
from data import PUBLISHED, Representation, amplitude_to_db, db_to_amplitude, forward_transform, inverse_transform, unit
from evaluation import metrics
from evaluation.pairing import Pair
from sound.files import read_blocks

REFERENCES = {
    "copy": "copy the input",
    "input_phase": "true magnitude, input's phase",
    "griffinlim": "true magnitude, Griffin-Lim",
    "bypass": "target through the transform",
}
N_RESAMPLES = 2000  # of the bootstrap
MAX_SECONDS = 300  # of a recording that are evaluated
GRIFFINLIM_ITERATIONS = 32  # of the reference row
CHUNK_FRAMES = 1024  # frames that Griffin-Lim refines at a time


@dataclasses.dataclass(frozen=True)
class Model:
    """One model to evaluate."""

    name: str  # of its column
    path: pathlib.Path
    summary: str  # one line, from the weights file
    convert: Callable[[np.ndarray, Pair], np.ndarray]  # from (origin audio, pair) to the output at the same sample rate


# --- models -----------------------------------------------------------------------------------------------------------


def describe_models(paths: Sequence[str | os.PathLike]) -> list[tuple[str, weights.Description]]:
    """Column name and description of each model, as `conversion.models.describe_generator` returns it.

    The name is that of the model's folder, or the path below the models' common folder where two would have the same.

    Raises:
        InputError: no such generator, or the same one twice.
    """
    descriptions = [describe_generator(path) for path in paths]
    files = [description.path.resolve() for description in descriptions]
    if len(set(files)) < len(files):
        raise InputError(f"--model: one of {', '.join(map(str, paths))} is named twice")
    names = [file.parent.name for file in files]
    if len({*names, *REFERENCES}) < len(names) + len(REFERENCES):
        folder = os.path.commonpath([file.parent for file in files])
        names = [file.relative_to(folder).as_posix() for file in files]
    return list(zip(names, descriptions, strict=True))


def find_seeds(described: Sequence[tuple[str, weights.Description]]) -> list[str]:
    """Names of the models that differ from the first one in nothing but the seed of their training; empty for one."""

    def recipe(description: weights.Description) -> dict:
        results = ("seed", "epoch", "validation_mae", "copy_mae")
        return {name: value for name, value in description.settings.items() if name not in results}

    alike = {description.settings.get("seed"): name for name, description in reversed(described)
             if recipe(description) == recipe(described[0][1])}  # fmt: skip
    return sorted(alike.values()) if len(alike) > 1 else []


def common_representation(descriptions: Sequence[weights.Description]) -> Representation:
    """The representation of the pix2pix models, or the published one where there are none.

    Raises:
        InputError: two models have different ones, so that their numbers cannot be compared.
    """
    known = {d.representation: d.path for d in descriptions if d.system == "pix2pix"}
    if len(known) > 1:
        raise InputError(
            f"--model: {' and '.join(map(str, known.values()))} have different STFTs; evaluate them one by one"
        )
    return next(iter(known), PUBLISHED)


def load_model(
    name: str,
    description: weights.Description,
    pairs: Sequence[Pair],
    sample_rate: int,
    settings: Settings | None = None,
    style: str | os.PathLike | None = None,
) -> Model:
    """A model, ready to convert audio at `sample_rate` as `settings` say.

    A multitarget model takes its style from the recording `style`; without, from the target of the next pair, so that
    it does not hear the answer (an only pair has to give its own target).
    """
    is_multitarget = description.in_channels == 2
    converter = None if is_multitarget else load_converter(description, settings, None)

    def convert(audio: np.ndarray, pair: Pair) -> np.ndarray:
        if not is_multitarget:
            return convert_audio(audio, converter, sample_rate)
        following = pairs[(pairs.index(pair) + 1) % len(pairs)].target
        styled = read_style(style or following, description.representation)
        return convert_audio(audio, load_converter(description, settings, None, styled), sample_rate)

    return Model(name, description.path, description.summary, convert)


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluate_pair(
    pair: Pair, models: Sequence[Model], representation: Representation = PUBLISHED, keep_level: bool = False
) -> tuple[dict, dict[str, np.ndarray]]:
    """Measure the references and the models on one pair.

    Args:
        pair: of `evaluation.pairing`.
        models: columns after the references.
        representation: of the metrics and references.
        keep_level: measure outputs at their own level, not at the target's loudness.

    Returns:
        result: of the pair, for report.json: names, files, length of the target in seconds, notes on lengths and
            silence, the target's own attack and flutter, and "values": {column: {metric: value}}.
        audios: "origin", "target" and each column, ``(n_samples,)``, all of the same length.

    Raises:
        InputError: a recording cannot be read, or a model's output is not finite.
    """
    import threadpoolctl

    rate = representation.sample_rate
    origin, target = _read(pair.origin, rate), _read(pair.target, rate)
    result = {
        "name": str(pair),
        "voice": pair.voice,
        "piece": pair.piece,
        "origin": str(pair.origin),
        "target": str(pair.target),
        "seconds": len(target) / rate,
        "notes": _describe_oddities(origin, target, rate),
    }
    origin, target = metrics.pad_to_longest(origin, target)
    audios = {"origin": origin, "target": target, **make_references(origin, target, representation)}
    for model in models:
        audios[model.name] = model.convert(origin, pair)
        if not np.isfinite(audios[model.name]).all():
            raise InputError(f"{model.path}: the network's output for {pair.origin} is not finite")
    # More threads would change the order of summation in matrix products, and equal recordings must give equal numbers.
    with threadpoolctl.threadpool_limits(1):
        reference = metrics.analyse(target, representation)
        columns = [*REFERENCES, *(model.name for model in models)]
        values = {name: metrics.measure(audios[name], reference, keep_level) for name in columns}
        return {**result, "target_itself": metrics.measure_target(reference), "values": values}, audios


def _read(path: pathlib.Path, sample_rate: int) -> np.ndarray:
    """The first `MAX_SECONDS` of the recording at `path` at `sample_rate`."""
    blocks, n_samples, n_wanted = [], 0, MAX_SECONDS * sample_rate
    with contextlib.closing(read_blocks(path, sample_rate)) as recording:
        for block in recording:
            blocks.append(block)
            n_samples += len(block)
            if n_samples >= n_wanted:
                break
    return np.concatenate(blocks)[:n_wanted]


def make_references(
    origin: np.ndarray, target: np.ndarray, representation: Representation = PUBLISHED
) -> dict[str, np.ndarray]:
    """The outputs of `REFERENCES` by name, for an origin and a target ``(n_samples,)`` of the same length.

    * copy: the origin itself; a model that is not better has learned nothing.
    * input_phase: the target's magnitude with the origin's phase; the best that a model of the magnitude can do while
      it keeps the input's phase.
    * griffinlim: the target's magnitude with a phase found by fast Griffin-Lim from noise, 1024 frames at a time.
    * bypass: the target through transform, log scale and back; the best that the representation can do.

    The log level of the magnitude is clipped to [0, 1], the range of a network's output.
    """
    magnitude, own_phase = forward_transform(target, representation)
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    magnitude = db_to_amplitude(level, representation.amin)
    input_phase = forward_transform(origin, representation)[1]
    estimated_phase = _griffin_lim(magnitude, representation)
    return {
        "copy": origin,
        "input_phase": inverse_transform(magnitude, input_phase, len(target), representation),
        "griffinlim": inverse_transform(magnitude, estimated_phase, len(target), representation),
        "bypass": inverse_transform(magnitude, own_phase, len(target), representation),
    }


def _griffin_lim(magnitude: np.ndarray, representation: Representation) -> np.ndarray:
    """Phase ``(n_bins, n_frames)`` for a magnitude, starting from noise, always the same."""
    rng = np.random.default_rng(0)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, magnitude.shape[1], CHUNK_FRAMES):
            target = magnitude[:, start : start + CHUNK_FRAMES] / representation.magnitude_scale
            yield target, np.exp(2j * np.pi * rng.random(target.shape, np.float32)).astype(np.complex64)

    refined = apply_phase(chunks(), "griffinlim", representation, GRIFFINLIM_ITERATIONS)
    return unit(np.concatenate([spectrum for spectrum, _ in refined], axis=1))


def _describe_oddities(origin: np.ndarray, target: np.ndarray, sample_rate: int) -> list[str]:
    """What a reader should know about a pair: different lengths, silence."""
    notes = []
    difference = (len(target) - len(origin)) / sample_rate
    if difference:
        longer = "target" if difference > 0 else "origin"
        notes.append(f"the {longer} is {abs(difference):.3f} s longer; the other was padded with silence")
    for name, audio in (("origin", origin), ("target", target)):
        if len(audio) == MAX_SECONDS * sample_rate:
            notes.append(f"the first {MAX_SECONDS} s of the {name} were evaluated")
        if np.abs(audio).max() < 1e-3:
            notes.append(f"the {name} is silent")
    return notes


# --- summary ----------------------------------------------------------------------------------------------------------


def summarise(
    values: Sequence[dict[str, dict[str, float]]], pieces: Sequence[str] | None = None, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """Statistics of all pairs: column: {metric: {"mean", "median", "low", "high"}}.

    The mean's 95 % interval from low to high (NaN for a single piece) is the percentile bootstrap (Efron, 1979): the
    2.5th and 97.5th percentile of the means of 2000 data sets whose pieces are drawn with replacement, the same ones
    for every column and metric. A piece is drawn with all its pairs (voices, variations), because these are not
    independent of each other. Values that are NaN, such as the attack of a piece without isolated onsets, do not count.

    Args:
        values: of each `Result`.
        pieces: of each `Result`, the piece it belongs to; None if each is a piece of its own.
        seed: of the draws.
    """
    names = [(column, metric) for column in values[0] for metric in values[0][column]]
    table = np.array([[of_pair[column][metric] for column, metric in names] for of_pair in values])
    known = np.isfinite(table)
    piece_of = np.arange(len(values)) if pieces is None else np.unique(pieces, return_inverse=True)[1]
    n_pieces = piece_of.max() + 1
    sums, counts = np.zeros((2, n_pieces, len(names)))  # of each piece
    np.add.at(sums, piece_of, np.where(known, table, 0))
    np.add.at(counts, piece_of, known)
    # How often each piece is drawn into each data set.
    draws = np.random.default_rng(seed).multinomial(n_pieces, np.full(n_pieces, 1 / n_pieces), N_RESAMPLES)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing, which are NaN
        low, high = np.nanpercentile((draws @ sums) / (draws @ counts), [2.5, 97.5], axis=0)
        low, high = np.where((counts > 0).sum(axis=0) > 1, [low, high], np.nan)
        numbers = np.stack([sums.sum(axis=0) / counts.sum(axis=0), np.nanmedian(table, axis=0), low, high], axis=1)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (column, metric), row in zip(names, numbers.tolist(), strict=True):
        summary.setdefault(column, {})[metric] = dict(zip(("mean", "median", "low", "high"), row, strict=True))
    return summary
