"""Named runs as functions that return configurations.

Enters: folders and the few values a person changes. Leaves: complete, frozen configurations. Must hold: nothing is
read or
written here.
"""

from __future__ import annotations

from pretrain.config import ModelConfig, PretrainConfig, ScheduleConfig

DEMO_SHAPE = ModelConfig(d_model=64, d_ff=128, num_layers=1, num_heads=4)


def demo(shards: str, out: str, seed: int) -> PretrainConfig:
    """The demo: two tiny T5s from scratch, one full alternation round on the generated marketplace."""
    return PretrainConfig(
        shards=shards,
        out=out,
        recommender=DEMO_SHAPE,
        generator=DEMO_SHAPE,
        schedule=ScheduleConfig(
            teaching_epochs=36.0, warmup_epochs=1.75, rounds=1, generator_epochs=0.1, recommender_epochs=1.5
        ),
        batch_size=32,
        micro_batch_size=16,
        recommender_lr=4e-3,
        generator_lr=1e-4,
        teaching_lr=3e-3,
        seed=seed,
    )
