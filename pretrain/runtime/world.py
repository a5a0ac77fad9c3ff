"""The ranks of one job and the few collectives the project needs.

Enters: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT from the environment, set by whoever started the
process (our local spawner, submitit, torchrun). Leaves: a World. Must hold: threads are pinned, because two ranks that
fight for two cores are slower than one, and because results are bit-equal only at a fixed number of threads.
"""

from __future__ import annotations

import gc
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist

from pretrain.runtime.watchdog import beat, heard_by

T = TypeVar("T")
SIGNS = "signs"
SIGN_PAUSE, LONGEST_PAUSE, SILENCE = 1.0, 0.25, 12 * 3600.0
"""Seconds between two signs of life for other ranks, between two looks of a rank that waits, and after which nobody
lives any more for whom it waits."""


class Agreed(ValueError):
    """A mistake that every rank has heard of and raises: one of them has to say it."""


@dataclass(frozen=True)
class World:
    """One rank's view of the job."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Sum each value over all ranks, in double precision."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()

    def max(self, value: int) -> int:
        """The largest value of any rank."""
        if self.size == 1:
            return value
        largest = torch.tensor(value, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in rank order, on every rank, once all have come to it."""
        if self.size == 1:
            return [value]
        self._meet()
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def main_says(self, ask: Callable[[], T]) -> T:
        """What `ask` returns on rank 0, on every rank; its ValueError too, as Agreed. Collective."""
        answer: tuple[Any, str | None] = None, None
        if self.is_main:
            try:
                answer = ask(), None
            except ValueError as error:  # every rank must hear of it, or the others wait for ever
                answer = None, str(error)
        value, problem = cast(tuple[T, str | None], self.gather(answer)[0])
        if problem is not None:
            raise Agreed(problem)
        return value

    def blocks(self, count: int, block: int) -> np.ndarray:
        """This rank's share of `range(count)`: whole blocks of consecutive numbers, block b on rank b % size.

        What a rank computes block by block is then the same for every number of ranks, to the bit.
        """
        numbers = np.arange(count)
        return numbers[(numbers // block) % self.size == self.rank]

    def barrier(self) -> None:
        """Wait for all ranks, for as long as they work."""
        if self.size > 1:
            self._meet()
            dist.barrier()

    def _meet(self) -> None:
        """Wait in the store until all ranks are here: the time limit of the collective that follows is one of the
        network, and no work has to be done in it. Raises RuntimeError where no rank gives a sign of life for `SILENCE`
        seconds."""
        beat(arrived=True)
        store = _store()
        number = store.add(f"meetings/{self.rank}", 1)
        if store.add("arrivals", 1) == number * self.size:
            store.delete_key(f"met/{number - 1}")  # who is here has read it
            store.set(f"met/{number}", "")
            return
        began = heard_at = time.monotonic()
        signs = store.add(SIGNS, 0)
        while not store.check([f"met/{number}"]):
            now = time.monotonic()
            time.sleep(min(max((now - began) / 20, 0.0005), LONGEST_PAUSE))
            if (heard := store.add(SIGNS, 0)) != signs:
                signs, heard_at = heard, now
                beat(waits=True)
            elif now - heard_at > SILENCE:
                raise RuntimeError(f"rank {self.rank} waits for ranks that gave no sign of life for {SILENCE:.0f} s")


def _store() -> Any:
    """Where the ranks have met; a prefix keeps our keys apart from torch's."""
    torch_store = dist.distributed_c10d._get_default_store()
    return dist.PrefixStore("idgenrec", torch_store)  # pyright: ignore[reportPrivateImportUsage]


class Signs:
    """Tells the ranks that wait, now and then, that this one works."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, place: str | None, arrived: bool = False, waits: bool = False) -> None:
        now = time.monotonic()
        if not waits and now - self._told >= SIGN_PAUSE:
            self._told = now
            with suppress(dist.DistError):  # rank 0 has ended, with the store: nobody waits any more
                _store().add(SIGNS, 1)


class Traffic:
    """All-to-all of Python values between the ranks of a world, with the bytes that this rank has sent."""

    def __init__(self, world: World) -> None:
        self.world, self.sent = world, 0

    def exchange(self, parts: list[T]) -> list[T]:
        """Send `parts[r]` to rank r; returns what every rank sent here, in rank order. Collective."""
        beat()
        world = self.world
        assert len(parts) == world.size, "one part for every rank"
        if world.size == 1:
            return parts
        blobs = [pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL) for part in parts]
        sizes = torch.tensor([len(blob) for blob in blobs], device=world.device)
        all_sizes = [torch.empty_like(sizes) for _ in range(world.size)]
        dist.all_gather(all_sizes, sizes)
        others = [rank for rank in range(world.size) if rank != world.rank]
        outgoing = {r: torch.frombuffer(bytearray(blobs[r]), dtype=torch.uint8).to(world.device) for r in others}
        incoming = {
            r: torch.empty(int(all_sizes[r][world.rank]), dtype=torch.uint8, device=world.device) for r in others
        }
        jobs = [dist.P2POp(dist.isend, outgoing[r], r) for r in others]
        jobs += [dist.P2POp(dist.irecv, incoming[r], r) for r in others]
        for work in dist.batch_isend_irecv(jobs):
            work.wait()
        self.sent += sum(len(blobs[r]) for r in others)
        return [
            parts[r] if r == world.rank else pickle.loads(incoming[r].cpu().numpy().tobytes())
            for r in range(world.size)
        ]


@contextmanager
def joined_world(threads: int = 1) -> Iterator[World]:
    """Join the job that the environment describes (alone when it describes none), and leave it at the end.

    Raises ValueError where the ranks cannot meet.
    """
    # The imported libraries are half a million objects that stay; collections need not look through them.
    gc.freeze()
    torch.set_num_threads(threads)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "127.0.0.1")):
        os.environ.setdefault(name, value)
    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size == 1 and "MASTER_PORT" not in os.environ:
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=0, world_size=1)
    else:
        try:
            dist.init_process_group("nccl" if cuda else "gloo")
        except dist.DistNetworkError as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT')}"
            raise ValueError(
                f"the ranks cannot meet at {where}: {str(error).splitlines()[0]}; set MASTER_PORT to a free port, and "
                "MASTER_ADDR to the host of rank 0"
            ) from error
    try:
        with heard_by(Signs()) if size > 1 else nullcontext():
            yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
        gc.unfreeze()  # at its end a library looks for what it has left, and would write that all over the console
