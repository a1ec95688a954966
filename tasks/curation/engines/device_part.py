"""What one of several devices does for dedup, in a worker of its own: it knows a run of the documents.

Devices meet through files in a folder that all workers see. Band keys and digests are grouped by one device for all;
a pair is decided by the device of its first document, which borrows the text of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.curation.candidates import BandJob
from tasks.curation.config import FuzzyConfig
from tasks.curation.engines.device import Device
from tasks.curation.engines.device_pairs import Judge, candidates, unique_codes
from tasks.curation.engines.device_scan import Share, Taken, take_in
from tasks.curation.engines.device_search import DeviceSearch, twins_of
from tasks.curation.folding import Folded


class Part(NamedTuple):
    """The documents of one device; it stays in the process that made it."""

    device: Device
    search: DeviceSearch
    taken: Taken


class Exchange(NamedTuple):
    """Where devices leave what others need. starts: (parts + 1) number of the first document of each, and of all."""

    folder: Path
    starts: tuple[int, ...] = ()

    @property
    def num_parts(self) -> int:
        return len(self.starts) - 1

    def path(self, kind: str, *parts: int) -> Path:
        """kind: what the file holds, with its suffix; parts: whose it is."""
        name = Path(kind)
        return self.folder / ("-".join([name.stem, *map(str, parts)]) + name.suffix)

    def codes(self, part: int) -> Iterator[np.ndarray]:
        """Codes of the pairs whose first document is of a part: sorted and unique in each piece."""
        bounds = np.array(self.starts[part : part + 2]) << 32
        for finder in range(self.num_parts):
            codes = np.load(self.path("codes.npy", finder), mmap_mode="r")
            first, stop = np.searchsorted(codes, bounds).tolist()
            yield np.array(codes[first:stop])

    def keys(self, band: int) -> np.ndarray:
        """(documents,) uint64 keys of a band."""
        keys = np.empty(self.starts[-1], dtype=np.uint64)
        for part in range(self.num_parts):
            start, stop = self.starts[part : part + 2]
            path, place = self.path("keys", part), band * (stop - start) * 8
            keys[start:stop] = np.fromfile(path, dtype=np.uint64, count=stop - start, offset=place)
        return keys

    def lend(self, lender: int, borrower: int, documents: np.ndarray, texts: Folded) -> None:
        for kind, array in zip(("documents", "codes", "bounds"), (documents, *texts), strict=True):
            np.save(self.path(f"lent-{kind}.npy", lender, borrower), array)

    def borrowed(self, lender: int, borrower: int) -> tuple[np.ndarray, Folded]:
        """Documents, ascending, and their comparison forms."""
        kinds = ("documents", "codes", "bounds")
        documents, codes, bounds = (np.load(self.path(f"lent-{kind}.npy", lender, borrower)) for kind in kinds)
        return documents, Folded(codes, bounds)


def take_part(
    make_device: Callable[[], Device],
    share: Share,
    fuzzy: FuzzyConfig | None,
    evaluation: Path | None,
    exchange: Exchange,
    number: int,
) -> Part:
    """Scans a share, and leaves its digests and band keys for the others."""
    device = make_device()
    search = DeviceSearch(device)
    taken = take_in(search, device, share, fuzzy, evaluation)
    np.save(exchange.path("digests.npy", number), device.to_host(search.digests()))
    with open(exchange.path("keys", number), "wb") as file:
        for band in range(fuzzy.bands if fuzzy else 0):
            file.write(device.to_host(search.keys(band)).data)
    search.drop_prints()
    return Part(device, search, taken)


def taken_of(part: Part) -> Taken:
    return part.taken


def folded_of(part: Part, documents: np.ndarray) -> Folded:
    """The comparison forms of documents, counted from the first of the part."""
    return part.search.folded(documents)


def find_twins(part: Part, exchange: Exchange) -> np.ndarray:
    """As `Search.twins`, of all documents."""
    digests = [np.load(exchange.path("digests.npy", number)) for number in range(exchange.num_parts)]
    rank, active = (np.load(exchange.path(name)) for name in ("rank.npy", "active.npy"))
    return twins_of(part.device, part.device.xp.asarray(np.concatenate(digests)), rank, active)


def find_candidates(part: Part, exchange: Exchange, number: int, bands: tuple[BandJob, ...]) -> None:
    """Leaves the codes of all pairs that share a bucket of these bands."""
    device = part.device
    among = device.xp.asarray(np.load(bands[0].among)) if bands else device.xp.zeros(0, dtype=np.int64)
    codes = candidates(device, bands, among, lambda band: device.xp.asarray(exchange.keys(band)))
    np.save(exchange.path("codes.npy", number), device.to_host(codes))


def lend(part: Part, exchange: Exchange, number: int) -> None:
    """Leaves the texts of this part that other parts need to decide their pairs."""
    start, stop = exchange.starts[number : number + 2]
    for borrower in range(number):
        wanted = np.zeros(stop - start, dtype=bool)
        for codes in exchange.codes(borrower):
            seconds = (codes & 0xFFFFFFFF) - start
            wanted[seconds[(seconds >= 0) & (seconds < stop - start)]] = True
        documents = np.flatnonzero(wanted)
        exchange.lend(number, borrower, documents + start, part.search.folded(documents))


def decide(part: Part, exchange: Exchange, number: int, fuzzy: FuzzyConfig, edges_path: Path) -> int:
    """Writes EDGE rows of the pairs whose first document is of this part; how many pairs there were."""
    xp, (start, stop) = part.device.xp, exchange.starts[number : number + 2]
    codes = unique_codes(part.device, [xp.asarray(piece) for piece in exchange.codes(number)])
    borrowed = [exchange.borrowed(lender, number) for lender in range(number + 1, exchange.num_parts)]
    documents = np.concatenate([np.arange(start, stop), *(others for others, _ in borrowed)])
    lengths = np.concatenate([part.taken.lengths, *(np.diff(texts.bounds) for _, texts in borrowed)])
    texts = part.search.texts.followed_by([texts for _, texts in borrowed])
    with open(edges_path, "wb") as file:
        for edges in Judge(part.device, texts, lengths).decided(_numbered(xp, codes, xp.asarray(documents)), fuzzy):
            edges["first"], edges["second"] = documents[edges["first"]], documents[edges["second"]]
            file.write(edges.data)
    return len(codes)


def _numbered(xp: Any, codes: Any, documents: Any) -> Any:
    """The same pairs by the places of their documents in `documents`, which are ascending."""
    first, second = (xp.searchsorted(documents, side) for side in (codes >> 32, codes & 0xFFFFFFFF))
    return (first.astype(np.int64) << 32) | second.astype(np.int64)
