"""What training leaves at one ZeRO stage and number of ranks is taken up at any other."""

import pytest

from pretrain.config.run import EngineConfig

RANKS, STAGES = (1, 2, 4), (0, 1, 2, 3)
BEFORE, AFTER = 3, 3


def objective_and_batches(world, config, first, count):
    """A model of odd sizes (nothing divides over ranks) and this rank's micro-batches of `count` steps"""
    import numpy as np
    import torch
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

    from pretrain.data.batches import text_batch
    from pretrain.training.objectives import RecommenderObjective

    shape = T5Config(
        vocab_size=37, d_model=10, d_kv=5, d_ff=13, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )  # fmt: skip
    shape.decoder_start_token_id = 0
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = T5ForConditionalGeneration(shape)
    steps = []
    for step in range(first, first + count):
        draw = np.random.default_rng(step)
        rows = [draw.integers(2, 37, draw.integers(3, 9)).tolist() for _ in range(8)]
        mine = range(world.rank, 8, world.size)
        parts = [mine[i :: config.micro_batches(world.size)] for i in range(config.micro_batches(world.size))]
        steps.append([text_batch([rows[i] for i in part], [rows[i][:3] for i in part], 1) for part in parts])
    return RecommenderObjective(model).train(), steps


def run_and_save(world, folder, stages, precision):
    """Train at each stage, write the state, go on. Returns {stage: losses of all steps}."""
    from pathlib import Path

    import torch
    from safetensors.torch import save_file

    from pretrain.config.run import EngineConfig, PretrainConfig
    from pretrain.training import optimizer_state
    from pretrain.training.engine import Engine

    losses = {}
    for stage in stages:
        options = EngineConfig(zero_stage=stage, precision=precision)
        config = PretrainConfig("s", "o", batch_size=8, micro_batch_size=2, engine=options)
        objective, steps = objective_and_batches(world, config, 0, BEFORE + AFTER)
        engine = Engine(objective, config, world)
        losses[stage] = [engine.step(batches, 1e-2).loss for batches in steps[:BEFORE]]
        state = {name: {key: value.clone() for key, value in tensors.items()} for name, tensors in engine.state()}
        assert all(set(tensors) == {"weight", "exp_avg", "exp_avg_sq"} for tensors in state.values())
        assert all(value.dtype == torch.float32 for tensors in state.values() for value in tensors.values())
        path = Path(folder) / f"{world.size}-{stage}"
        share = [name for index, name in enumerate(state) if index % world.size == world.rank]
        keys = ("exp_avg", "exp_avg_sq")
        optimizer_state.write(
            path, world.rank, world.size, {(name, key): state[name][key] for name in share for key in keys}
        )
        if world.is_main:
            save_file({name: tensors["weight"].contiguous() for name, tensors in state.items()}, path / "weights.st")
        losses[stage] += [engine.step(batches, 1e-2).loss for batches in steps[BEFORE:]]
        engine.close()
    world.barrier()
    return losses


def load_and_go_on(world, folder, pairs, precision):
    """{(source, stage): losses of the later steps}; what was taken up is what was saved, to the bit."""
    from pathlib import Path

    import torch
    from safetensors.torch import load_file

    from pretrain.config.run import EngineConfig, PretrainConfig
    from pretrain.data.batches import text_batch
    from pretrain.training.engine import Engine
    from pretrain.training.optimizer_state import OptimizerState

    losses = {}
    for source, stage in pairs:
        weights, saved = load_file(Path(folder) / source / "weights.st"), OptimizerState(Path(folder) / source)
        options = EngineConfig(zero_stage=stage, precision=precision)
        config = PretrainConfig("s", "o", batch_size=8, micro_batch_size=2, engine=options)
        objective, steps = objective_and_batches(world, config, BEFORE, AFTER)
        parameters = dict(objective.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                parameters[name].copy_(weight)
        engine = Engine(objective, config, world)
        engine.load(saved.tensor, BEFORE, text_batch([[]], [[]], 1))
        for name, tensors in engine.state():
            assert torch.equal(tensors["weight"], weights[name]), (source, stage, name)
            for key in ("exp_avg", "exp_avg_sq"):
                assert torch.equal(tensors[key], saved.tensor(name, key)), (source, stage, name, key)
        losses[source, stage] = [engine.step(batches, 1e-2).loss for batches in steps]
        engine.close()
    return losses


@pytest.fixture(scope="module")
def saved(run_ranks, tmp_path_factory):
    """Folder of the twelve states, and the losses of the runs that were not interrupted."""
    folder = tmp_path_factory.mktemp("states")
    return str(folder), {ranks: run_ranks(run_and_save, ranks, str(folder), STAGES, "fp32") for ranks in RANKS}


def test_ranks_and_stages_change_no_loss(saved):
    _, losses = saved
    reference = losses[1][0][0]
    assert len(set(reference)) == BEFORE + AFTER
    for ranks in RANKS:
        for rank in losses[ranks]:
            for stage in STAGES:
                assert rank[stage] == pytest.approx(reference, rel=0, abs=1e-5), (ranks, stage)


def taken_up(ranks):
    """Who takes what up on so many ranks: every state once, each number of ranks at another stage."""
    return [
        (f"{size}-{before}", (before + RANKS.index(size) + RANKS.index(ranks)) % 4)
        for size in RANKS
        for before in STAGES
    ]


def test_any_stage_and_number_of_ranks_follows_any():
    moves = [(*source.split("-"), ranks, stage) for ranks in RANKS for source, stage in taken_up(ranks)]
    assert len({(size, ranks) for size, _, ranks, _ in moves}) == len(RANKS) ** 2
    assert len({(before, stage) for _, before, _, stage in moves}) == len(STAGES) ** 2
    assert len({(size, before, ranks) for size, before, ranks, _ in moves}) == len(moves) == 36


@pytest.mark.parametrize("ranks", RANKS)
def test_every_state_is_taken_up(saved, run_ranks, ranks):
    folder, losses = saved
    for found in run_ranks(load_and_go_on, ranks, folder, taken_up(ranks), "fp32"):
        assert len(found) == len(RANKS) * len(STAGES)
        for (source, stage), later in found.items():
            assert later == pytest.approx(losses[1][0][0][BEFORE:], rel=0, abs=1e-5), (source, stage)


def test_bf16_keeps_float32_masters(run_ranks, tmp_path):
    """Where rounds and ranks are the same the state taken up goes on to the bit; masters hold more than bf16 can."""
    stages = (1, 2, 3)
    [whole] = run_ranks(run_and_save, 1, str(tmp_path), stages, "bf16")
    [later] = run_ranks(load_and_go_on, 1, str(tmp_path), [(f"1-{stage}", stage) for stage in stages], "bf16")
    for stage in stages:
        assert later[f"1-{stage}", stage] == whole[stage][BEFORE:]
        assert whole[stage] == pytest.approx(whole[1], rel=0.02), "stages differ by roundings of bf16 only"


def offloaded(world):
    from pretrain.config.run import EngineConfig, PretrainConfig
    from pretrain.training.engine import Engine

    losses = {}
    for stage in (1, 2, 3):
        for offload in (False, True):
            options = EngineConfig(zero_stage=stage, offload=offload)
            config = PretrainConfig("s", "o", batch_size=8, micro_batch_size=2, engine=options)
            objective, steps = objective_and_batches(world, config, 0, 4)
            engine = Engine(objective, config, world)
            losses[stage, offload] = [engine.step(batches, 1e-2).loss for batches in steps]
            engine.close()
    return losses


def test_offload_changes_no_loss(run_ranks):
    for losses in run_ranks(offloaded, 2):
        for stage in (1, 2, 3):
            assert losses[stage, True] == pytest.approx(losses[stage, False], rel=0, abs=1e-5)


def refused_steps(world):
    """A step that is not accepted: weights before and after, at each stage; then a good one."""
    from pretrain.config.run import EngineConfig, PretrainConfig
    from pretrain.training.engine import Engine

    found = {}
    for stage in STAGES:
        options = EngineConfig(zero_stage=stage)  # type: ignore[arg-type]
        config = PretrainConfig("s", "o", batch_size=8, micro_batch_size=2, engine=options)
        objective, steps = objective_and_batches(world, config, 0, 3)
        engine = Engine(objective, config, world)
        weights = []
        for batches, good in zip(steps, (True, False, True), strict=True):
            result = engine.step(batches, 1e-2, lambda loss, good=good: good and loss > 0)
            assert result.taken == good
            weights.append({name: weight.clone() for name, weight in engine.weights()})
        found[stage] = weights
        engine.close()
    return found


def test_a_step_that_is_not_accepted_changes_no_weight(run_ranks):
    for found in run_ranks(refused_steps, 2):
        for stage in STAGES:
            first, second, third = found[stage]
            assert all(bool((first[name] == second[name]).all()) for name in first), stage
            assert any(bool((second[name] != third[name]).any()) for name in first), stage


def test_what_deepspeed_cannot_do_is_refused():
    with pytest.raises(ValueError, match="offload needs zero_stage 1, 2 or 3"):
        EngineConfig(zero_stage=0, offload=True)
    with pytest.raises(ValueError, match="precision bf16 needs zero_stage 1, 2 or 3"):
        EngineConfig(zero_stage=0, precision="bf16")
