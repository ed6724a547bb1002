# SPDX-License-Identifier: Apache-2.0
"""Time and memory of one training step of the adaptation, loss by loss.

Each loss is computed with all logits in memory, as one writes it first, and
from hidden states and head by losses.linear_*; both on the same random tokens.
All are timed in turn, round after round, so that what else the machine does is
shared. Memory is what the compiled program needs beside its arguments.
"""

import pathlib
import time

import jax
import numpy as np
import optax
import tqdm

from experiments import records
from experiments import workdir
from experiments.loss_studies import decoder as decoder_lib
from experiments.loss_studies import language
from experiments.loss_studies import language_methods
from experiments.loss_studies import study
import losses

# Maps of the NLL and the other mode cost no more.
NAMES = ("likelihood", "emo_mode1_fixed")


def dense_likelihood(hidden, head, frozen, tokens, point):
  del frozen, point
  return optax.softmax_cross_entropy_with_integer_labels(
    hidden @ head.T, tokens
  )


def dense_emo(hidden, head, frozen, tokens, point):
  del point
  return losses.emo_mode1(*losses.emo_terms(hidden @ head.T, tokens, frozen))


DENSE = dict(zip(NAMES, (dense_likelihood, dense_emo), strict=True))


def forms():
  """(name, form, loss) of what is compared."""
  for name in NAMES:
    yield name, "dense", DENSE[name]
    yield name, "tiled", language_methods.METHODS[name].loss


def compiled(decoder, loss, params, tokens):
  """A step's loss and gradients as a compiled program."""
  frozen = decoder_lib.head(params)

  def mean(params, frozen, tokens):
    hidden = decoder_lib.hidden(decoder, params, tokens)
    return loss(hidden, decoder_lib.head(params), frozen, tokens, {}).mean()

  step = jax.jit(jax.value_and_grad(mean))
  return step.lower(params, frozen, tokens).compile()


def measure(config: dict) -> list[dict]:
  """loss, form, milliseconds (median), temporary MiB of each."""
  decoder = language.make_decoder(config["network"], config["data"])
  params = decoder_lib.init(decoder, jax.random.key(0))
  shape = config["train"]["batch_size"], decoder.context
  rng = np.random.default_rng(0)
  tokens = np.int32(rng.integers(0, decoder.vocab_size, shape))
  named = list(forms())
  programs = [compiled(decoder, loss, params, tokens) for *_, loss in named]
  arguments = params, decoder_lib.head(params), tokens
  times = np.zeros((config["rounds"], len(programs)))
  for k in tqdm.trange(len(times), unit="round"):
    for i, program in enumerate(programs):
      jax.block_until_ready(program(*arguments))  # The caches are its own.
      began = time.perf_counter()
      jax.block_until_ready(program(*arguments))
      times[k, i] = 1e3 * (time.perf_counter() - began)
  found = []
  for i, (name, form, _) in enumerate(named):
    size = programs[i].memory_analysis().temp_size_in_bytes
    found.append(
      {
        "loss": name,
        "form": form,
        "milliseconds": round(float(np.median(times[:, i])), 2),
        "temporary_mib": round(size / 2**20, 2),
      }
    )
  return found


def run(config: dict, data_dir, folder, path: pathlib.Path) -> None:
  """Appends one record; needs neither texts nor a folder."""
  del data_dir, folder
  record = {
    "settings": study.settings(config),
    "rounds": config["rounds"],
    "measured": measure(config),
    "environment": workdir.environment(),
  }
  records.append_result(path, record)
