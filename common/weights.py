"""Weights files (.h5): their description, reading and writing, without TensorFlow.

The layout is that of Keras 2's ``save_weights``: root attributes ``layer_names``, ``backend`` and ``keras_version``,
one group for each layer with the attribute ``weight_names``, and the arrays in it. The original program and
``keras.Model.load_weights`` read our files and vice versa. Further root attributes of our files describe them: those of
`SETTINGS`. A published file has none, which means the published settings.

Files come from strangers, and HDF5 can lead into other files and claim sizes without data. So one rule holds for all
that is read: an array is stored in the file itself, as it is in memory (contiguous, not compressed), as float16 or
float32; the arrays together are no larger than the file; and the rest of the file is small.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from common import InputError
from common.files import open_regular, parse_json, replacing
from data import PUBLISHED, Representation, T

if TYPE_CHECKING:
    import h5py

Layers = dict[str, dict[str, np.ndarray]]  # {layer: {weight: array}}, in the order of the file

UNET = "unet"
PATCHGAN = "patchgan"
GLOBAL_GENERATOR = "global_generator"
LOCAL_ENHANCER = "local_enhancer"
MULTISCALE_DISCRIMINATOR = "multiscale_discriminator"
DISCRIMINATORS = (PATCHGAN, MULTISCALE_DISCRIMINATOR)
N_ARRAYS = {UNET: 73, PATCHGAN: 18}  # by which published files are recognised

MAX_BYTES = 2**30  # of all arrays as float32; 870 MB are a U-Net with 128 base filters
MAX_REST = 2**20  # bytes of a file that are not arrays; up to 300 kB are usual
MAX_OBJECTS = 1000  # groups and arrays of a file
MAX_NAME = 200  # characters of a name
MAX_NAMES = 200  # of layers in a file, of arrays in a layer, of instruments
# The attributes that describe a file, and their types; lists and dictionaries are stored as JSON.
SETTINGS: dict[str, type] = {
    **dict.fromkeys(("system", "network", "origin", "f0", "input_level"), str),
    **dict.fromkeys(("origins", "targets", "voices"), list),
    **dict.fromkeys(("epoch", "in_channels", "base_filters", "seed"), int),
    **dict.fromkeys(("validation_mae", "copy_mae", "validation_split"), float),
    **dict.fromkeys(("identity", "augment", "exported"), bool),
    "representation": dict,
}
# Bounds of a representation.
MAX_SETTING = 2**20  # of any whole number
MAX_HOPS = 64  # in a window
MAX_SPECTRUM = 2**24  # samples of a window times frames of a slice: 64 times the published one
MELS = range(16, 2**12 + 1, 2)  # the numbers of bands that hum2guitar's networks take
MAX_DB = 1000  # a power of 10**100, which float64 holds


@dataclasses.dataclass(frozen=True)
class Description:
    """What a weights file holds, from its attributes and the shapes of its arrays.

    Attributes:
        path: the file.
        network: "unet", "patchgan", or the name in the file's own description.
        in_channels: channels of the network's input: 1 for a fixed pair, 2 for multitarget.
        base_filters: filters of the first layer, 64 as published.
        settings: the file's own description; empty for a published file.
    """

    path: pathlib.Path
    network: str
    in_channels: int
    base_filters: int
    settings: dict

    @property
    def system(self) -> str:
        """ "pix2pix" or "hum2guitar"."""
        return "pix2pix" if self.network in N_ARRAYS else "hum2guitar"

    @property
    def representation(self) -> Representation:
        """The spectrogram settings of a pix2pix network; the published ones if the file has no description."""
        settings = self.settings.get("representation")
        return PUBLISHED if settings is None else read_representation(Representation, settings, self.path)

    @property
    def summary(self) -> str:
        """The file in one line of text."""
        pair = f"{self.settings.get('origin', '?')} to {', '.join(dict.fromkeys(self.settings.get('targets', ['?'])))}"
        parts = [self.system, self.network, pair if "origin" in self.settings else "published layout, no description"]
        parts.append(f"{self.base_filters} base filters")
        parts += [f"epoch {self.settings['epoch']}"] if "epoch" in self.settings else []
        if "validation_mae" in self.settings:
            beside = f" (copying the input: {self.settings['copy_mae']:.4f})" if "copy_mae" in self.settings else ""
            parts.append(f"validation MAE {self.settings['validation_mae']:.4f}{beside}")
        return ", ".join(parts)


def read_representation(kind: type[T], settings: dict, where: str | os.PathLike) -> T:
    """The representation that `StftSettings.to_dict` described.

    Raises:
        InputError: naming its place, `where`, if it is of another kind or damaged, or would take too much memory.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {name: settings.get(name) for name in defaults}
    is_possible = (
        all(settings.get(name, value) == value for name, value in kind.KIND.items())
        and all(type(values[name]) is type(default) for name, default in defaults.items())
        and all(math.isfinite(v) if isinstance(v, float) else 0 < v <= MAX_SETTING for v in values.values())
        and values["n_fft"] in range(values["hop_length"], MAX_HOPS * values["hop_length"] + 1, values["hop_length"])
        and values["n_fft"] * values["n_frames"] <= MAX_SPECTRUM
        and values.get("n_bins", 0) <= values["n_fft"] // 2 + 1
        and values.get("n_mels", MELS[0]) in MELS
        and all(abs(v) <= MAX_DB for name, v in values.items() if name.endswith("_db"))
        and values.get("amin", 1) > 0
    )
    if not is_possible:
        raise InputError(f"{where}: damaged description of the representation, {str(settings)[:300]}")
    return kind(**values)


def write(path: str | os.PathLike, layers: Layers, settings: dict, float16: bool = False) -> None:
    """Write a weights file, whole or not at all.

    Args:
        path: ends in .h5.
        layers: the arrays, with layers that have none.
        settings: the description; numbers and strings become attributes, anything else JSON in an attribute.
        float16: store the kernels in half the size; one-dimensional arrays stay float32.

    Raises:
        InputError: a kernel is beyond the range of float16.
    """
    import h5py

    buffer = io.BytesIO()  # HDF5 crashes the process when the disk is full
    with h5py.File(buffer, "w") as file, np.errstate(over="ignore"):
        file.attrs["layer_names"] = np.array(list(layers), dtype="S")
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["keras_version"] = np.bytes_("2.4.0")
        for key, value in settings.items():
            file.attrs[key] = value if isinstance(value, (str, int, float)) else json.dumps(value)
        for name, arrays in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array(list(arrays), dtype="S" if arrays else "S1")
            for weight, array in arrays.items():
                stored = np.asarray(array, np.float16 if float16 and np.ndim(array) > 1 else np.float32)
                if float16 and np.isinf(stored).any():
                    raise InputError(f"{path}: layer {name} has weights beyond the range of float16")
                group[weight] = stored
    with replacing(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def read(path: str | os.PathLike) -> Layers:
    """All arrays of a weights file as float32, in its order, with layers that have none.

    Raises:
        InputError: as `describe`.
    """
    with _open(path) as file, np.errstate(over="ignore"):
        layers = _find_arrays(path, file)
        return {
            layer: {name: np.asarray(array[()], np.float32) for name, array in arrays.items()}
            for layer, arrays in layers.items()
        }


def describe(path: str | os.PathLike) -> Description:
    """The network that a weights file holds, from its attributes and the shapes of its arrays, none of which is read.

    Raises:
        InputError: no such file, not HDF5, damaged, or weights of an unknown network.
    """
    path = pathlib.Path(path)
    with _open(path) as file:
        shapes = [array.shape for arrays in _find_arrays(path, file).values() for array in arrays.values()]
        settings = _read_settings(path, file)
    by_count = next((name for name, count in N_ARRAYS.items() if count == len(shapes)), None)
    network = settings.get("network", by_count)
    if network is None or not shapes or len(shapes[0]) != 4 or (network in N_ARRAYS and network != by_count):
        found = f"{len(shapes)} arrays, the first of shape {shapes[0]}" if shapes else "no arrays"
        raise InputError(f"{path}: holds the weights of a network that is not one of this project ({found})")
    in_channels, base_filters = shapes[0][2:]  # all networks begin with a convolution
    return Description(path, network, in_channels, base_filters, settings)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[h5py.File]:
    """The open HDF5 file; what is wrong with it becomes an InputError."""
    import h5py

    open_regular(path, "a weights file (.h5)").close()  # no pipe, which would block
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (
        OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError,
    ) as error:  # all that h5py raises  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: is no weights file in HDF5, or a damaged one ({reason})") from None


def _find_arrays(path: str | os.PathLike, file: h5py.File) -> dict[str, dict[str, h5py.Dataset]]:
    """The data sets of each layer, checked against the rule that this module begins with; none of them is read."""
    import h5py

    found: dict[str, h5py.Group | h5py.Dataset] = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> bool | None:
        found[name] = item
        return True if len(found) > MAX_OBJECTS else None  # ends the visit

    if file.visititems(add):  # all that is in the file itself, not what links lead to
        raise InputError(f"{path}: holds more than {MAX_OBJECTS} groups and arrays")
    n_values, rest = 0, os.path.getsize(path)
    for dataset in (item for item in found.values() if not isinstance(item, h5py.Group)):
        properties = dataset.id.get_create_plist()
        is_plain = properties.get_layout() == h5py.h5d.CONTIGUOUS and not properties.get_nfilters()
        # Shape and type come last: HDF5 opens other files to find the shape of a virtual data set.
        if not is_plain or properties.get_external_count() or dataset.dtype.str[1:] not in ("f2", "f4"):
            raise InputError(f"{path}: {dataset.name} is not a contiguous, uncompressed array of float16 or float32")
        size = math.prod(dataset.shape)
        if dataset.id.get_storage_size() != size * dataset.dtype.itemsize:
            raise InputError(f"{path}: {dataset.name} is not stored in full")
        n_values, rest = n_values + size, rest - size * dataset.dtype.itemsize
    if rest < 0 or 4 * n_values > MAX_BYTES:
        raise InputError(f"{path}: announces more weights than the file can hold, or than 1 GB")
    if rest > MAX_REST:
        raise InputError(f"{path}: {rest / 1e6:.1f} MB of the file are no weights")
    return {
        layer: {name: found[f"{layer}/{name}"] for name in _read_names(found[layer], "weight_names")}
        for layer in _read_names(file, "layer_names")
    }


def _read_names(group: h5py.Group, name: str) -> list[str]:
    """The names in an attribute of a group."""
    import h5py

    attribute = h5py.h5a.open(group.id, name.encode())
    n_names = math.prod(attribute.shape)
    if not n_names:
        return []
    if attribute.dtype.kind not in "SO" or n_names > MAX_NAMES:
        raise ValueError(f"{name} of {group.name} is no list of up to {MAX_NAMES} names")
    names = [text.decode() if isinstance(text, bytes) else text for text in group.attrs[name].tolist()]
    if not _is_valid(names, list):
        raise ValueError(f"{name} of {group.name} holds something else than names")
    return names


def _read_settings(path: str | os.PathLike, file: h5py.File) -> dict:
    """The file's own description: the attributes of `SETTINGS` as plain values. Others are left alone, and so is NaN,
    which stands for what was not measured."""
    import h5py

    settings = {}
    for key, kind in SETTINGS.items():
        if not h5py.h5a.exists(file.id, key.encode()):
            continue
        attribute = h5py.h5a.open(file.id, key.encode())
        if attribute.shape != () or attribute.dtype.kind not in "OSiufb":  # a text in HDF5 is in the rest of the file
            raise InputError(f"{path}: {key} is no text or number")
        value = file.attrs[key]
        value = value.item() if isinstance(value, np.generic) else value
        value = value.decode() if isinstance(value, bytes) else value
        if kind in (list, dict):
            value = parse_json(f'{{"value": {value}}}', f"{path}: {key}")["value"]
        if isinstance(value, float) and math.isnan(value):
            continue
        if not _is_valid(value, kind):
            raise InputError(f"{path}: {key} is damaged, {repr(value)[:100]}")
        settings[key] = value
    return settings


def _is_valid(value: object, kind: type) -> bool:
    """Whether `value` is of this `kind`: a text short and printable, a list of such texts, a number from 0 on."""
    if kind is list:
        return isinstance(value, list) and len(value) <= MAX_NAMES and all(_is_valid(name, str) for name in value)
    if kind is str:
        return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()
    if kind in (int, float):
        return isinstance(value, (int, kind)) and 0 <= value < 2**32
    return isinstance(value, kind)
