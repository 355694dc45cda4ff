"""Which clips are the same recording, however loud and however it was encoded.

A fingerprint is a row of 32 bits for every 64 ms: whether the energy falls from one band to the next more
than it did a moment ago, after Haitsma and Kalker, "A highly robust audio fingerprinting system", ISMIR 2002.
A gain changes no bit; another encoding, or a few milliseconds cut off in front, change some.

Two fingerprints are compared where they share a row, at the shift that this row implies: all rows are
sorted, and each is held against the next few equal ones, so that the work grows as n log n. What they share
of their bits over the whole overlap decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abaw_emi.audio.decode import Waveform
from abaw_emi.core.constants import SAMPLE_RATE

Fingerprint = npt.NDArray[np.uint32]

WINDOW = 1024
"""Samples of a spectrum; half of it from one to the next."""

SMOOTHED = 8
"""Spectra of which a row is the mean: 0.4 s, so long that it hardly matters where they begin."""

LAG = 6
"""Spectra between the two moments that a row compares: 128 ms."""

BANDS = 33
LOWEST_HZ, HIGHEST_HZ = 200.0, 3_800.0
"""What every encoder keeps, telephones' too."""

MOST_SECONDS = 30.0
"""A fingerprint covers the beginning only: a model reads 12 s of it."""

FLAT = 1e-3
"""A row says nothing (0) where the bands change by less than this share of their energy: a held tone."""

QUIET = 1e-6
"""A row says nothing where its energy is less than this share of the print's loudest."""

FEWEST_ROWS = 16
"""Rows that two fingerprints must share to be compared: 0.8 s."""

SHARED = 0.5
"""Part of the shorter print that must lie in the overlap."""

NEIGHBOURS = 4
"""Equal rows that each row is held against."""

MOST_DIFFERENT = 0.2
"""Share of different bits up to which two are of one recording; those of others differ in half."""

_BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


@dataclass(frozen=True, slots=True)
class Match:
    """Two fingerprints of one recording: their names, in order, and the share of bits that differ."""

    first: str
    second: str
    different: float


def take_fingerprint(waveform: Waveform) -> Fingerprint:
    """The print (R,) of a waveform (T,) at `constants.SAMPLE_RATE`; no row for less than 0.5 s."""
    waveform = waveform[: round(MOST_SECONDS * SAMPLE_RATE)]
    count = (waveform.size - WINDOW) // (WINDOW // 2) + 1
    rows = count - SMOOTHED + 1 - LAG
    if rows < 1:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[:: WINDOW // 2]
    spectra = np.fft.rfft(frames * _HANN)
    power = spectra.real**2 + spectra.imag**2
    sums = np.add.reduceat(power[:, : _EDGES[-1]], _EDGES[:-1], axis=1).astype(np.float64)
    total = np.vstack([np.zeros((1, BANDS)), np.cumsum(sums, axis=0)])
    energy = total[SMOOTHED:] - total[:-SMOOTHED]  # (R + LAG, BANDS)
    change = energy[LAG:] - energy[:-LAG]
    bits = np.diff(change, axis=1) < 0  # (R, 32)
    loud = energy[LAG:].sum(axis=1)
    telling = (np.abs(change).sum(axis=1) > FLAT * loud) & (loud > QUIET * max(loud.max(), 1e-12))
    packed = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return np.where(telling, packed, 0).astype(np.uint32)


def find_matches(fingerprints: Mapping[str, Fingerprint]) -> list[Match]:
    """Every pair of fingerprints that is found to be of one recording, in the order of the names.

    Of many that are all alike each is matched with some of the others, not with all.
    """
    names = sorted(fingerprints)
    kept = [fingerprints[name] for name in names]
    return [
        Match(names[first], names[second], different)
        for first, second, different in _compare(kept, _find_candidates(kept))
    ]


def _find_candidates(fingerprints: list[Fingerprint]) -> npt.NDArray[np.int64]:
    """(C, 3): two fingerprints, the first before the second, and the rows by which the second is ahead."""
    lengths = [len(rows) for rows in fingerprints]
    owner = np.repeat(np.arange(len(fingerprints)), lengths)
    place = (
        np.concatenate([np.arange(length) for length in lengths]) if fingerprints else np.zeros(0, np.int64)
    )
    row = np.concatenate(fingerprints) if fingerprints else np.zeros(0, np.uint32)
    telling = row != 0
    row, owner, place = row[telling], owner[telling], place[telling]
    order = np.lexsort((place, owner, row))
    row, owner, place = row[order], owner[order], place[order]
    found = []
    for ahead in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero((row[ahead:] == row[:-ahead]) & (owner[ahead:] != owner[:-ahead]))
        found.append(np.stack([owner[same], owner[same + ahead], place[same + ahead] - place[same]], axis=1))
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 3), np.int64)


def _compare(
    fingerprints: list[Fingerprint], candidates: npt.NDArray[np.int64]
) -> list[tuple[int, int, float]]:
    best: dict[tuple[int, int], float] = {}
    for first, second, ahead in candidates.tolist():
        a, b = fingerprints[first], fingerprints[second]
        shorter = min(len(a), len(b))
        if ahead >= 0:
            b = b[ahead:]
        else:
            a = a[-ahead:]
        overlap = min(len(a), len(b))
        if overlap < max(FEWEST_ROWS, SHARED * shorter):
            continue
        a, b = a[:overlap], b[:overlap]
        telling = (a != 0) & (b != 0)
        count = int(telling.sum())
        if count < FEWEST_ROWS:
            continue
        wrong = _BITS[(a ^ b)[telling].view(np.uint8)].sum(dtype=np.int64)
        different = float(wrong) / (32 * count)
        if different <= MOST_DIFFERENT:
            best[first, second] = min(different, best.get((first, second), 1.0))
    return [(first, second, different) for (first, second), different in sorted(best.items())]


_HANN = np.hanning(WINDOW).astype(np.float32)
_EDGES = np.round(np.geomspace(LOWEST_HZ, HIGHEST_HZ, BANDS + 1) * WINDOW / SAMPLE_RATE).astype(np.int64)
