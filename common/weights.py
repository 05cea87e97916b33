"""Weights files (.h5): layout, description, reading and writing, without TensorFlow.

The layout is that of Keras 2's ``save_weights``: root attributes ``layer_names``, ``backend`` and ``keras_version``,
one group for each layer with the attribute ``weight_names``, and the arrays in it. The original program reads our files
and vice versa. The root attributes of our files also hold a description: ``system``, ``network``,
``representation``, ``origin``, ``targets``, ``base_filters``, ``epoch``, ``validation_mae``, ``copy_mae``; of pix2pix
also ``validation_split`` and ``seed``; of exported files ``exported`` and perhaps ``phase``. A published file has none,
which means the published settings.

A *layout* is a list of ``(group, [(weight name, shape), ...])`` in the order of the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from common import hdf5
from common.errors import InputError
from common.files import parse_json, replacing
from data import PUBLISHED, Representation, StftSettings

T = TypeVar("T", bound=StftSettings)
Layout = list[tuple[str, list[tuple[str, tuple[int, ...]]]]]
Groups = list[tuple[str, list[np.ndarray]]]

UNET = "unet"
PATCHGAN = "patchgan"
GLOBAL_GENERATOR = "global_generator"
LOCAL_ENHANCER = "local_enhancer"
MULTISCALE_DISCRIMINATOR = "multiscale_discriminator"
KERAS_ATTRIBUTES = ("layer_names", "backend", "keras_version", "model_config", "training_config")
DISCRIMINATORS = (PATCHGAN, MULTISCALE_DISCRIMINATOR)
MAX_NAME = 200  # characters of an instrument's name in a description
MAX_NAMES = 200  # of layers in a file, and of arrays in a layer
_NAMES = {UNET: "a U-Net generator", PATCHGAN: "a PatchGAN discriminator"}


def read_representation(kind: type[T], settings: dict, where: str) -> T:
    """The representation of class `kind` that `settings` describe; `where` names their file.

    Raises:
        InputError: the settings describe another kind of representation, or are damaged.
    """
    try:
        return kind.from_dict(settings, where)
    except ValueError as error:
        raise InputError(str(error)) from None


@dataclasses.dataclass(frozen=True)
class Description:
    """What a weights file holds, from its attributes and the shapes of its arrays.

    Attributes:
        path: the file.
        network: "unet", "patchgan", or the name in the file's own description.
        in_channels: channels of the network's input: 1 for a fixed pair, 2 for multitarget (None if unknown).
        base_filters: filters of the first layer, 64 as published (None if unknown).
        settings: the file's own description; empty for a published file.
    """

    path: pathlib.Path
    network: str
    in_channels: int | None
    base_filters: int | None
    settings: dict

    @property
    def system(self) -> str:
        """ "pix2pix" or "hum2guitar"."""
        return self.settings.get("system", "pix2pix")

    @property
    def representation(self) -> Representation:
        """The spectrogram settings of a pix2pix network; the published ones if the file has no description."""
        settings = self.settings.get("representation")
        return PUBLISHED if settings is None else read_representation(Representation, settings, str(self.path))

    @property
    def summary(self) -> str:
        """The file in one line of text."""
        pair = f"{self.settings.get('origin', '?')} to {', '.join(self.settings.get('targets', ['?']))}"
        parts = [self.system, self.network, pair if "origin" in self.settings else "published layout, no description"]
        parts += [f"{self.base_filters} base filters"] if self.base_filters else []
        parts += [f"epoch {self.settings['epoch']}"] if "epoch" in self.settings else []
        mae = self.settings.get("validation_mae")
        if isinstance(mae, float) and np.isfinite(mae):
            copy_mae = self.settings.get("copy_mae")
            beside = f" (copying the input: {copy_mae:.4f})" if isinstance(copy_mae, float) else ""
            parts.append(f"validation MAE {mae:.4f}{beside}")
        return ", ".join(parts)


# --- layouts of the two pix2pix networks ------------------------------------------------------------------------------


def unet_filters(base_filters: int) -> tuple[list[int], list[int]]:
    """Output channels of the eight convolutions, and of the transposed ones except the last, which has one."""
    f = base_filters
    return [f, 2 * f, 4 * f, 8 * f, 8 * f, 8 * f, 8 * f, 8 * f], [8 * f, 8 * f, 8 * f, 8 * f, 4 * f, 2 * f, f]


def unet_layout(in_channels: int = 1, base_filters: int = 64) -> Layout:
    """Layout of the generator, with the original's names: ``input_1``, ``sequential`` ... ``conv2d_transpose_7``."""
    down, up = unet_filters(base_filters)
    layout: Layout = [("input_1", [])]
    channels = in_channels
    for index, filters in enumerate(down):
        norm = index - 1 if index else None
        layout.append(_block(index, "conv2d", index, (4, 4, channels, filters), filters, norm))
        channels = filters
    for index, filters in enumerate(up):
        layout.append(_block(8 + index, "conv2d_transpose", index, (4, 4, filters, channels), filters, 7 + index))
        if not index:
            layout.append(("concatenate", []))  # one layer, shared by all seven skips
        channels = filters + down[6 - index]
    last = "conv2d_transpose_7"
    layout.append((last, [(f"{last}/kernel:0", (4, 4, 1, channels)), (f"{last}/bias:0", (1,))]))
    return layout


def patchgan_layout(base_filters: int = 64) -> Layout:
    """Layout of the discriminator, with the names of the original, which builds it after the generator."""
    layout: Layout = [("input_2", []), ("input_3", []), ("concatenate_1", [])]
    channels = 2
    for index in range(4):
        filters = base_filters * 2**index
        norm = 13 + index if index else None
        layout.append(_block(15 + index, "conv2d", 8 + index, (4, 4, channels, filters), filters, norm))
        channels = filters
    layout.append(("conv2d_12", [("conv2d_12/kernel:0", (4, 4, channels, 1)), ("conv2d_12/bias:0", (1,))]))
    return layout


def hum2guitar_layout(network: str, base_filters: int) -> Layout:
    """Layout of the global generator or the local enhancer of hum2guitar, in the order of Keras."""
    f, few = base_filters, max(1, base_filters // 2)
    kernels = {"global_0": (3, 3, 1, f)}
    for index in (1, 2, 3):
        kernels[f"global_{index}"] = (3, 3, f * 2 ** (index - 1), f * 2**index)
    for index in range(3):
        kernels |= {f"global_residual_{index}_{part}": (3, 3, 8 * f, 8 * f) for part in (1, 2)}
    is_local = network == LOCAL_ENHANCER
    kernels["global_up_2"] = (3, 3, 4 * f, 8 * f)
    kernels |= {"local_down": (5, 5, 1, few)} if is_local else {}
    kernels["global_up_1"] = (3, 3, 2 * f, 4 * f)
    kernels |= {"local_1": (3, 3, few, f)} if is_local else {}
    kernels["global_up_0"] = (3, 3, f, 2 * f)
    if not is_local:
        kernels["global_last"] = (3, 3, f, 1)
    else:
        for index in range(3):
            kernels |= {f"local_residual_{index}_{part}": (3, 3, f, f) for part in (1, 2)}
        kernels |= {"local_up": (3, 3, few, f), "local_last": (5, 5, few, 1)}
    return [
        (name, [(f"{name}/kernel:0", kernel), (f"{name}/bias:0", (kernel[2 if "up" in name else 3],))])
        for name, kernel in kernels.items()
    ]


def _block(index: int, kind: str, number: int, kernel: tuple, filters: int, norm: int | None):
    """Layout of a convolution without bias and, unless `norm` is None, its batch normalisation.

    The numbers end the names, except for 0, which Keras leaves out.
    """

    def name(base: str, n: int) -> str:
        return f"{base}_{n}" if n else base

    arrays = [(f"{name(kind, number)}/kernel:0", kernel)]
    if norm is not None:
        of_norm = name("batch_normalization", norm)
        arrays += [(f"{of_norm}/{w}:0", (filters,)) for w in ("gamma", "beta", "moving_mean", "moving_variance")]
    return name("sequential", index), arrays


# --- reading and writing ----------------------------------------------------------------------------------------------


def write(
    path: str | os.PathLike,
    groups: list[tuple[str, list[tuple[str, np.ndarray]]]],
    settings: dict,
    float16: bool = False,
) -> None:
    """Write a weights file, whole or not at all, with a checksum for each array.

    Args:
        path: ends in .h5.
        groups: ``(layer name, [(weight name, array), ...])``, layers without weights included.
        settings: the description; numbers and strings become attributes, anything else JSON in an attribute.
        float16: store the kernels in half the size; one-dimensional arrays stay float32.
    """
    import h5py

    buffer = io.BytesIO()  # HDF5 crashes the process when the disk is full
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = np.array([name for name, _ in groups], dtype="S")
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["keras_version"] = np.bytes_("2.4.0")
        for key, value in settings.items():
            file.attrs[key] = value if isinstance(value, (str, int, float)) else json.dumps(value)
        for name, arrays in groups:
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([weight for weight, _ in arrays], dtype="S" if arrays else "S1")
            for weight, array in arrays:
                # HDF5 keeps checksums only of chunked arrays, and chunks cannot be empty.
                checked = {"chunks": np.shape(array), "fletcher32": True} if np.ndim(array) and np.size(array) else {}
                dtype = np.float16 if float16 and np.ndim(array) > 1 else np.float32
                group.create_dataset(weight, data=np.asarray(array, dtype), **checked)
    with replacing(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def copy(description: Description, path: str | os.PathLike, settings: dict, float16: bool = False) -> None:
    """Copy the weights file of a generator, as `write` writes it.

    Args:
        description: of the file, from `describe`.
        path: of the copy.
        settings: added to the description.
        float16: as for `write`.

    Raises:
        InputError: as `read`, or a weight is out of the range of float16.
    """
    if description.network == UNET:
        layout = unet_layout(description.in_channels, description.base_filters)
    else:
        layout = hum2guitar_layout(description.network, description.base_filters)
    arrays = [array for _, of_layer in read(description.path) for array in of_layer]
    if float16 and max(np.abs(array).max(initial=0) for array in arrays) > np.finfo(np.float16).max:
        raise InputError(f"{description.path}: expected weights within the range of float16, found larger ones")
    arrays = iter(arrays)
    groups = [(name, [(weight, next(arrays)) for weight, _ in named]) for name, named in layout]
    write(path, groups, {**description.settings, **settings}, float16)


def read(path: str | os.PathLike) -> Groups:
    """All arrays of a weights file in its order: ``[(layer name, [float32 arrays])]``, without empty layers.

    Raises:
        InputError: as `describe`.
    """
    with _open(path) as file:
        return [(name, [_as_float32(array) for array in arrays]) for name, arrays in _layers(file)]


def _as_float32(array) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes infinite, which is refused where it is used
        return np.asarray(array[()], np.float32)


def describe(path: str | os.PathLike) -> Description:
    """The network that a weights file holds, from its attributes and the shapes of its arrays.

    Raises:
        InputError: no such file, not HDF5, damaged, or weights of an unknown network.
    """
    path = pathlib.Path(path)
    with _open(path) as file:
        attributes = file.attributes(file.root, without=KERAS_ATTRIBUTES)
        settings = {key: _plain(value) for key, value in attributes.items()}
        groups = [(name, [array.shape for array in arrays]) for name, arrays in _layers(file)]
    check_settings(path, settings)
    shapes = [shape for _, group in groups for shape in group]
    network = settings.get("network")
    if network not in (None, UNET, PATCHGAN):
        in_channels, base_filters = settings.get("in_channels"), settings.get("base_filters")
        if network in (GLOBAL_GENERATOR, LOCAL_ENHANCER):
            _check_hum2guitar(path, network, in_channels, base_filters, dict(groups))
        return Description(path, network, in_channels, base_filters, settings)
    first = shapes[0] if shapes else ()
    if len(first) != 4 or first[:2] != (4, 4):
        raise InputError(f"{path}: expected the weights of a network of this project, found {_found(shapes)}")
    in_channels, base_filters = first[2:]
    layouts = {UNET: unet_layout(in_channels, base_filters), PATCHGAN: patchgan_layout(base_filters)}
    counts = {name: sum(len(arrays) for _, arrays in layout) for name, layout in layouts.items()}
    network = next((name for name, count in counts.items() if count == len(shapes)), None)
    if network is None:
        raise InputError(
            f"{path}: expected {counts[UNET]} arrays ({_NAMES[UNET]}) or {counts[PATCHGAN]} ({_NAMES[PATCHGAN]}), "
            f"found {_found(shapes)}: another architecture"
        )
    expected = [(weight, shape) for _, arrays in layouts[network] for weight, shape in arrays]
    for (weight, shape), found in zip(expected, shapes, strict=True):
        if shape != found:
            raise InputError(
                f"{path}: expected {_NAMES[network]} with {base_filters} base filters, whose {weight} is {shape}, "
                f"found {found}: another architecture"
            )
    return Description(path, network, in_channels, base_filters, settings)


def check_settings(path: str | os.PathLike, settings: dict) -> None:
    """Refuse a file's own description that holds other types than ours, or names that cannot be shown.

    Raises:
        InputError: naming the entry.
    """
    for key, (expected, is_valid) in _SETTINGS.items():
        if key in settings and not is_valid(settings[key]):
            raise InputError(f"{path}: expected {key} to be {expected}, found {repr(settings[key])[:100]}")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()


def _are_names(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_NAMES and all(map(_is_name, value))


def _is_whole(value: object, maximum: int = 2**53) -> bool:
    return type(value) is int and 0 <= value <= maximum


def _is_number(value: object) -> bool:
    is_nan = type(value) is float and math.isnan(value)  # if there was no validation
    return is_nan or (type(value) in (int, float) and abs(value) <= 2**53)


_NAME = f"a name of up to {MAX_NAME} printable characters"
_SETTINGS: dict[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("system", "network", "origin", "f0", "phase"), (_NAME, _is_name)),
    **dict.fromkeys(("origins", "targets", "voices"), (f"a list of up to {MAX_NAMES} names", _are_names)),
    "representation": ("a description", lambda value: isinstance(value, dict)),
    **dict.fromkeys(("epoch", "in_channels", "base_filters"), ("a whole number", _is_whole)),
    "seed": ("a whole number below 2**32", lambda value: _is_whole(value, 2**32 - 1)),
    **dict.fromkeys(("validation_mae", "copy_mae"), ("a number", _is_number)),
    "validation_split": ("a number from 0 to 0.9", lambda value: _is_number(value) and 0 <= value <= 0.9),
    **dict.fromkeys(("identity", "augment"), ("true or false", lambda value: value in (True, False))),
}


def _check_hum2guitar(
    path: pathlib.Path, network: str, in_channels: int | None, base_filters: int | None, found: dict[str, list]
) -> None:
    if not base_filters:
        raise InputError(f"{path}: expected a number of base filters, found {base_filters!r}")
    if in_channels not in (None, 1):
        raise InputError(f"{path}: expected one input channel of {network}, found {in_channels}")
    layout = hum2guitar_layout(network, base_filters)
    expected = {name: [shape for _, shape in arrays] for name, arrays in layout}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: expected {network} with {base_filters} base filters, whose layer {name} has "
                f"{_join(expected.get(name))}, found {_join(found.get(name))}: another architecture"
            )


def _join(shapes: list[tuple[int, ...]] | None) -> str:
    return "no weights" if shapes is None else " and ".join(map(str, shapes))


def _found(shapes: list[tuple]) -> str:
    return f"{len(shapes)} arrays, the first of shape {shapes[0]}" if shapes else "no arrays"


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[hdf5.Reader]:
    """A reader of a weights file; what is wrong with the file becomes an InputError."""
    with hdf5.open_file(path, "a weights file in HDF5 (.h5)") as file:
        if "layer_names" not in _root(file).attrs:
            raise InputError(f"{path}: expected Keras weights, found an HDF5 file without the attribute layer_names")
        yield file


def _root(file: hdf5.Reader):
    """The group that holds the layers: below ``model_weights`` in a file of a whole model."""
    # Not `in`, which follows links.
    whole = "layer_names" not in file.root.attrs and file.root.id.links.exists(b"model_weights")
    return file.child(file.root, "model_weights") if whole else file.root


def _layers(file: hdf5.Reader) -> list[tuple[str, list]]:
    """Name and HDF5 data sets of each layer that has weights, in the order of the file; all of them are checked."""
    root, layers = _root(file), []
    for layer in _names(file, root, "layer_names"):
        group = file.child(root, layer)
        arrays = [file.child(group, weight) for weight in _names(file, group, "weight_names")]
        if arrays:
            layers.append((layer, arrays))
    file.check_datasets([array for _, arrays in layers for array in arrays])
    return layers


def _names(file: hdf5.Reader, group, attribute: str) -> list[str]:
    """The names in an attribute of a group."""
    names = file.attribute(group, attribute)
    if (
        not isinstance(names, list)
        or len(names) > MAX_NAMES
        or not all(isinstance(name, str) for name in names if name)
    ):
        raise ValueError(f"no list of up to {MAX_NAMES} names as {attribute} of {group.name}")
    return [name for name in names if name]


def _plain(value):
    """The value of an attribute as a plain Python value, decoded where it is JSON."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return parse_json(f'{{"value": {value}}}', "")["value"]
        except (InputError, LookupError):
            return value
    return value
