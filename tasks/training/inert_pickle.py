"""Reads pickles without importing or calling anything that they name: every class and function becomes a stand-in."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any


class Inert:
    """Stands for an object of whatever class a pickle names; holds the attributes that were pickled, and does nothing.

    A pickle may also call it (a function's stand-in), fill it as a list or set items of it.
    """

    def __init__(self, *unused: Any, **unused_too: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(name): value for name, value in state.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


ADMITTED = {("collections", "OrderedDict"): OrderedDict}
"""The only names that mean what they say."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return ADMITTED.get((module_name, global_name), Inert)

    def persistent_load(self, pid: Any, /) -> Inert:
        return Inert()


def loads_inert(content: bytes) -> Any:
    """What a pickle holds: plain values as they are, all else as Inert. Raises ValueError for what is no pickle."""
    try:
        return _InertUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a torn or changed pickle makes the machine fail in any way there is
        raise ValueError(f"no whole pickle ({type(error).__name__}: {error})") from error


def load_inert_torch(path: Path) -> Any:
    """The same for a file of torch.save; tensors are Inert. Raises ValueError unless every part has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"its part {damaged} is damaged")
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return loads_inert(archive.read(name))
    except (zipfile.BadZipFile, StopIteration, NotImplementedError, EOFError) as error:
        raise ValueError(f"no whole file of torch.save ({type(error).__name__}: {error})") from error
