# SPDX-License-Identifier: Apache-2.0
"""Studies of language models: tokens, n-grams, the decoder, its losses."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.loss_studies import adaptation_cost
from experiments.loss_studies import bpe
from experiments.loss_studies import decoder as decoder_lib
from experiments.loss_studies import language
from experiments.loss_studies import language_methods
from experiments.loss_studies import ngrams
from experiments.loss_studies import text
import losses

RNG = np.random.default_rng(0)


def test_pairs_are_merged_by_frequency():
  # ab 3 times, then abc twice; all other pairs are there once.
  vocabulary = bpe.learn("abc abcab", 6)
  assert vocabulary.tokens[:4] == [" ", "a", "b", "c"]
  assert vocabulary.merges == [("a", "b"), ("ab", "c")]
  tokens = bpe.encode(vocabulary, "cab?abc")  # no ? was seen
  assert [vocabulary.tokens[i] for i in tokens] == ["c", "ab", "abc"]


def test_merges_are_those_of_counting_again():
  """Against the algorithm without an index: count all, merge the first."""
  words = collections.Counter(
    "".join(RNG.choice(list("abcd"), RNG.integers(1, 9))) for _ in range(300)
  )
  learned = bpe.learn(",".join(words.elements()), 30).merges
  split = {word: tuple(word) for word in words}
  for merge in learned:
    count = collections.Counter()
    for word, symbols in split.items():
      for pair in zip(symbols, symbols[1:], strict=False):
        count[pair] += words[word]
    assert merge == min(count, key=lambda pair: (-count[pair], pair))
    for word, symbols in split.items():
      split[word] = bpe._merge(list(symbols), merge)
  assert len(learned) == 25


def test_every_text_of_its_characters_comes_back():
  parts = text.read("scikit_learn")
  vocabulary = bpe.learn(parts["train"], 300)
  assert len(set(vocabulary.tokens)) == 300
  tokens = bpe.encode(vocabulary, parts["train"])
  again = "".join(vocabulary.tokens[i] for i in tokens)
  assert again == parts["train"]


def test_vocabularies_that_cannot_be():
  with pytest.raises(ValueError, match="vocab_size=3, but the text alone has"):
    bpe.learn("abcd", 3)
  with pytest.raises(ValueError, match="vocab_size=99, but .* only 3 tokens"):
    bpe.learn("ab", 99)


def test_texts(tmp_path):
  parts = text.read("python")
  assert set(parts) == set(text.PARTS) and "statement" in parts["test"]
  assert text.cut("0123456789") == ["01234567", "8", "9"]
  with pytest.raises(ValueError, match="give the folder of classicbooks/"):
    text.read("classicbooks")
  with pytest.raises(ValueError, match="input.txt does not exist"):
    text.read("tinyshakespeare", str(tmp_path))
  with pytest.raises(ValueError, match="'poems' is none of python, "):
    text.read("poems")
  (tmp_path / "tinyshakespeare").mkdir()
  (tmp_path / "tinyshakespeare" / "input.txt").write_text("0123456789")
  found = text.read("tinyshakespeare", str(tmp_path))
  assert found["validation"] == "8"


def test_windows_and_batches():
  tokens = np.arange(23, dtype=np.int32)
  found = text.windows(tokens, 4, at_most=99)
  np.testing.assert_array_equal(found, np.arange(20).reshape(5, 4))
  few = text.windows(tokens, 4, at_most=2)
  np.testing.assert_array_equal(few[:, 0], [0, 8])
  rng = np.random.default_rng(1)
  batches = text.batches(tokens, rng, num_steps=9, batch_size=50, context=4)
  assert batches.shape == (9, 50, 4)
  assert batches.min() == 0 and batches.max() == 22
  assert np.all(np.diff(batches, axis=-1) == 1)


def slow_bleu(samples, references_of):
  """BLEU of Papineni et al., sample by sample, with dictionaries."""
  matched, total = np.zeros(4), np.zeros(4)

  def grams(sequence, n):
    pieces = [tuple(sequence[i:][:n]) for i in range(len(sequence) - n + 1)]
    return collections.Counter(pieces)

  for i, sample in enumerate(samples):
    for n in range(1, 5):
      references = [grams(r, n) for r in references_of(i)]
      for gram, count in grams(sample, n).items():
        matched[n - 1] += min(count, max(r[gram] for r in references))
        total[n - 1] += count
  return np.exp(np.mean(np.log(matched / total)))


def test_bleu_is_papinenis():
  samples = RNG.integers(0, 3, (12, 9))
  references = RNG.integers(0, 3, (5, 9))
  expected = slow_bleu(samples, lambda i: references)
  assert ngrams.bleu(samples, references) == pytest.approx(expected)
  others = slow_bleu(samples, lambda i: np.delete(samples, i, 0))
  assert ngrams.self_bleu(samples) == pytest.approx(others)


def test_bleu_by_hand():
  # 5 of 6 words; of the pairs 01, 12, 23, 34, 49 four; three; two of three.
  sample, reference = np.array([[0, 1, 2, 3, 4, 9]]), np.arange(6)[None]
  expected = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
  assert ngrams.bleu(sample, reference) == pytest.approx(expected)
  assert ngrams.bleu(reference, reference) == pytest.approx(1)
  assert ngrams.self_bleu(np.concatenate([sample, sample])) == pytest.approx(1)
  assert ngrams.bleu(sample, reference + 10) == 0
  assert ngrams.self_bleu(np.arange(12).reshape(2, 6)) == 0


def test_divergence_of_bigrams():
  a, b = np.array([[0, 1, 0, 1, 0]]), np.array([[5, 6, 7, 8, 9]])
  assert ngrams.bigram_divergence(a, a) == 0
  assert ngrams.bigram_divergence(a, b) == pytest.approx(1)
  # p has 01 and 10 by half, q 01 alone: H(3/4, 1/4) - (1 + 0) / 2.
  q = np.array([[0, 1], [0, 1]])
  entropy = -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25)
  assert ngrams.bigram_divergence(a, q) == pytest.approx(entropy - 0.5)


DECODER = decoder_lib.Decoder(
  vocab_size=11, context=6, width=16, num_layers=1, num_heads=2
)


@pytest.fixture(scope="module")
def params():
  """Far from uniform, and with vectors for every position."""
  found = decoder_lib.init(DECODER, jax.random.key(0))
  leaves, tree = jax.tree.flatten(found)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [
    leaf + jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(tree, noisy)


logits_of = jax.jit(functools.partial(decoder_lib.logits, DECODER))
TOKENS = jnp.array(RNG.integers(0, 11, (7, 6)), jnp.int32)


def test_a_token_knows_of_those_before_it_alone(params):
  logits = logits_of(params, TOKENS)
  for t in range(6):
    other = TOKENS.at[:, t].set((TOKENS[:, t] + 1) % 11)
    change = jnp.abs(logits_of(params, other) - logits)
    by_token = change.max(axis=(0, 2))
    np.testing.assert_array_equal(by_token[: t + 1], 0)
    assert jnp.all(by_token[t + 1 :] > 1e-3)


def test_samples_by_cache_are_those_of_the_model(params):
  cold = decoder_lib.sample(DECODER, params, jax.random.key(2), 1e-4, num=3)
  logits = logits_of(params, cold)
  np.testing.assert_array_equal(cold, logits.argmax(-1))
  # The frequency of the first token, at a temperature.
  warm = decoder_lib.sample(DECODER, params, jax.random.key(3), 2.0, num=4000)
  p = jax.nn.softmax(logits[0, 0] / 2.0)
  share = jnp.bincount(warm[:, 0], length=11) / 4000
  np.testing.assert_allclose(share, p, atol=4 * (0.25 / 4000) ** 0.5)
  # And of the second, after the most frequent first one.
  first = jnp.argmax(p)
  after = warm[warm[:, 0] == first]
  logits = logits_of(params, after[:1])
  share = jnp.bincount(after[:, 1], length=11) / len(after)
  error = 4 * (0.25 / len(after)) ** 0.5
  np.testing.assert_allclose(
    share, jax.nn.softmax(logits[0, 1] / 2), atol=error
  )


def test_nothing_impossible_is_drawn(monkeypatch):
  p = jnp.broadcast_to(jnp.array([0, 0.5, 0, 0.5, 0], jnp.float32), (9999, 5))
  found = jnp.bincount(decoder_lib.draw(jax.random.key(0), p), length=5)
  assert found[1] + found[3] == 9999
  assert abs(found[1] - 5000) < 4 * 50
  for u, token in ((0.0, 1), (np.nextafter(np.float32(1), 0), 3)):
    monkeypatch.setattr(
      jax.random, "uniform", lambda rng, shape, u=u: jnp.full(shape, u)
    )
    assert decoder_lib.draw(jax.random.key(0), p[:1]) == token


def test_measures_of_tokens(params):
  z = np.float64(logits_of(params, TOKENS)) / 0.7
  q = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  of_token = np.take_along_axis(q, np.asarray(TOKENS)[..., None], -1)
  found = language.log_likelihood(DECODER, params, TOKENS, 0.7)
  assert float(found) == pytest.approx(np.log(of_token).mean(), abs=1e-5)

  other = decoder_lib.init(DECODER, jax.random.key(4))
  z = np.float64(logits_of(other, TOKENS))
  p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  found = language.total_variation(DECODER, other, DECODER, params, TOKENS, 0.7)
  expected = np.maximum(p - q, 0).sum(-1).mean()
  assert float(found) == pytest.approx(expected, abs=1e-5)

  cost = jnp.array(RNG.normal(size=(11, 3)), jnp.float32)
  logits = logits_of(params, TOKENS)
  expected = losses.emo_terms(logits / 0.7, TOKENS, cost).emd.mean()
  found = language.earth_mover(DECODER, params, TOKENS, cost, 0.7)
  assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_methods_are_their_dense_forms():
  hidden = jnp.array(RNG.normal(size=(5, 4)), jnp.float32)
  head, frozen = jnp.array(RNG.normal(size=(2, 11, 4)), jnp.float32)
  tokens = TOKENS[0, :5]
  logits = hidden @ head.T
  point = {"gamma": 0.1, "min_weight": 0.2, "smoothing": 0.3}
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, tokens)
  smooth = optax.smooth_labels(jax.nn.one_hot(tokens, 11), 0.3)
  fixed = losses.emo_terms(logits, tokens, frozen)
  adaptive = losses.emo_terms(logits, tokens, head)
  expected = {
    "likelihood": nll,
    "temperature": nll,
    "label_smoothing": optax.softmax_cross_entropy(logits, smooth),
    "tailr": losses.tailr(nll, gamma=0.1, min_weight=0.2),
    "emo_mode1_fixed": losses.emo_mode1(*fixed),
    "emo_mode1_adaptive": losses.emo_mode1(*adaptive),
    "emo_mode2_fixed": losses.emo_mode2(*fixed),
    "emo_mode2_adaptive": losses.emo_mode2(*adaptive),
  }

  @jax.jit
  def all_of_them(point):
    return {
      name: method.loss(hidden, head, frozen, tokens, point)
      for name, method in language_methods.METHODS.items()
    }

  found = all_of_them(point)
  assert expected.keys() == found.keys()
  for name, loss in found.items():
    np.testing.assert_allclose(loss, expected[name], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_dense_and_tiled_are_the_same_step(params):
  frozen = decoder_lib.head(params) + 0.1
  for name, dense in adaptation_cost.DENSE.items():
    tiled = language_methods.METHODS[name].loss

    def grads(loss):
      def mean(params):
        hidden = decoder_lib.hidden(DECODER, params, TOKENS)
        head = decoder_lib.head(params)
        return loss(hidden, head, frozen, TOKENS, {}).mean()

      return jax.jit(jax.grad(mean))(params)

    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
      grads(dense),
      grads(tiled),
    )


@pytest.mark.slow
def test_pretraining_learns():
  tokens = np.tile(np.arange(11, dtype=np.int32), 20)
  train = {"num_steps": 100, "batch_size": 8, "lr": 0.02}
  params = language.pretrain(DECODER, tokens, train)
  found = language.log_likelihood(DECODER, params, jnp.array(tokens[None, :6]))
  # Of six tokens the first is one of eleven, the others are certain.
  assert float(found) > -math.log(11) / 6 - 0.15


def test_what_was_pretrained_is_kept(tmp_path, params, monkeypatch):
  asked = []

  def pretrain(*arguments):
    asked.append(arguments)
    return params

  monkeypatch.setattr(language, "pretrain", pretrain)
  tokens, train = np.arange(30, dtype=np.int32), {"num_steps": 9}
  for _ in range(2):
    found = language.kept(tmp_path, DECODER, tokens, train)
    jax.tree.map(np.testing.assert_array_equal, found, params)
  assert asked == [(DECODER, tokens, train)]
  language.kept(tmp_path, DECODER, tokens[1:], train)
  language.kept(tmp_path, DECODER, tokens, {"num_steps": 8})
  language.kept(tmp_path, DECODER.clone(num_layers=9), tokens, train)
  assert len(asked) == len(list(tmp_path.iterdir())) == 4
