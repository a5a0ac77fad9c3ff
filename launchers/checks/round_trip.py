"""`python -m launchers.checks.round_trip FOLDER`: one rank of a trial of the network and of the shared folder.

Enters: the environment of a rank, as for `launchers.jobs.rank`. Leaves: from rank 0 one JSON line: the backend, seconds
of a sum over all ranks, and the ranks that do not see what rank 0 has written to FOLDER. Must hold: the file
is removed.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path

ROUNDS, NUMBERS = 5, 1 << 18


def main(folder: Path) -> None:
    """This rank's share of the trial."""
    import torch
    import torch.distributed as dist

    from pretrain.runtime.world import joined_world

    with joined_world() as world:
        values = torch.ones(NUMBERS, device=world.device)
        dist.all_reduce(values)
        assert float(values[0]) == world.size, "a sum over the ranks is wrong"
        started = time.perf_counter()
        for _ in range(ROUNDS):
            dist.all_reduce(values)
        world.sum(float(values[0]))  # waits for the device
        seconds = (time.perf_counter() - started) / ROUNDS
        name = world.gather(f".doctor-{uuid.uuid4().hex}")[0]
        if world.is_main:
            (folder / name).write_text(name)
        world.barrier()
        sees = world.gather((folder / name).is_file())
        if world.is_main:
            (folder / name).unlink()
            blind = [rank for rank, seen in enumerate(sees) if not seen]
            print(json.dumps({"backend": dist.get_backend(), "seconds": seconds, "blind": blind}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
