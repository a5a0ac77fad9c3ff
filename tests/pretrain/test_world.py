"""Ranks: the collectives, and the helper that runs a test body on several of them."""

import pytest


def test_collectives_on_three_ranks(run_ranks):
    def body(world, base):
        world.barrier()
        return world.rank, world.size, world.is_main, world.sum(world.rank + base, 0.5), world.gather({"r": world.rank})

    gathered = [{"r": 0}, {"r": 1}, {"r": 2}]
    assert run_ranks(body, 3, 10) == [(rank, 3, rank == 0, [33.0, 1.5], gathered) for rank in range(3)]


def test_one_rank_needs_no_environment(run_ranks):
    def body(world):
        import torch

        assert torch.get_num_threads() == 1
        return world.sum(2.0), world.gather("x")

    assert run_ranks(body, 1) == [([2.0], ["x"])]


def test_a_failing_rank_is_shown_and_stops_the_others(run_ranks):
    def body(world):
        if world.rank == 1:
            raise RuntimeError("the second rank is ill")
        world.barrier()

    with pytest.raises(AssertionError, match=r"rank \d of 2 failed") as caught:
        run_ranks(body, 2)
    assert "the second rank is ill" in str(caught.value) or "rank 0" in str(caught.value)


def test_a_mistake_of_rank_0_is_one_that_all_ranks_know(run_ranks):
    def body(world):
        from pretrain.world import Agreed

        def ask():
            raise ValueError(f"rank {world.rank} has found nothing")

        try:
            world.main_says(ask)
        except Agreed as error:
            return str(error)

    assert run_ranks(body, 2) == ["rank 0 has found nothing"] * 2


def test_who_ends_work_of_its_own_early_waits_longer_than_a_collective_would(run_ranks, tmp_path):
    """No collective has to meet a limit: it is short only while rank 0 waits for a rank that it knows to be late."""

    def body(world, waits):
        from datetime import timedelta

        from patience import HANG, rest, until
        from torch.distributed import distributed_c10d

        with world.apart():
            if world.is_main:
                distributed_c10d._set_pg_timeout(timedelta(milliseconds=50))
                waits.touch()
            else:
                until(waits.exists)
                rest(1.0)
        distributed_c10d._set_pg_timeout(timedelta(seconds=HANG))
        return world.sum(1.0)

    assert run_ranks(body, 2, tmp_path / "rank 0 waits") == [[2.0], [2.0]]


def test_a_collective_waits_no_longer_than_its_limit(run_ranks):
    def body(world):
        from datetime import timedelta

        from patience import until
        from torch.distributed import distributed_c10d

        if world.is_main:
            distributed_c10d._set_pg_timeout(timedelta(milliseconds=50))
            world.sum(1.0)
        until(lambda: False)

    with pytest.raises(AssertionError, match="(?i)time[d ]*out"):
        run_ranks(body, 2)


def test_exchange_brings_every_part_to_its_rank_and_counts_bytes(run_ranks):
    def body(world):
        from pretrain.world import Traffic

        traffic = Traffic(world)
        large = "x" * (100_000 if world.rank == 1 else 0)
        found = traffic.exchange([(world.rank, other, large) for other in range(world.size)])
        again = traffic.exchange([[] for _ in range(world.size)])
        return [(a, b, len(c)) for a, b, c in found], again, traffic.sent

    for rank, (found, again, sent) in enumerate(run_ranks(body, 3)):
        assert found == [(0, rank, 0), (1, rank, 100_000), (2, rank, 0)] and again == [[], [], []]
        assert (sent > 200_000) == (rank == 1) and 0 < sent < 201_000
    assert run_ranks(body, 1) == [([(0, 0, 0)], [[]], 0)]
