# SPDX-License-Identifier: Apache-2.0
"""Language models of what an oracle wrote, which then judges them.

An oracle, a language model of real text, writes the corpora: of each seed one
to train and one to validate, and one to test. So the distribution that is to be
learned is known: of the students we measure

  log_likelihood         mean log q of the oracle's tokens
  oracle_log_likelihood  mean log p of the student's own samples
  total_variation        between p and q, token by token, in the oracle's texts
  bleu, self_bleu        of the samples: against the oracle's test texts, which
                         should be high, and each other, which should be low

The protocol of TaiLr's synthetic experiment (arXiv 2302.13344), which has LSTMs
and captions of COCO (code: thu-coai/TaiLr); the total variation is ours. The
reference "oracle" is the oracle as a student of its own.
"""

import functools
import pathlib

import jax
import numpy as np

from experiments.loss_studies import bpe
from experiments.loss_studies import decoder as decoder_lib
from experiments.loss_studies import language
from experiments.loss_studies import language_units
from experiments.loss_studies import ngrams
from experiments.loss_studies import splits
from experiments.loss_studies import text

REFERENCES = ("oracle",)


def make_oracle(data: dict, text_of_part: dict, folder: pathlib.Path):
  """The oracle of a config's data and its parameters."""
  vocabulary = bpe.learn(text_of_part["train"], data["vocab_size"])
  tokens = bpe.encode(vocabulary, text_of_part["train"])
  options = dict(data["oracle"])
  train = options.pop("train")
  oracle = language.make_decoder(options, data)
  return oracle, language.kept(folder, oracle, tokens, train)


def make_trial(config: dict, oracle, oracle_params):
  """trial(method, point, seed): {part: measures} of one student."""
  data, train = config["data"], config["train"]
  student = language.make_decoder(config["network"], data)

  @functools.cache
  def written(seed, part, num):
    rng = jax.random.fold_in(jax.random.key(seed), part)
    found = decoder_lib.sample(oracle, oracle_params, rng, 1.0, num=num)
    return np.asarray(found)

  # The seed of the students' corpora is theirs; that of the test no student's.
  test = written(2**31 - 1, 0, data["num_test"])
  trainers = {
    name: language.make_trainer(student, method)
    for name, method in language_units.METHODS.items()
  }

  # A temperature is of samples: its models are those of the likelihood.
  same = {}

  def trained(method, point, seed):
    loss = language_units.METHODS[method].loss
    of_training = {k: v for k, v in point.items() if k != "temperature"}
    key = loss, seed, tuple(sorted(of_training.items()))
    if key not in same:
      corpus = written(seed, 0, data["num_train"])
      order = splits.batches(np.arange(len(corpus)), seed, **train)
      start = decoder_lib.init(student, jax.random.key(seed))
      frozen = decoder_lib.head(start)
      same[key] = trainers[method](start, frozen, corpus[order], of_training)
    return same[key]

  def trial(method, point, seed):
    validation = written(seed, 1, data["num_validation"])
    temperature = point.get("temperature", 1.0)
    if method == "oracle":
      model, params = oracle, oracle_params
    else:
      model, params = student, trained(method, point, seed)
    rng = jax.random.fold_in(jax.random.key(seed), 2)
    samples = np.asarray(
      decoder_lib.sample(
        model, params, rng, temperature, num=data["num_samples"]
      )
    )

    def log_q(tokens):
      return language.log_likelihood(model, params, tokens, temperature)

    return {
      "validation": {
        "log_likelihood": log_q(validation),
        "bleu": ngrams.bleu(samples, validation),
      },
      "test": {
        "log_likelihood": log_q(test),
        "oracle_log_likelihood": language.log_likelihood(
          oracle, oracle_params, samples
        ),
        "total_variation": language.total_variation(
          oracle, oracle_params, model, params, test, temperature
        ),
        "bleu": ngrams.bleu(samples, test),
        "self_bleu": ngrams.self_bleu(samples),
      },
    }

  return trial


def run(config, data_dir, folder: pathlib.Path, path: pathlib.Path):
  """All units of a plain config; their records."""
  units = language_units.of_config(config, REFERENCES)
  read = text.read(config["data"]["name"], data_dir)
  oracle, params = make_oracle(config["data"], read, folder)
  return language_units.run(
    config, units, make_trial(config, oracle, params), path
  )
