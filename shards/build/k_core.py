"""The k-core: the largest part of the interactions in which every user and every item has k of them.

Enter the codes of user and item of each interaction; leave who stays. A pure function on arrays: eight bytes an
interaction are all that cleaning must hold in memory, and one pass over them a peel.
"""

from typing import NamedTuple

import numpy as np

CHUNK = 1 << 23


class Core(NamedTuple):
    """users, items: bool by code, who stays. peels: rounds that removed something. left: interactions that stay."""

    users: np.ndarray
    items: np.ndarray
    peels: int
    left: int


def k_core(users_E: np.ndarray, items_E: np.ndarray, k: int, owned: bool = False) -> Core:
    """The core of a set of interactions.

    users_E, items_E: int32 codes from 0, one pair an interaction; repeats count. Users and items of fewer than `k` are
    removed together, round by round, to the fixpoint; the fixpoint does not depend on the order of removal. An
    interaction stays when both its ends do. owned: the arrays may be overwritten, which halves the memory.
    """
    if not owned:
        users_E, items_E = users_E.copy(), items_E.copy()
    # int32: counts of a hundred million buckets are looked at in every round, and half the bytes are half the time.
    counts = [np.bincount(codes_E, minlength=1).astype(np.int32) for codes_E in (users_E, items_E)]
    left, peels = len(users_E), 0
    while True:
        users_stay, items_stay = (count >= k for count in counts)
        end = 0
        for start in range(0, left, CHUNK):  # compacted in place, chunk by chunk
            users, items = users_E[start : min(start + CHUNK, left)], items_E[start : min(start + CHUNK, left)]
            stay = users_stay.take(users) & items_stay.take(items)
            number = int(stay.sum())
            if number < len(stay):
                for count, codes in zip(counts, (users, items), strict=True):
                    # Types that ufunc.at need not convert: seven times faster.
                    np.subtract.at(count, codes.compress(~stay).astype(np.intp), np.int32(1))
            users_E[end : end + number], items_E[end : end + number] = users.compress(stay), items.compress(stay)
            end += number
        if end == left:
            return Core(users_stay, items_stay, peels, left)
        left, peels = end, peels + 1
