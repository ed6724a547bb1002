# SPDX-License-Identifier: Apache-2.0
"""Data of the comparisons of losses: parts, scales, noise, files."""

import io

import numpy as np
import PIL.Image
import pytest

from experiments.loss_studies import classification
from experiments.loss_studies import images
from experiments.loss_studies import many_way
from experiments.loss_studies import multilabel
from experiments.loss_studies import spans
from experiments.loss_studies import splits
from experiments.loss_studies import tabular


def data(n=50, num_test=None):
  return splits.Data(
    x=np.arange(2 * n, dtype=np.float32).reshape(n, 2),
    y=np.arange(n, dtype=np.int32) % 5,
    num_outputs=5,
    num_test=num_test,
  )


@pytest.mark.parametrize("num_test", [None, 15])
def test_parts_of_a_seed_share_nothing(num_test):
  first, again, other = (splits.split(data(50, num_test), s) for s in (0, 0, 1))
  assert sorted(np.concatenate(first)) == list(range(50))
  assert [len(part) for part in first] == (
    [32, 8, 10] if num_test is None else [28, 7, 15]
  )
  np.testing.assert_array_equal(first.train, again.train)
  assert set(first.train) != set(other.train)
  is_official = sorted(first.test) == list(range(35, 50))
  assert is_official == (num_test is not None)


def test_fewer_examples_keep_the_test_apart():
  few = splits.at_most(data(50, 15), 10)
  assert len(few.x) == len(few.y) == 20 and few.num_test == 10
  assert few.x[:10].max() < 70 <= few.x[10:].min()  # x of example i is 2i
  whole = data(50, 15)
  assert splits.at_most(whole, None) is whole
  assert len(splits.at_most(data(), 9).y) == 9


def test_features_are_scaled_by_training_examples_alone():
  x = np.float32([[0, 3, 1], [1, 5, 1], [1, 9, 1], [0, 99, 1]])
  of_table = splits.Data(x, np.int32([0, 1, 0, 1]), 2)
  mean, deviation = splits.moments(of_table, np.array([0, 1]))
  # Zeros and ones stay; 3 and 5 have mean 4 and deviation 1.
  np.testing.assert_array_equal(mean, [0, 4, 0])
  np.testing.assert_array_equal(deviation, [1, 1, 1])
  images = of_table._replace(standardize=False)
  np.testing.assert_array_equal(splits.moments(images, [0, 1])[0], 0)


def test_batches_are_epochs():
  train = np.arange(10, 22)
  found = splits.batches(train, 3, num_steps=7, batch_size=4)
  assert found.shape == (7, 4)
  assert sorted(found[:3].ravel()) == sorted(found[3:6].ravel()) == list(train)
  assert list(found[:3].ravel()) != list(found[3:6].ravel())


def test_noise_replaces_a_share_by_other_classes():
  y = np.repeat(np.arange(10, dtype=np.int32), 1000)
  wrong = splits.noisy(y, 0, num_classes=10, noise=0.4)
  assert wrong.dtype == y.dtype
  # A binomial's standard deviation is sqrt(.4 * .6 / 10^4) = .005.
  assert np.mean(wrong != y) == pytest.approx(0.4, abs=0.02)
  assert np.bincount(wrong[y == 3], minlength=10)[[2, 4]].min() > 20
  np.testing.assert_array_equal(
    splits.noisy(y, 0, num_classes=10, noise=0.0), y
  )


def test_test_labels_are_never_noisy():
  seeds = classification.prepare(
    data(), (0, 1), {"label_noise": 0.9, "num_steps": 1, "batch_size": 2}
  )
  for i in range(2):
    test = seeds["test"][i]
    np.testing.assert_array_equal(seeds["y"][i][test], data().y[test])
    assert np.mean(seeds["y"][i] != data().y) > 0.5


def test_sentences_and_their_features():
  text = "New\tB-location\nYork\tI-location\n\t\nok\tO\n"
  found = many_way.sentences(text)
  assert found == [
    (["New", "York"], ["B-location", "I-location"]),
    (["ok"], ["O"]),
  ]
  for line in ("EU\tB-ORG", "EU B-person", "EU\tNNP\tB-person"):
    with pytest.raises(ValueError, match=r"the line 'EU.*is not a word, a tab"):
      many_way.sentences(f"ok\tO\n{line}\n")
  buckets, classes = many_way.as_arrays(*found[0])
  location = many_way.KINDS.index("location")
  assert classes.tolist() == [location] * 2 + [-1] * (many_way.MAX_TOKENS - 2)
  assert buckets.min() >= 0 and buckets.max() < many_way.NUM_BUCKETS
  assert many_way.shape("McDonald's2016") == "XxXx'xd"
  assert len(many_way.texts(["New", "York"], 1)) == buckets.shape[1]


def digits_of(x):
  return {row.tobytes() for row in np.float32(16 * x).reshape(-1, 64)}


def test_sets_made_of_digits_keep_test_digits_apart():
  lines, sets = many_way.load("digit_lines"), multilabel.load("digit_sets")
  for made in (lines, sets):
    assert not digits_of(made.x[: -made.num_test]) & digits_of(
      made.x[-made.num_test :]
    )
  # 16,000 draws: a standard deviation of sqrt(.75 * .25 / 16000) = .0034.
  assert np.mean(lines.y == 0) == pytest.approx(0.75, abs=0.015)
  # Of three digits at least one and at most three kinds.
  assert set(sets.y.sum(1)) == {1, 2, 3}


def test_sets_from_files(tmp_path):
  rng = np.random.default_rng(5)
  np.savez(
    tmp_path / "adult.npz",
    x_num_train=rng.normal(size=(4, 2)),
    x_cat_train=np.array([[0], [2], [2], [0]]),
    x_num_test=rng.normal(size=(2, 2)),
    x_cat_test=np.array([[2], [7]]),  # 7 was never seen
    y_train=np.array([0, 1, 1, 0]),
    y_test=np.array([1, 0]),
  )
  adult = tabular.load("adult", str(tmp_path))
  assert adult.num_test == 2 and adult.num_outputs == 2
  np.testing.assert_array_equal(
    adult.x[:, 2:], [[1, 0], [0, 1], [0, 1], [1, 0], [0, 1], [0, 0]]
  )
  with pytest.raises(ValueError, match=r"letter\.npz does not exist.*iris"):
    tabular.load("letter", str(tmp_path))
  with pytest.raises(ValueError, match="--data_dir; without files.*digit_sets"):
    multilabel.load("yeast")
  with pytest.raises(ValueError, match="wnut17 is read from train.conll"):
    many_way.load("wnut17", str(tmp_path))
  np.savez(tmp_path / "letter.npz", X=np.zeros(3), Y=np.zeros(3))
  with pytest.raises(
    ValueError, match="letter.npz has the arrays X, Y, and ne"
  ):
    tabular.load("letter", str(tmp_path))
  cut = (tmp_path / "adult.npz").read_bytes()[:-30]
  (tmp_path / "adult.npz").write_bytes(cut)
  with pytest.raises(ValueError, match="adult.npz is not a whole .npz of numb"):
    tabular.load("adult", str(tmp_path))


def test_too_few_examples_to_split():
  iris = splits.at_most(tabular.load("iris"), 4)
  with pytest.raises(
    ValueError, match="4 examples leave none for validation an"
  ):
    splits.split(iris, seed=0)


def test_images_of_jpeg_files(tmp_path):
  flat = [np.full((32, 32, 3), grey, np.uint8) for grey in (10, 200, 90)]
  files = []
  for image in flat:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=95)
    files.append(np.frombuffer(buffer.getvalue(), np.uint8))
  offsets = np.cumsum([0, *map(len, files)])
  arrays = {
    "jpeg": np.concatenate(files),
    "offsets": offsets,
    "labels": np.uint8([0, 1, 2]),
  }
  np.savez(
    tmp_path / "cifar10.npz",
    **{f"{p}_{k}": v for p in ("train", "test") for k, v in arrays.items()},
  )
  found = images.load("cifar10", str(tmp_path))
  assert found.x.shape == (6, 32, 32, 3) and found.num_test == 3
  expected = np.stack(flat * 2) / 255
  np.testing.assert_allclose(found.x, expected, atol=1.5 / 255)


def test_groups_are_drawn_whole():
  # 20 groups of 2; of the 40 a fifth validates, which is four groups.
  grouped = data(50, 10)._replace(group=np.repeat(np.arange(25), 2))
  parts = [splits.split(grouped, seed) for seed in range(4)]
  for part in parts:
    assert sorted(np.concatenate(part)) == list(range(50))
    train, validation, test = (set(grouped.group[i]) for i in part)
    assert len(validation) == 4 and len(part.validation) == 8
    assert not train & validation and test == set(range(20, 25))
  assert len({tuple(sorted(part.validation)) for part in parts}) > 1
  few = splits.at_most(grouped, 7)
  np.testing.assert_array_equal(few.group, few.x[:, 0] // 4)  # x is 2i


def test_no_digit_is_in_two_pools():
  digit_sets, digit_lines = multilabel.digit_sets(), many_way.digit_lines()
  pictures = {}
  for found in (digit_sets, digit_lines):
    digits = found.x.reshape(len(found.x), -1, 64)
    for group in range(11):
      some = {d.tobytes() for e in digits[found.group == group] for d in e}
      pictures.setdefault(group, set()).update(some)
  for group in range(11):
    others = set().union(*(pictures[g] for g in range(11) if g != group))
    assert not pictures[group] & others


def test_pieces_of_a_sentence_are_one_group(tmp_path):
  long = "\n".join("a\tO" for _ in range(30))
  for part in ("train", "dev", "test"):
    (tmp_path / f"{part}.conll").write_text(f"{long}\n\nb\tO\n")
  found = spans.load("wnut17", str(tmp_path))
  assert found.group.tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 5]
  assert found.num_test == 3
  assert spans.load("planted").group is None
