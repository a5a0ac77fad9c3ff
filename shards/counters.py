"""Counter-based randomness: the only source of random numbers in the project.

Enters a seed, a purpose word and counters; leaves a NumPy generator. The same arguments give the same numbers in every
process, at any time and in any order of calls, so restarting, reordering or resharding changes nothing.
"""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *counters: int | str) -> np.random.Generator:
    """A Philox generator keyed by `seed`, `purpose` and `counters` (integers or strings, e.g. epoch and record key).

    The integer 1 and the string "1" are different counters. Cheap enough for one call per sample.
    """
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence(int.from_bytes(_digest(seed, purpose, counters), "little")))
    )


def number(seed: int, purpose: str, *counters: int | str) -> int:
    """One uniform int64, for a key of further draws; several times cheaper than a generator."""
    return int.from_bytes(_digest(seed, purpose, counters)[:8], "little", signed=True)


def _digest(seed: int, purpose: str, counters: tuple[int | str, ...]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for counter in (int(seed), purpose, *counters):
        if isinstance(counter, str):
            data = counter.encode()
            digest.update(b"s%d:" % len(data) + data)
        else:
            digest.update(b"i%d;" % int(counter))
    return digest.digest()
