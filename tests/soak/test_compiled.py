"""A step whose model inductor has compiled learns what a plain step learns. The compiler takes minutes of a core."""

import numpy as np
from test_engine import gradient_error, learn  # noqa: F401  (learn is a fixture)

from pretrain.config.run import EngineConfig


def test_inductors_models_learn_the_same(learn):  # noqa: F811
    (plain,) = learn(1, steps=2)
    (compiled,) = learn(1, steps=2, engine=EngineConfig(compile=True))
    np.testing.assert_allclose(plain["losses"], compiled["losses"], rtol=0, atol=1e-5)
    assert gradient_error(plain["gradients"], compiled["gradients"]) < 1e-5
