# SPDX-License-Identifier: Apache-2.0
"""A pretrained language model, adapted to another kind of text by each loss.

The model is pretrained once by maximum likelihood and then trained for a few
steps on the other text, by each method. Measured are

  log_likelihood     mean log p of a token, of the other text
  emd                mean earth mover's distance, by the pretrained head's costs
  before             log_likelihood of the text that it was pretrained on
  bleu, self_bleu    of samples: against test text, and each other
  divergence         of the samples' bigrams from those of test text, in bits

Seeds share the pretrained model; they differ in what they see and in the
samples. References are the model before ("pretrained"), and validation text in
place of samples ("text").
"""

import pathlib
from typing import NamedTuple

import jax
import numpy as np

from experiments.loss_studies import bpe
from experiments.loss_studies import decoder as decoder_lib
from experiments.loss_studies import language
from experiments.loss_studies import language_units
from experiments.loss_studies import ngrams
from experiments.loss_studies import text

REFERENCES = ("pretrained", "text")


class Problem(NamedTuple):
  """A pretrained model and texts as tokens."""

  decoder: decoder_lib.Decoder
  params: dict
  train: np.ndarray  # [N]
  validation: np.ndarray  # [n, context], as are the next two
  test: np.ndarray
  before: np.ndarray  # test text of the pretraining


def make_problem(config: dict, data_dir, folder: pathlib.Path) -> Problem:
  """Reads, encodes, pretrains; `folder` keeps the model."""
  data = config["data"]
  old = text.read(data["pretrained_on"], data_dir)
  new = text.read(data["name"], data_dir)
  vocabulary = bpe.learn(old["train"], data["vocab_size"])

  def windows(part):
    tokens = bpe.encode(vocabulary, part)
    return text.windows(tokens, data["context"], data["num_windows"])

  decoder = language.make_decoder(config["network"], data)
  params = language.kept(
    folder, decoder, bpe.encode(vocabulary, old["train"]), data["pretraining"]
  )
  return Problem(
    decoder,
    params,
    train=bpe.encode(vocabulary, new["train"]),
    validation=windows(new["validation"]),
    test=windows(new["test"]),
    before=windows(old["test"]),
  )


def of_samples(samples, test) -> dict:
  """The measures of sequences [S, T] that a model wrote, or somebody."""
  return {
    "bleu": ngrams.bleu(samples, test),
    "self_bleu": ngrams.self_bleu(samples),
    "divergence": ngrams.bigram_divergence(samples, test),
  }


def make_trial(config: dict, problem: Problem):
  """trial(method, point, seed): {part: measures} of one adapted model."""
  decoder, frozen = problem.decoder, decoder_lib.head(problem.params)
  trainers = {
    name: language.make_trainer(decoder, method)
    for name, method in language_units.METHODS.items()
  }

  def of_tokens(params, tokens, temperature):
    return {
      "log_likelihood": language.log_likelihood(
        decoder, params, tokens, temperature
      ),
      "emd": language.earth_mover(decoder, params, tokens, frozen, temperature),
    }

  def trial(method, point, seed):
    if method == "text":
      return {"test": of_samples(problem.validation, problem.test)}
    params, temperature = problem.params, point.get("temperature", 1.0)
    if method != "pretrained":
      rng = np.random.default_rng(seed)
      batches = text.batches(
        problem.train, rng, context=decoder.context, **config["train"]
      )
      params = trainers[method](params, frozen, batches, point)
    # As many as there is text to compare with.
    samples = decoder_lib.sample(
      decoder,
      params,
      jax.random.key(seed),
      temperature,
      num=len(problem.validation),
    )
    before = language.log_likelihood(
      decoder, params, problem.before, temperature
    )
    return {
      "validation": of_tokens(params, problem.validation, temperature),
      "test": of_tokens(params, problem.test, temperature)
      | {"before": before}
      | of_samples(np.asarray(samples), problem.test),
    }

  return trial


def run(config, data_dir, folder: pathlib.Path, path: pathlib.Path):
  """All units of a plain config; their records."""
  units = language_units.of_config(config, REFERENCES)
  problem = make_problem(config, data_dir, folder)
  return language_units.run(config, units, make_trial(config, problem), path)
