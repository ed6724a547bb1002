# SPDX-License-Identifier: Apache-2.0
"""Names in sentences: data, losses of a trial, counts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import loss_spans
from experiments import workdir
from experiments.loss_studies import many_way
from experiments.loss_studies import networks
from experiments.loss_studies import spans
from experiments.loss_studies import spans_task
from experiments.loss_studies import splits
from experiments.loss_studies import study

RNG = np.random.default_rng(0)
KINDS = ("person", "place")
METHODS = spans_task.METHODS


def names_of(tags):
  """{(kind, first, last)} of BIO tags, token by token, as conlleval reads."""
  found, kind, first = set(), None, None
  for i, tag in enumerate([*tags, "O"]):
    side, _, of = tag.partition("-")
    if kind is not None and (side != "I" or of != kind):
      found.add((kind, first, i - 1))
      kind = None
    if side == "B" or (side == "I" and kind is None):
      kind, first = of, i
  return found


def test_tags_are_names():
  tags = ["O", *(f"{side}-{kind}" for kind in KINDS for side in "BI")]
  numbers = np.random.default_rng(0).integers(0, 5, (200, 12))
  found = np.array(spans.spans_of_tags(jnp.array(numbers), 2))
  for row, of_row in zip(numbers, found, strict=True):
    places = zip(*np.nonzero(of_row), strict=True)
    names = {(KINDS[k], int(i), int(j)) for k, i, j in places}
    assert names == names_of([tags[n] for n in row]), row


def test_padding_is_no_name():
  tags = jnp.array([[1, 2, -1, -1], [0, 3, 4, 4]])
  found = spans.spans_of_tags(tags, 2)
  assert found.shape == (2, 2, 4, 4) and found.sum() == 2
  assert found[0, 0, 0, 1] and found[1, 1, 1, 3]


def test_pieces_cut_no_name():
  n = spans.MAX_TOKENS
  words = [f"w{i}" for i in range(2 * n + 3)]
  tags = ["O"] * len(words)
  tags[n - 1 : n + 2] = ["B-person", "I-person", "I-person"]
  found = list(spans.pieces(words, tags))
  assert [len(w) for w, _ in found] == [n - 1, n, 4]
  assert list(itertools.chain(*(w for w, _ in found))) == words
  assert sum(len(names_of(t)) for _, t in found) == 1
  # One that is longer than a piece has to be.
  tags = ["B-person", *["I-person"] * (n + 4)]
  assert [len(w) for w, _ in spans.pieces(words[: n + 5], tags)] == [n, 5]


def test_arrays_of_a_sentence():
  words, tags = ["in", "New", "York"], ["O", "B-place", "I-place"]
  buckets, numbers = spans.as_arrays(words, tags, KINDS)
  assert numbers.tolist()[:4] == [0, 3, 4, -1]
  assert (buckets[:3] > 0).all() and not buckets[3:].any()
  assert buckets.max() < spans.NUM_BUCKETS
  same, _ = spans.as_arrays(["NEW"], ["O"], KINDS)
  assert (same[0] == buckets[1]).sum() == 5  # all but its shape


def test_planted_names_end_as_their_kind():
  rng = np.random.default_rng(1)
  made = [spans.planted(rng) for _ in range(200)]
  seen = set()
  for words, tags in made:
    for word, tag in zip(words, tags, strict=True):
      ends = [k for k, end in spans.ENDINGS.items() if word.endswith(end)]
      if tag != "O":
        assert tag[2:] in ends and word[0].isupper()
        seen.add(tag)
  assert len(seen) == 6
  # Names of one kind side by side: two spans.
  assert any(
    "I" == a[0] and "B" == b[0] and a[2:] == b[2:]
    for _, t in made
    for a, b in itertools.pairwise(t)
  )
  data = spans.load("planted")
  assert data.num_outputs == 3 and 300 <= data.num_test < 320
  assert max(len(w) for w, _ in made) > spans.MAX_TOKENS // 2


def test_wnut17_keeps_all_names(tmp_path):
  text = (
    "a\tO\nBob\tB-person\nLee\tI-person\n\t\n" + "x\tO\n" * 40 + "Rome\t"
    "B-location\n"
  )
  for part in ("train", "dev", "test"):
    (tmp_path / f"{part}.conll").write_text(text)
  data = spans.load("wnut17", str(tmp_path))
  assert data.num_outputs == 6 and data.num_test == 3 and len(data.x) == 9
  found = np.array(spans.spans_of_tags(jnp.array(data.y), 6))
  person, location = (
    many_way.KINDS.index(kind) - 1 for kind in ("person", "location")
  )
  assert found.sum((0, 2, 3))[[person, location]].tolist() == [3, 3]
  assert (data.y >= 0).sum() == 3 * 44
  with pytest.raises(ValueError, match="without files there is planted"):
    spans.load("wnut17")
  with pytest.raises(ValueError, match="conll04 with --data_dir"):
    spans.load("conll04", str(tmp_path))


TAGS = np.array([[1, 2, 0, 3, -1], [0, 4, -1, -1, -1]])


def valid_spans(row):
  n = (row >= 0).sum()
  return [(i, j) for i in range(n) for j in range(i, n)]


def test_losses_of_tags_and_of_spans():
  logits = RNG.normal(size=(2, 5, 5))
  expected = [
    sum(
      np.log(np.exp(logits[b, i]).sum()) - logits[b, i, t]
      for i, t in enumerate(TAGS[b])
      if t >= 0
    )
    for b in range(2)
  ]
  found = spans_task.loss_of(jnp.array(logits), jnp.array(TAGS))
  np.testing.assert_allclose(found, expected, rtol=1e-5)

  scores = RNG.normal(size=(2, 2, 5, 5))
  names = [{(0, 0, 1), (1, 3, 3)}, {(1, 1, 1)}]
  expected = []
  for b in range(2):
    loss = 0
    for k in range(2):
      signs = [
        (scores[b, k, i, j], (k, i, j) in names[b])
        for i, j in valid_spans(TAGS[b])
      ]
      loss += np.log(1 + sum(np.exp(-s) for s, is_name in signs if is_name))
      loss += np.log(1 + sum(np.exp(s) for s, is_name in signs if not is_name))
    expected.append(loss)
  found = spans_task.loss_of(jnp.array(scores), jnp.array(TAGS))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_divergences_are_of_spans_that_exist():
  s, t = RNG.normal(size=(2, 2, 2, 5, 5))
  where = jnp.array(
    [
      [[[(i, j) in valid_spans(row) for j in range(5)] for i in range(5)]]
      for row in TAGS
    ]
  )
  multilabel, softmax = [], []
  for b in range(2):
    place = np.array(valid_spans(TAGS[b])).T
    a, c = (x[b][:, *place].ravel() for x in (s, t))
    sigmoids = [1 / (1 + np.exp(-x)) for x in (a, c)]
    multilabel.append(np.mean((sigmoids[0] - sigmoids[1]) * (a - c)))
    p, q = (np.exp(x) / np.exp(x).sum() for x in (a, c))
    softmax.append(np.sum((p - q) * np.log(p / q)))
  for fn, expected in (
    (spans_task.multilabel_divergence, multilabel),
    (spans_task.softmax_divergence, softmax),
    (spans_task.no_divergence, [0, 0]),
  ):
    found = fn(jnp.array(s), jnp.array(t), where)
    np.testing.assert_allclose(found, expected, rtol=1e-4, err_msg=fn.__name__)


def test_predictions_that_are_right():
  names = spans.spans_of_tags(jnp.array(TAGS), 2)
  is_token = jnp.array(TAGS >= 0)
  logits = 9 * jax.nn.one_hot(np.where(TAGS < 0, 1, TAGS), 5)
  scores = (
    jnp.where(names, 1.0, -1.0).at[0, 0, 1, 0].set(9).at[1, 0, 3, 4].set(9)
  )
  for found in (logits, scores):
    np.testing.assert_array_equal(spans_task.predicted(found, is_token), names)


def test_counts_become_f1():
  found = spans_task.measures(jnp.array([6, 8, 12]))
  assert found == pytest.approx(
    {"f1": 0.6, "precision": 0.75, "recall": 0.5}, abs=1e-6
  )
  none = spans_task.measures(jnp.array([0, 0, 5]))
  assert all(float(v) == 0 for v in none.values())


def trial_of(method, point, num_steps=60, lr=0.02):
  """Measures of one training on what is planted."""
  data = splits.at_most(spans.load("planted"), 150)
  (seed,) = [
    {
      k: v[0]
      for k, v in spans_task.prepare(
        data, (0,), {"num_steps": num_steps, "batch_size": 8}
      ).items()
    }
  ]
  net = networks.make(
    {"name": "words", "num_buckets": spans.NUM_BUCKETS, "width": 16}, 3
  )
  trial = spans_task.make_trial(net, METHODS[method])
  point = {"lr": lr, "weight_decay": 0.01} | point
  return jax.jit(trial)(point, seed, {"x": data.x, "y": data.y})["test"]


@pytest.mark.slow
def test_names_are_learned():
  assert trial_of("token_ce", {})["f1"] > 0.6


def test_r_drop_is_two_passes_and_their_difference():
  scores = {
    k: jnp.array(RNG.normal(size=(2, 2, 5, 5)), jnp.float32) for k in "ab"
  }
  keys = iter("ab")
  seen = []

  def outputs_of(rng):
    seen.append(jax.random.key_data(rng).tolist())
    return scores[next(keys)]

  def loss(name, point):
    nonlocal keys
    keys = iter("ab")
    return spans_task.training_loss(
      METHODS[name], point, outputs_of, jnp.array(TAGS), jax.random.key(0)
    )

  a, b = (spans_task.loss_of(s, jnp.array(TAGS)) for s in scores.values())
  np.testing.assert_allclose(loss("gp", {}), a, rtol=1e-6)
  del seen[:]
  np.testing.assert_allclose(loss("gp_two_passes", {}), a + b, rtol=1e-6)
  assert seen[0] != seen[1]  # two masks
  where = jnp.triu(
    jnp.array(TAGS >= 0)[:, None, None] & (TAGS >= 0)[:, None, :, None]
  )
  for name in ("gp_r_drop", "gp_r_drop_softmax"):
    apart = METHODS[name].divergence(*scores.values(), where)
    np.testing.assert_allclose(
      loss(name, {"alpha": 3.0}), a + b + 1.5 * apart, rtol=1e-5
    )


def test_the_config_is_fair():
  for arg in loss_spans.DATA:
    for variant in ("", ",tiny"):
      tree = workdir.as_json(loss_spans.get_config(arg + variant))
      searched = study.checked_points(tree, METHODS)
      assert {
        len({tuple(point.values()) for point in tried})
        for tried in searched.values()
      } == {tree["search"]["num_points"]}
      assert tree["network"]["num_buckets"] == spans.NUM_BUCKETS
      assert len(tree["seeds"]) == (2 if variant else 5)
  with pytest.raises(ValueError, match="the argument is"):
    loss_spans.get_config("conll03")


@pytest.mark.slow
def test_the_program_runs(tmp_path):
  tree = workdir.as_json(loss_spans.get_config("planted,tiny"))
  few = splits.at_most(spans.load("planted"), tree["data"]["max_examples"])
  found = study.run(tree, few, spans_task, tmp_path / "results.jsonl")
  for of_method in found.values():
    assert len(of_method) == 2
    for record in of_method:
      assert record["test"].keys() == set(tree["measures"])
