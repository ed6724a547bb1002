# SPDX-License-Identifier: Apache-2.0
"""R-Drop against the losses of the published codes, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import losses

RNG = np.random.default_rng(0)
S, T = RNG.normal(scale=2, size=(2, 4, 5))  # float64 [B, C]


def kl(s, t):
  return special.rel_entr(special.softmax(s, -1), special.softmax(t, -1)).sum(
    -1
  )


# The loss of each published code, as its source has it, of nll [B] and KL [B].
R_DROP_CODES = {
  "paper": lambda n1, n2, kl12, kl21, a, c: (
    np.mean(n1 + n2) + a * np.mean(kl12 + kl21) / 2
  ),
  # Sums over the tokens, divided by their number (its scripts: reg-alpha 5).
  "fairseq": lambda n1, n2, kl12, kl21, a, c: (
    (np.sum(np.append(n1, n2)) + a * (kl12.sum() + kl21.sum()) / 2) / n1.size
  ),
  "vit": lambda n1, n2, kl12, kl21, a, c: (
    n1.mean() + n2.mean() + a * (kl12.sum() + kl21.sum())
  ),
  "readme": lambda n1, n2, kl12, kl21, a, c: (
    (n1.mean() + n2.mean()) / 2 + a * (kl12.sum() + kl21.sum()) / 2
  ),
  "bojone": lambda n1, n2, kl12, kl21, a, c: (
    np.append(n1, n2).mean() + np.mean(kl12 + kl21) / 4 * a
  ),
  "bert4torch": lambda n1, n2, kl12, kl21, a, c: (
    (n1.mean() + n2.mean()) / 2 + (kl12 + kl21).sum() / (n1.size * c) / 4 * a
  ),
}


@pytest.mark.parametrize(
  "code, a, factor, alpha",
  [
    ("paper", 5.0, 1.0, 5.0),
    ("fairseq", 5.0, 1.0, 5.0),
    ("vit", 0.3, 1.0, 2 * 4 * 0.3),
    ("readme", 1.0, 0.5, 2 * 4 * 1.0),
    ("bojone", 4.0, 0.5, 4.0),
    ("bert4torch", 4.0, 0.5, 4.0 / 5),
  ],
)
def test_r_drop_converts_the_published_codes(code, a, factor, alpha):
  labels = np.array([0, 3, 1, 4])
  nll1, nll2 = (
    special.logsumexp(z, -1) - z[np.arange(4), labels] for z in (S, T)
  )
  expected = R_DROP_CODES[code](nll1, nll2, kl(S, T), kl(T, S), a, c=5)
  nll = optax.softmax_cross_entropy_with_integer_labels
  result = losses.r_drop(
    nll(jnp.float32(S), labels),
    nll(jnp.float32(T), labels),
    losses.symmetric_kl(S, T),
    alpha=alpha,
  )
  assert result.shape == (4,)
  np.testing.assert_allclose(factor * result.mean(), expected, rtol=1e-5)


def test_gradient_is_the_factor_of_each_term():
  terms = jnp.array([[1.0, 2.0], [3.0, 0.5], [0.1, 0.2]])
  alpha = jnp.array([4.0, 6.0])  # one for each sample
  slopes = jax.grad(
    lambda *terms: losses.r_drop(*terms, alpha=alpha).sum(), (0, 1, 2)
  )(*terms)
  np.testing.assert_allclose(slopes, [[1, 1], [1, 1], [2, 3]])


def test_mistakes_are_named():
  nll = np.ones(5, np.float32)
  with pytest.raises(ValueError, match=r"divergence has shape \(3,\)"):
    losses.r_drop(nll, nll, nll[:3], alpha=1.0)
  with pytest.raises(ValueError, match="nll1 has .* negative; it is -log p"):
    losses.r_drop(-nll, nll, nll, alpha=1.0)
  with pytest.raises(ValueError, match="nll2 has .* negative; it is -log p"):
    losses.r_drop(nll, -nll, nll, alpha=1.0)
  # [5, 1] against [5] would be [5, 5].
  with pytest.raises(ValueError, match=r"alpha has shape \(5, 1\)"):
    losses.r_drop(nll, nll, nll, alpha=np.ones((5, 1)))
  with pytest.raises(ValueError, match="alpha has -2"):
    losses.r_drop(nll, nll, nll, alpha=-2.0)
