# SPDX-License-Identifier: Apache-2.0
"""How good samples of digits are, by a classifier of the real ones.

Real data is small here: a scikit-learn network of two layers, trained on the
training digits, is right for at least 97 % of the held-out ones. Its second
layer is the feature space of the Frechet distance (which is not FID).
"""

import hashlib

import numpy as np
from sklearn import neural_network

from experiments import image_hash
from simple_diffusion import metrics


def _vectors(images):
  return np.float64(images).reshape(len(images), -1)


def train_classifier(images, labels) -> neural_network.MLPClassifier:
  """A classifier of images [N, 8, 8, 1] in [-1, 1]; always the same one."""
  classifier = neural_network.MLPClassifier(
    hidden_layer_sizes=(128, 64), alpha=0.1, max_iter=1000, random_state=0
  )
  return classifier.fit(_vectors(images), labels)


def features(classifier, images) -> np.ndarray:
  """Activations [N, 64] of the classifier's last hidden layer."""
  h = _vectors(images)
  layers = list(zip(classifier.coefs_, classifier.intercepts_, strict=True))
  for weights, bias in layers[:-1]:
    h = np.maximum(h @ weights + bias, 0)  # its activation is relu
  return h


def describe(classifier) -> dict[str, str]:
  """The feature network as records have it."""
  digest = hashlib.sha256()
  for array in (*classifier.coefs_, *classifier.intercepts_):
    digest.update(f"{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
  return {
    "name": "digits_classifier",
    "weights_hash": digest.hexdigest()[:16],
    "resize": "not",
  }


def measure(samples, asked, train, held_out) -> dict:
  """Quality of samples against real digits.

  Args:
    samples: float [N, 8, 8, 1] in [-1, 1].
    asked: [N] the classes that were asked for.
    train: (images, labels) that the samples' model was trained on.
    held_out: (images, labels) that it was not.

  Returns:
    * features: the classifier, by its name and the hash of its weights;
    * train_hash: of the images that the samples' model was trained on;
    * classifier_accuracy: of the classifier on held_out;
    * class_agreement: share of samples classified as asked;
    * frechet_samples, frechet_train: distance to held_out of the samples, and
      of equally many training digits (of all of them, if there are more
      samples), which is what perfection would score;
    * nearest_samples, nearest_held_out: median distance in pixel space (root
      of the sum of squares) to the nearest training digit, of samples and of
      held_out; samples that are copies would be near 0;
    * nearest_samples_p01, nearest_held_out_p01: the first percentile of these.
  """
  classifier = train_classifier(*train)
  held_out_moments = metrics.moments_of(features(classifier, held_out[0]))
  same_number = np.random.default_rng(0).permutation(len(train[0]))
  same_number = same_number[: len(samples)]

  def frechet(images):
    moments = metrics.moments_of(features(classifier, images))
    return metrics.frechet_distance(moments, held_out_moments)

  nearest_samples = metrics.nearest_distances(samples, train[0])
  nearest_held_out = metrics.nearest_distances(held_out[0], train[0])
  return {
    "features": describe(classifier),
    "train_hash": image_hash.combined(image_hash.digests(train[0])),
    "classifier_accuracy": classifier.score(_vectors(held_out[0]), held_out[1]),
    "class_agreement": classifier.score(_vectors(samples), asked),
    "frechet_samples": frechet(samples),
    "frechet_train": frechet(train[0][same_number]),
    "nearest_samples": float(np.median(nearest_samples)),
    "nearest_held_out": float(np.median(nearest_held_out)),
    "nearest_samples_p01": float(np.quantile(nearest_samples, 0.01)),
    "nearest_held_out_p01": float(np.quantile(nearest_held_out, 0.01)),
  }
