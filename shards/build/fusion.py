"""The Fusion: how many users each category gives.

Enter the users that each category has; leaves the users that it gives. A pure function: nothing is ever repeated, so a
category never gives more than it has, and what it cannot give goes to the others.
"""

from collections.abc import Mapping


def allocate(
    available: Mapping[str, int], max_users: int | None, total_users: int | None, exponent: float
) -> dict[str, int]:
    """Users of each category, in the order of `available`.

    max_users: cap of a category (30,000 in the paper, section 3.1). total_users: cap of all together, shared in
    proportion to (capped size) ** exponent: 1 is proportional, 0 uniform. Rounded down, the rest goes to the largest
    fractions. ValueError when the total leaves a category without a user.
    """
    caps = {name: min(users, max_users or users) for name, users in available.items()}
    if total_users is None or total_users >= sum(caps.values()):
        return caps
    given: dict[str, int] = {}
    left = total_users
    open_names = list(caps)
    while True:  # categories that have less than their share give all, and the others share what is left
        weights = {name: caps[name] ** exponent for name in open_names}
        scale = left / sum(weights.values())
        full = [name for name in open_names if weights[name] * scale >= caps[name]]
        if not full:
            break
        for name in full:
            given[name] = caps[name]
            left -= caps[name]
        open_names = [name for name in open_names if name not in given]
    shares = {name: weights[name] * scale for name in open_names}
    given |= {name: int(share) for name, share in shares.items()}
    rest = total_users - sum(given.values())
    for name in sorted(open_names, key=lambda name: (-(shares[name] % 1), name))[:rest]:
        given[name] += 1
    empty = [name for name in caps if not given[name]]
    if empty:
        raise ValueError(f"total_users {total_users} leaves no user for {', '.join(empty)}; give more")
    return {name: given[name] for name in caps}
