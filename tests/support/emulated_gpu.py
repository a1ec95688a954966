"""A device of numpy arrays and of the CUDA kernels compiled for the CPU, for tests of the engine `cudf` without a GPU.

It is strict where a GPU is: arrays of the device and of the host do not mix, and arguments of kernels have the types
that the kernels declare.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.characters import text_buffers
from tasks.curation.documents import RowGroup
from tasks.curation.engines.device import BLOCK, THREAD, TextBatch, kernel_source

FOLDER = Path(__file__).parent / "cuda"
SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
POINTED = {
    "u8": ("uint8", "bool"),
    "u32": ("uint32",),
    "int": ("int32",),
    "i64": ("int64",),
    "u64": ("uint64",),
    "float": ("float32",),
}
NUMBERS = {"int": np.int32, "i64": np.int64}
THREADS = 32
"""Of a block here; each is a thread of this machine."""


class DeviceArray(np.ndarray):
    """An array that meets only its like, numbers and booleans aside."""

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return self._only_of_device(getattr(function, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        return self._only_of_device(function, inputs, options)

    def __getitem__(self, key: Any) -> Any:
        self._check(key)
        found = np.asarray(self)[_bare(key)]
        return found.view(DeviceArray) if isinstance(found, np.ndarray) else np.asarray(found).view(DeviceArray)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check((key, value))
        np.asarray(self)[_bare(key)] = _bare(value)

    def _only_of_device(self, function: Any, inputs: Any, options: Any) -> Any:
        self._check((inputs, list(options.values())))
        result = function(*_bare(inputs), **{name: _bare(value) for name, value in options.items()})
        return result.view(DeviceArray) if isinstance(result, np.ndarray) else np.asarray(result).view(DeviceArray)

    def _check(self, value: Any) -> None:
        if isinstance(value, tuple | list):
            for item in value:
                self._check(item)
        elif isinstance(value, np.ndarray) and value.ndim:
            assert isinstance(value, DeviceArray), "an array of the host meets one of the device"


def _bare(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_bare, value))
    return np.asarray(value) if isinstance(value, DeviceArray) else value


class ArrayModule:
    """numpy, whose functions give arrays of the device."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)

        def called(*arguments: Any, **options: Any) -> Any:
            assert name == "asarray" or not any(type(a) is np.ndarray for a in arguments), f"{name} of a host array"
            result = function(*_bare(arguments), **options)
            return np.array(result).view(DeviceArray) if name == "asarray" else result.view(DeviceArray)

        return called


class EmulatedGpu:
    """See `Device`. folder: where the kernels are compiled, or have been."""

    def __init__(self, folder: Path) -> None:
        self.xp = ArrayModule()
        self.capacity_bytes = 1 << 40
        source = kernel_source()
        self._parameters = {
            name: [parameter.rsplit(maxsplit=1)[0] for parameter in parameters.replace("*", "* ").split(",")]
            for name, parameters in SIGNATURE.findall(source)
        }
        self._library = _compiled(source, self._parameters, folder)

    def run(self, kernel: str, num_items: int, *arguments: Any, threads: int = THREAD) -> None:
        kinds = self._parameters[kernel]
        assert len(kinds) == len(arguments), f"{kernel} takes {len(kinds)} arguments, not {len(arguments)}"
        given = [_argument(kernel, kind.strip(), argument) for kind, argument in zip(kinds, arguments, strict=True)]
        # Fewer blocks than items: kernels have to stride.
        blocks = max(1, min(7, num_items * threads // BLOCK))
        if num_items:
            getattr(self._library, f"run_{kernel}")(ctypes.c_uint(THREADS), ctypes.c_uint(blocks), *given)

    def order(self, keys: Any) -> Any:
        assert isinstance(keys, DeviceArray) and keys.ndim == 1 and keys.flags.c_contiguous
        return np.argsort(np.asarray(keys), kind="stable").view(DeviceArray)

    def order_of_strings(self, strings: pa.LargeStringArray) -> Any:
        return pc.sort_indices(strings).to_numpy().astype(np.int64).view(DeviceArray)

    def read(self, groups: Sequence[RowGroup]) -> TextBatch:
        rows = pa.concat_tables([group.read(["id", "text"]) for group in groups])
        ids, texts = (rows[name].combine_chunks().cast(pa.large_string()) for name in ("id", "text"))
        data, bounds = text_buffers(texts)
        data = data[bounds[0] : bounds[-1]].copy().view(DeviceArray)
        return TextBatch(ids, data, (bounds - bounds[0]).view(DeviceArray))

    def to_host(self, array: Any) -> np.ndarray:
        assert isinstance(array, DeviceArray)
        return np.array(array)

    def free_bytes(self) -> int:
        return self.capacity_bytes


@cache
def emulated_gpu(folder: Path) -> EmulatedGpu:
    """The one of this process; kernels that lie in the folder are not compiled again."""
    return EmulatedGpu(folder)


def _argument(kernel: str, kind: str, argument: Any) -> Any:
    if not kind.endswith("*"):
        assert type(argument) is NUMBERS[kind], f"{kernel}: {argument!r} is no {kind}"
        return ctypes.c_int(int(argument)) if kind == "int" else ctypes.c_longlong(int(argument))
    allowed = POINTED[kind.removeprefix("const ").rstrip("* ")]
    assert isinstance(argument, DeviceArray), f"{kernel}: an array of the host"
    assert argument.dtype.name in allowed, f"{kernel}: {argument.dtype} is not {kind}"
    assert argument.flags.c_contiguous, f"{kernel}: an array with gaps"
    return ctypes.c_void_p(argument.ctypes.data)


def _compiled(source: str, parameters: dict[str, list[str]], folder: Path) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    assert compiler
    starts = []
    for name, kinds in parameters.items():
        declared = ", ".join(f"{kind} a{number}" for number, kind in enumerate(kinds))
        passed = ", ".join(f"a{number}" for number in range(len(kinds)))
        starts.append(
            f'extern "C" void run_{name}(unsigned threads, unsigned blocks, {declared}) '
            f"{{ launch(threads, blocks, [&] {{ {name}({passed}); }}); }}\n"
        )
    unit, library = folder / "kernels.cpp", folder / "kernels.so"
    if library.exists():
        return ctypes.CDLL(str(library))
    unit.write_text('#include "on_cpu.hpp"\n' + source + "".join(starts), encoding="utf-8")
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", f"-I{FOLDER}"]
    subprocess.run([compiler, *options, "-o", str(library), str(unit)], check=True, timeout=120)
    return ctypes.CDLL(str(library))
