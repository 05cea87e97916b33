"""Models and reference rows compared with true targets: pairs in, metrics out, and summaries over all pairs.

A *column* is one way to make an output from a pair: the four references, which give a number its meaning, and the
models. Every output is compared with the pair's target. A pair is held in memory, about 250 MB a minute of audio with
the references and one model, so at most `MAX_SECONDS` of it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from common import InputError, weights
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

Convert = Callable[[np.ndarray, Pair], np.ndarray]  # from (origin audio, pair) to a model's output at the same rate


# --- models -----------------------------------------------------------------------------------------------------------


def describe_models(paths: Sequence[str | os.PathLike]) -> dict[str, weights.Description]:
    """The description of each model, as `conversion.models.describe_generator` returns it, by the name of its column.

    The name is that of the model's folder, or the path below the models' common folder where two would have the same.

    Raises:
        InputError: no such generator.
    """
    descriptions = [describe_generator(path) for path in paths]
    files = [description.path.resolve() for description in descriptions]
    names = [file.parent.name for file in files]
    if len({*names, *REFERENCES}) < len(names) + len(REFERENCES):
        folder = os.path.commonpath([file.parent for file in files])
        names = [file.relative_to(folder).as_posix() for file in files]
    return dict(zip(names, descriptions, strict=True))


def find_seeds(models: Mapping[str, weights.Description]) -> list[str]:
    """Names of the models that differ from the first one in nothing but the seed of their training; empty for one."""
    results = {"seed": None, "epoch": None, "validation_mae": None, "copy_mae": None}
    recipes = {name: {**description.settings, **results} for name, description in models.items()}
    like_first = [name for name in models if recipes[name] == next(iter(recipes.values()))]
    of_seeds = {models[name].settings.get("seed"): name for name in reversed(like_first)}
    return sorted(of_seeds.values()) if len(of_seeds) > 1 else []


def load_model(
    description: weights.Description,
    pairs: Sequence[Pair],
    sample_rate: int,
    settings: Settings | None = None,
    style: str | os.PathLike | None = None,
) -> Convert:
    """The function that converts audio at `sample_rate` with a model, as `settings` say.

    A multitarget model takes its style from the recording `style`; without, from the target of the next pair, so that
    it does not hear the answer (an only pair has to give its own target).
    """
    converter = None if description.in_channels == 2 else load_converter(description, settings, None)

    def convert(audio: np.ndarray, pair: Pair) -> np.ndarray:
        if converter is not None:
            return convert_audio(audio, converter, sample_rate)
        following = pairs[(pairs.index(pair) + 1) % len(pairs)].target
        styled = read_style(style or following, description.representation)
        return convert_audio(audio, load_converter(description, settings, None, styled), sample_rate)

    return convert


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluate_pair(
    pair: Pair, models: Mapping[str, Convert], representation: Representation = PUBLISHED
) -> tuple[dict, dict[str, np.ndarray]]:
    """Measure the references and the models on one pair.

    Args:
        pair: of `evaluation.pairing`.
        models: columns after the references, by name.
        representation: of the metrics and references.

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
    for name, convert in models.items():
        audios[name] = convert(origin, pair)
        if not np.isfinite(audios[name]).all():
            raise InputError(f"--model {name}: the network's output for {pair.origin} is not finite")
    # More threads would change the order of summation in matrix products, and equal recordings must give equal numbers.
    with threadpoolctl.threadpool_limits(1):
        reference = metrics.analyse(target, representation)
        values = {n: metrics.measure(audios[n], reference) for n in (*REFERENCES, *models)}
        return {**result, "target_itself": metrics.measure_target(reference), "values": values}, audios


def _read(path: pathlib.Path, sample_rate: int) -> np.ndarray:
    """The first `MAX_SECONDS` of the recording at `path` at `sample_rate`."""
    blocks, n_missing = [], MAX_SECONDS * sample_rate
    with contextlib.closing(read_blocks(path, sample_rate)) as recording:
        while n_missing > 0 and (block := next(recording, None)) is not None:
            blocks.append(block[:n_missing])
            n_missing -= len(block)
    return np.concatenate(blocks)


def make_references(
    origin: np.ndarray, target: np.ndarray, representation: Representation = PUBLISHED
) -> dict[str, np.ndarray]:
    """The outputs of `REFERENCES` by name, for an origin and a target ``(n_samples,)`` of the same length.

    The log level of the target's magnitude is clipped to [0, 1], the range of a network's output.
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
    values: Sequence[dict[str, dict[str, float]]], pieces: Sequence[str] | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Statistics of all pairs: column: {metric: {"mean", "median", "low", "high"}}.

    The mean's 95 % interval from low to high (NaN for a single piece) is the percentile bootstrap (Efron, 1979): the
    2.5th and 97.5th percentile of the means of 2000 data sets whose pieces are drawn with replacement, the same ones
    for every column and metric. A piece is drawn with all its pairs (voices, variations), because these are not
    independent of each other. Values that are NaN, such as the attack of a piece without isolated onsets, do not count.

    Args:
        values: of each pair, {column: {metric: value}}.
        pieces: of each pair, the piece it belongs to; None if each is a piece of its own.
    """
    names = [(column, metric) for column in values[0] for metric in values[0][column]]
    table = np.array([[of_pair[column][metric] for column, metric in names] for of_pair in values])
    known = np.isfinite(table)
    piece_of = np.arange(len(values)) if pieces is None else np.unique(pieces, return_inverse=True)[1]
    n_pieces = piece_of.max() + 1
    n_known = np.array([len(set(piece_of[of_column])) for of_column in known.T])
    draws = np.random.default_rng(0).multinomial(n_pieces, np.full(n_pieces, 1 / n_pieces), N_RESAMPLES)
    draws = draws[:, piece_of]  # how often each pair is in each data set
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing, which are NaN
        means = (draws @ np.where(known, table, 0)) / (draws @ known)
        low, high = np.where(n_known > 1, np.nanpercentile(means, [2.5, 97.5], axis=0), np.nan)
        numbers = np.stack([np.nanmean(table, axis=0), np.nanmedian(table, axis=0), low, high], axis=1)
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for (column, metric), row in zip(names, numbers.tolist(), strict=True):
        summary.setdefault(column, {})[metric] = dict(zip(("mean", "median", "low", "high"), row, strict=True))
    return summary
