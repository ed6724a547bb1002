# SPDX-License-Identifier: Apache-2.0
"""What every function of losses promises, from one call of each.

The same value with and without jit, in float32 and in float64; bfloat16 taken
as the float32 it stands for; finite gradients; vmap.
"""

import functools
import inspect

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

import losses

RNG = np.random.default_rng(0)
B, C, D = 3, 5, 4


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def uniform(*shape):
  return RNG.uniform(0.1, 0.9, shape).astype(np.float32)


NLL, NLL2, EMD = (3 * uniform(B) for _ in range(3))
LOGITS, LOGITS2 = normal(B, C), normal(B, C)
SOFT = uniform(B, C)
TARGETS = SOFT / SOFT.sum(1, keepdims=True)
LABELS = RNG.integers(0, C, B)
TABLE, HIDDEN, HEAD = normal(C, D), normal(B, D), normal(D, C)
INDICES = np.array([[0, -1], [2, 1], [3, 3]])
ITEMS = normal(B, 2, C)
ITEM_LABELS = np.float32(np.eye(C))[RNG.integers(0, C, (B, 2))]
QUERIES, KEYS = normal(B, 2, 3, D), normal(B, 2, 3, D)  # [B, heads, n, d]
SHARED_QUERIES, SHARED_KEYS = normal(B, 3, D), normal(B, 3, D)
STARTS, ENDS = normal(B, 2, 3), normal(B, 2, 3)
SCORES = normal(2, 3, 3)
SPANS = np.triu(np.ones((3, 3), bool))


TASKS = normal(3, 7)
TASK_GRAM = TASKS @ TASKS.T


def three_losses(w):
  return jnp.stack([jnp.sin(w).sum(), (w**2).sum(), jnp.cos(2 * w).sum()])


def shared(w):
  step = losses.shared_value_and_direction(
    lambda w, x: w * x,
    [lambda v, h, x: v * h.sum(), lambda v, h, x: -v * jnp.sin(h).sum()],
    losses.primary_secondary_weights,
  )
  values, (direction, _), _ = step(w, [1.0, 2.0], HIDDEN[0])
  return values, direction


def calibration(f):
  return lambda confidences, correct: f(
    losses.reliability_bins(confidences, correct)
  )


def transformed(optimizer):
  return lambda grads: optimizer.update(grads, optimizer.init(grads))[0]


def sine(x):
  return jnp.sum(jnp.sin(x), axis=-1)


def pair(x):
  return jnp.stack([jnp.sin(x).sum(-1), jnp.cos(x).prod(-1)], axis=-1)


# name: (function of arrays, those arrays). The first is differentiated; None in
# place of the function is the function of that name.
CASES = {
  "emo_mode1": (None, (NLL, EMD)),
  "emo_mode2": (None, (NLL, EMD)),
  "emo_terms": (None, (LOGITS, LABELS, TABLE)),
  "expected_accuracy_loss": (None, (LOGITS, LABELS)),
  "focal": (None, (NLL,)),
  "generalized_cross_entropy": (
    functools.partial(losses.generalized_cross_entropy, q=0.7),
    (NLL,),
  ),
  "gumbel_expected_accuracy_loss": (None, (LOGITS, LABELS)),
  "label_smoothing": (
    functools.partial(losses.label_smoothing, smoothing=0.1),
    (NLL, NLL2),
  ),
  "linear_emo_terms": (None, (HIDDEN, HEAD, LABELS)),
  "linear_nll": (None, (HIDDEN, HEAD, LABELS)),
  "linear_nll_terms": (None, (HIDDEN, HEAD, LABELS)),
  "logit_adjustment": (None, (SOFT[0],)),
  "many_way_loss1": (None, (ITEMS, ITEM_LABELS)),
  "many_way_loss3": (None, (ITEMS, ITEM_LABELS)),
  "mean_multilabel_symmetric_kl": (None, (LOGITS, LOGITS2)),
  "multilabel_symmetric_kl": (None, (LOGITS, LOGITS2)),
  "r_drop": (functools.partial(losses.r_drop, alpha=1.0), (NLL, NLL2, EMD)),
  "reliability_bins": (None, (SOFT, SOFT)),
  "smooth_accuracy_loss": (None, (NLL,)),
  "soft_emo_terms": (None, (LOGITS, TARGETS, TABLE)),
  "soft_f1_macro": (None, (SOFT, TARGETS)),
  "soft_f1_micro": (None, (SOFT, TARGETS)),
  "softmax_kl": (None, (LOGITS, LOGITS2)),
  "sparse_zlpr": (None, (LOGITS, INDICES)),
  "stabilized_emd": (None, (NLL, EMD)),
  "standardize_logits": (None, (LOGITS,)),
  "symmetric_kl": (None, (LOGITS, LOGITS2)),
  "tailr": (
    functools.partial(losses.tailr, gamma=0.1, min_weight=0.3),
    (NLL,),
  ),
  "uniform_nll": (None, (LOGITS,)),
  "zlpr": (None, (LOGITS, SOFT)),
  "zlpr_excess": (None, (LOGITS, SOFT)),
  "zlpr_minimum": (None, (SOFT,)),
  "zlpr_probabilities": (None, (LOGITS,)),
  "global_pointer_scores": (None, (QUERIES, KEYS)),
  "efficient_global_pointer_scores": (
    None,
    (SHARED_QUERIES, SHARED_KEYS, STARTS, ENDS),
  ),
  "rotary_embedding": (None, (QUERIES,)),
  "span_mask": (None, (np.ones((B, 3), bool),)),
  "decode_spans": (
    lambda scores: losses.decode_spans(scores, where=SPANS, max_spans=4),
    (SCORES,),
  ),
  "expected_calibration_error": (
    calibration(losses.expected_calibration_error),
    (SOFT, TARGETS),
  ),
  "maximum_calibration_error": (
    calibration(losses.maximum_calibration_error),
    (SOFT, TARGETS),
  ),
  "overconfidence": (calibration(losses.overconfidence), (SOFT, TARGETS)),
  "fgm_perturbation": (
    lambda x: losses.fgm_perturbation(sine, x),
    (HIDDEN,),
  ),
  "virtual_adversarial_loss": (
    lambda x: losses.virtual_adversarial_loss(pair, x, jax.random.key(0)),
    (HIDDEN,),
  ),
  "virtual_adversarial_perturbation": (
    lambda x: losses.virtual_adversarial_perturbation(
      pair, x, jax.random.key(0)
    ),
    (HIDDEN,),
  ),
  "initial_cross_entropy": (
    lambda scale: losses.initial_cross_entropy(7) * scale,
    (NLL,),
  ),
  "initial_squared_error": (None, (HIDDEN,)),
  "prior_cross_entropy": (None, (SOFT,)),
  "prior_squared_error": (None, (HIDDEN,)),
  "inverse_loss_weights": (None, (NLL,)),
  "real_time_weighting": (None, (NLL,)),
  "generalized_mean": (
    functools.partial(losses.generalized_mean, gamma=0.5),
    (NLL,),
  ),
  "inverse_norm_weights": (None, (TASK_GRAM,)),
  "min_norm_weights": (None, (TASK_GRAM,)),
  "primary_secondary_weights": (None, (TASK_GRAM,)),
  "upgrad_weights": (None, (TASK_GRAM,)),
  "pcgrad_weights": (
    lambda gram: losses.pcgrad_weights(gram, jax.random.key(0)),
    (TASK_GRAM,),
  ),
  "gradient_cosines": (None, (TASK_GRAM,)),
  "gram_matrix": (None, (TASKS,)),
  "combine": (None, (TASKS, NLL)),
  "value_and_task_grads": (
    losses.value_and_task_grads(three_losses),
    (HIDDEN[0],),
  ),
  "value_and_direction": (
    losses.value_and_direction(three_losses, losses.min_norm_weights),
    (HIDDEN[0],),
  ),
  "direction_and_info": (
    lambda grads: losses.direction_and_info(grads, losses.upgrad_weights),
    (TASKS,),
  ),
  "shared_value_and_direction": (shared, (HIDDEN[1],)),
  "combine_task_gradients": (
    lambda grads: losses.combine_task_gradients(
      losses.min_norm_weights, 3
    ).update(
      grads,
      losses.combine_task_gradients(losses.min_norm_weights, 3).init(
        jnp.zeros(7)
      ),
    )[1],
    (TASKS,),
  ),
  "scale_by_norm_ema": (transformed(losses.scale_by_norm_ema()), (HIDDEN,)),
  "sigma_schedule": (
    losses.sigma_schedule(init=10.0, final=0.1, num_steps=9),
    (NLL,),
  ),
}
FUNCTIONS = {
  name for name, value in vars(losses).items() if inspect.isfunction(value)
}


def case(name):
  f, arrays = CASES[name]
  return f or getattr(losses, name), arrays


def cast(arrays, dtype):
  """Floating arrays in another type."""
  return tuple(
    jnp.asarray(a, dtype) if np.issubdtype(a.dtype, np.floating) else a
    for a in map(np.asarray, arrays)
  )


def assert_close(actual, expected, rtol):
  chex.assert_trees_all_equal_shapes(actual, expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    a, b = np.float64(a), np.float64(b)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def test_every_function_is_in_the_table():
  assert set(CASES) == FUNCTIONS


class ContractTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(*CASES)
  def test_value(self, name):
    f, arrays = case(name)
    actual = self.variant(f)(*arrays)
    for leaf in jax.tree.leaves(actual):
      assert leaf.dtype in (jnp.float32, jnp.int32, bool), leaf.dtype
    # Noise in float64 is other noise.
    is_random = name.startswith("virtual_adversarial")
    with jax.enable_x64(not is_random):
      dtype = jnp.float32 if is_random else jnp.float64
      expected = jax.device_get(f(*cast(arrays, dtype)))
    assert_close(actual, expected, rtol=2e-5)

  @parameterized.parameters(*CASES)
  def test_bfloat16_is_the_float32_it_stands_for(self, name):
    f, arrays = case(name)
    half = cast(arrays, jnp.bfloat16)
    actual = jax.jit(f)(*half)
    expected = jax.jit(f)(*cast(half, jnp.float32))
    assert_close(actual, expected, rtol=1e-5)
    chex.assert_trees_all_equal_dtypes(actual, expected)

  @parameterized.parameters(*CASES)
  def test_gradient_is_finite(self, name):
    f, (first, *rest) = case(name)
    if name in ("span_mask", "decode_spans"):
      self.skipTest("no function of real numbers to real numbers")

    @jax.grad
    def gradient(first):
      leaves = jax.tree.leaves(f(first, *rest))
      return sum(
        x.sum() for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)
      )

    chex.assert_tree_all_finite(jax.jit(gradient)(first))

  @parameterized.parameters(*CASES)
  def test_nan_is_not_hidden(self, name):
    f, arrays = case(name)
    if name in ("span_mask", "decode_spans"):
      self.skipTest("no function of real numbers to real numbers")
    for i, array in enumerate(arrays):
      if np.issubdtype(array.dtype, np.floating):
        broken = array.copy()
        broken.flat[0] = np.nan
        leaves = jax.tree.leaves(
          jax.jit(f)(*arrays[:i], broken, *arrays[i + 1 :])
        )
        self.assertTrue(any(np.isnan(x).any() for x in leaves), f"argument {i}")
