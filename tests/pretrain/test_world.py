"""Ranks: the collectives, and the helper that runs a test body on several of them."""

import pytest
from patience import rest


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
        from pretrain.runtime.world import Agreed

        def ask():
            raise ValueError(f"rank {world.rank} has found nothing")

        try:
            world.main_says(ask)
        except Agreed as error:
            return str(error)

    assert run_ranks(body, 2) == ["rank 0 has found nothing"] * 2


def test_no_wait_for_work_meets_the_time_limit_of_collectives(run_ranks, tmp_path):
    """One rank works alone for longer than a collective may take; who waits at a gather, a barrier or for what rank 0
    says waits on, and is told of each sign of life. Collectives have a tiny limit only until all ranks have met."""

    def body(world, waits, way):
        from datetime import timedelta

        from patience import HANG, until
        from torch.distributed import distributed_c10d

        import pretrain.runtime.world
        from pretrain.runtime.watchdog import beat, heard_by

        pretrain.runtime.world.SIGN_PAUSE = 0.01
        meet, heard = pretrain.runtime.world.World._meet, []

        def met(self):
            waits.with_name(f"{waits.name}-{self.rank}").touch()
            meet(self)
            distributed_c10d._set_pg_timeout(timedelta(seconds=HANG))

        def slow():
            other = waits.with_name(f"{waits.name}-{1 - world.rank}")
            until(other.exists)
            for _ in range(5):
                rest(0.2)
                beat()
            return "done"

        def listen(place, arrived=False, waits=False):
            heard.append(waits)

        pretrain.runtime.world.World._meet = met
        distributed_c10d._set_pg_timeout(timedelta(milliseconds=50))
        ways = {
            "gather": lambda: world.gather(slow() if world.rank else "waited"),
            "main": lambda: world.main_says(slow),
            "barrier": lambda: (slow() if world.rank else None, world.barrier())[1],
        }
        with heard_by(listen):
            return ways[way](), sum(heard)

    for way, answer in {"gather": ["waited", "done"], "main": "done", "barrier": None}.items():
        results = run_ranks(body, 2, tmp_path / way, way)
        assert [value for value, _ in results] == [answer] * 2
        assert max(heard for _, heard in results) >= 2, "a waiting rank lives as long as the other one does"


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


def test_ranks_that_give_no_sign_of_life_are_not_waited_for(run_ranks, tmp_path):
    """A rank that is frozen ends the wait of the others, where no watchdog does."""

    def body(world, gave_up):
        from patience import until

        import pretrain.runtime.world

        pretrain.runtime.world.SILENCE = 0.5
        if world.rank:
            until(gave_up.exists)
            return None
        try:
            world.barrier()
        except RuntimeError as error:
            gave_up.touch()
            return str(error)

    assert "gave no sign of life" in run_ranks(body, 2, tmp_path / "gave up")[0]


def test_exchange_brings_every_part_to_its_rank_and_counts_bytes(run_ranks):
    def body(world):
        from pretrain.runtime.world import Traffic

        traffic = Traffic(world)
        large = "x" * (100_000 if world.rank == 1 else 0)
        found = traffic.exchange([(world.rank, other, large) for other in range(world.size)])
        again = traffic.exchange([[] for _ in range(world.size)])
        return [(a, b, len(c)) for a, b, c in found], again, traffic.sent

    for rank, (found, again, sent) in enumerate(run_ranks(body, 3)):
        assert found == [(0, rank, 0), (1, rank, 100_000), (2, rank, 0)] and again == [[], [], []]
        assert (sent > 200_000) == (rank == 1) and 0 < sent < 201_000
    assert run_ranks(body, 1) == [([(0, 0, 0)], [[]], 0)]
