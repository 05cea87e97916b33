"""HDF5 files from strangers: only what the file itself holds, and no more than its size explains.

HDF5 can keep the content of a data set in other files (external storage, external links, virtual data sets), lead from
one name to another (soft links), and claim sizes without any data. The HDF5 library follows all of that by itself, so
everything is checked here before it is read: regular files, hard links, and plain, contiguous or chunked data sets of
numbers.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.errors import InputError
from common.files import open_regular

if TYPE_CHECKING:
    import h5py

MAX_RATIO = 20  # of the arrays' size to that of the file; random numbers can hardly be compressed
MAX_BYTES = 2**30  # of all arrays of a file, as float32; 870 MB are a U-Net with 128 base filters
MAX_DIMENSIONS = 8
MAX_OBJECTS = 10_000  # groups, data sets and attributes that are looked at
MAX_TEXT = 2**26  # bytes of an attribute
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}  # any other would load a library


@contextlib.contextmanager
def open_file(path: str | os.PathLike, expected: str) -> Iterator[Reader]:
    """A reader of the HDF5 file at `path`; what is wrong with the file becomes an InputError.

    Args:
        path: of a regular file.
        expected: what is expected there, for the error.
    """
    import h5py

    with open_regular(path, expected) as file:
        is_hdf5, size = file.read(8) == b"\x89HDF\r\n\x1a\n", os.fstat(file.fileno()).st_size
    try:
        with h5py.File(path, "r") as file:
            yield Reader(path, file, size)
    except InputError:
        raise
    except (
        OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError,
    ) as error:  # all that h5py raises  # fmt: skip
        kind = "a truncated or damaged HDF5 file" if is_hdf5 else "another kind of file"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path}: expected {expected}, found {kind} ({reason})") from None


class Reader:
    """Reads from an open HDF5 file, and refuses what is not plain.

    Attributes:
        root: the group that holds everything.
    """

    def __init__(self, path: str | os.PathLike, file: h5py.File, size: int) -> None:
        self.root = file
        self._path, self._size = path, size

    def child(self, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
        """The group or data set `name` below `group`, reached by hard links only.

        Raises:
            InputError: a link on the way leads to another name or to another file.
            KeyError: there is none of this name.
        """
        import h5py

        found = group
        for part in filter(None, name.split("/")):
            if not isinstance(found, h5py.Group):
                raise KeyError(f"{found.name} holds no {part}")
            kind = found.id.links.get_info(part.encode()).type
            if kind != h5py.h5l.TYPE_HARD:
                place = "in another file" if kind == h5py.h5l.TYPE_EXTERNAL else "elsewhere"
                raise self._refused(f"all of it in the file, found a link from {found.name}/{part} to {place}")
            found = found[part]
        return found

    def attributes(self, group: h5py.Group, without: Sequence[str] = ()) -> dict:
        """The attributes of a group by name, as `attribute` gives them, except those called `without`."""
        if len(group.attrs) > MAX_OBJECTS:
            raise self._refused(f"up to {MAX_OBJECTS} attributes of {group.name}, found {len(group.attrs)}")
        return {name: self.attribute(group, name) for name in list(group.attrs) if name not in without}

    def attribute(self, group: h5py.Group, name: str) -> str | int | float | bool | list:
        """An attribute as a plain Python value: a text, a number, or a list of them.

        Raises:
            InputError: it holds something else or too much.
            KeyError: there is none of this name.
        """
        import h5py

        attribute = h5py.h5a.open(group.id, name.encode())
        dtype, n_values = attribute.dtype, math.prod(attribute.shape)
        n_bytes = n_values * dtype.itemsize
        if h5py.check_string_dtype(dtype) is not None and dtype.kind == "O":  # texts of any length
            # All of them may be the same one, which may be as long as there is space in the file.
            n_bytes += n_values * (self._rest if n_values * self._size > MAX_TEXT else self._size)
        elif dtype.kind not in "Siufb" or (dtype.kind != "S" and dtype.itemsize > 8):
            raise self._refused(
                f"a text or numbers as the attribute {name!r} of {group.name}, found {dtype.kind!r} values of "
                f"{dtype.itemsize} bytes"
            )
        if n_bytes > MAX_TEXT:
            raise self._refused(
                f"up to {MAX_TEXT} bytes as the attribute {name!r} of {group.name}, found up to {n_bytes}"
            )
        value = group.attrs[name]
        value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        return [_decode(v) for v in value] if isinstance(value, list) else _decode(value)

    @functools.cached_property
    def _rest(self) -> int:
        """Bytes of the file that are not the content of data sets, of which texts are a part."""
        import h5py

        taken, seen, waiting = 0, set(), [self.root]
        while waiting:
            group = waiting.pop()
            for name in group.id:
                if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                    continue
                found = h5py.h5o.open(group.id, name)
                address = h5py.h5o.get_info(found).addr
                if address in seen:
                    continue
                seen.add(address)
                if len(seen) > MAX_OBJECTS:
                    raise self._refused(f"up to {MAX_OBJECTS} groups and data sets, found more")
                if isinstance(found, h5py.h5d.DatasetID):
                    creation = found.get_create_plist()
                    is_plain = creation.get_layout() != h5py.h5d.VIRTUAL and not creation.get_external_count()
                    taken += found.get_storage_size() if is_plain else 0
                elif isinstance(found, h5py.h5g.GroupID):
                    waiting.append(h5py.Group(found))
        return max(0, self._size - taken)

    def check_datasets(self, datasets: Sequence[h5py.Dataset]) -> None:
        """Refuse data sets that are not plain, or larger than the file's size explains; none of them is read.

        Raises:
            InputError: naming the data set, what was expected and what was found.
        """
        n_bytes = sum(self._check_dataset(dataset) for dataset in datasets)
        if n_bytes > MAX_RATIO * self._size:
            raise self._refused(
                f"the weights of a network, up to {MAX_RATIO} times as large as the file, found {n_bytes / 1e6:.0f} MB "
                f"of them in a file of {self._size / 1e6:.1f} MB"
            )
        if n_bytes > MAX_BYTES:
            raise self._refused(f"up to {MAX_BYTES / 1e6:.0f} MB of weights, found {n_bytes / 1e6:.0f} MB")

    def _check_dataset(self, dataset: h5py.Dataset) -> int:
        """Bytes of a data set as float32."""
        import h5py

        name = dataset.name
        if not isinstance(dataset, h5py.Dataset):
            raise self._refused(f"weights as {name}, found none there")
        creation = dataset.id.get_create_plist()
        # The shape comes last: to find that of a virtual data set, HDF5 opens the files behind it.
        if creation.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
            raise self._refused(f"all of it in the file, found {name} in another file (virtual data set)")
        if creation.get_external_count():
            raise self._refused(f"all of it in the file, found {name} in another file (external storage)")
        filters = {creation.get_filter(index)[0] for index in range(creation.get_nfilters())}
        if unknown := filters - _FILTERS.keys():
            raise self._refused(f"filters {', '.join(_FILTERS.values())} of {name}, found filter {min(unknown)}")
        dtype, shape = dataset.dtype, dataset.shape
        if shape is None or dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise self._refused(f"numbers as {name}, found {dtype.kind!r} values of {dtype.itemsize} bytes")
        if len(shape) > MAX_DIMENSIONS:
            raise self._refused(f"up to {MAX_DIMENSIONS} dimensions of {name}, found {len(shape)}")
        if creation.get_layout() == h5py.h5d.CHUNKED:
            chunk = math.prod(creation.get_chunk()) * dtype.itemsize
            if chunk > MAX_RATIO * self._size:
                raise self._refused(
                    f"chunks of up to {MAX_RATIO} times the size of the file, found {chunk / 1e6:.0f} MB as chunks of "
                    f"{name} in a file of {self._size / 1e6:.1f} MB"
                )
        return 4 * math.prod(shape)

    def _refused(self, text: str) -> InputError:
        return InputError(f"{self._path}: expected {text}")


def _decode(value):
    return value.decode() if isinstance(value, bytes) else value
