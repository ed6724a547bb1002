# SPDX-License-Identifier: Apache-2.0
"""The paper's commands: programs take them, and they trace at full size."""

import json
import shlex

import chex
import jax
import jax.numpy as jnp
import pytest
import real_runs

from experiments import checks
from experiments import workdir as workdir_lib
from scripts import paper_rows
from simple_diffusion import build
from simple_diffusion import objective
from simple_diffusion import sampler

OURS = [row for row in paper_rows.ROWS if row.config]

PARSE = """
import json, sys
from absl import flags
from experiments import {program}, workdir
found = []
for command in json.loads(sys.argv[1]):
  flags.FLAGS.unparse_flags()
  flags.FLAGS(command)
  found.append({value})
print(json.dumps(found))
"""


def parsed(program, commands, value):
  """What a program makes of command lines; parsed by its own flags."""
  lines = [shlex.split(command) for command in commands]
  for line in lines:
    assert line[:3] == ["python", "-m", f"experiments.{program}"]
  child = real_runs.start_python(
    [
      "-c",
      PARSE.format(program=program, value=value),
      json.dumps([line[2:] for line in lines]),
    ]
  )
  ((code, out, err),) = real_runs.end([child])
  assert code == 0, err
  return json.loads(out)


def test_train_commands_give_the_rows_configs():
  found = parsed(
    "train",
    [paper_rows.train_command(row) for row in OURS],
    "[workdir.as_json(flags.FLAGS.config), flags.FLAGS.workdir]",
  )
  for row, (config, folder) in zip(OURS, found, strict=True):
    assert config == workdir_lib.as_json(paper_rows.load(row))
    assert folder == paper_rows.workdir(row)
  # No two networks in one folder.
  runs = {row.config: paper_rows.workdir(row) for row in OURS}
  assert len(set(runs.values())) == len(runs)


def test_evaluate_commands_guide_as_the_row_says():
  found = parsed(
    "evaluate",
    [paper_rows.evaluate_command(row) for row in OURS],
    "[flags.FLAGS.guidance_scale, flags.FLAGS.workdir,"
    " flags.FLAGS.feature_network]",
  )
  for row, (scale, folder, network) in zip(OURS, found, strict=True):
    assert scale == row.guidance_scale
    assert network == "inception_fid"
    assert folder == paper_rows.workdir(row)


def distinct(rows, key):
  """The first row of each key, as parameters named by their config."""
  first = {}
  for row in rows:
    first.setdefault(key(row), row)
  return list(first.values())


def model_of(row):
  return paper_rows.load(row).model.to_json(sort_keys=True), row.size


NETWORKS = distinct(OURS, model_of)
# One of each table; two seconds of tracing each. The rest is for -m slow.
FAST = ("2,256,cosine", "3,128", "4,2", "5,conv_2", "6,1024,plain", "512,uvit")


@pytest.mark.parametrize(
  "row",
  [
    row
    if row.config.partition(":")[2] in FAST
    else pytest.param(row, marks=pytest.mark.slow)
    for row in NETWORKS
  ],
  ids=lambda row: row.config,
)
def test_networks_trace_at_full_size(row):
  config = paper_rows.load(row)
  network, shape = build.make_network(config.model), build.image_shape(config)
  key = jax.random.key(0)

  def output(*inputs):
    rngs = {"params": key, "dropout": key}
    return network.init_with_output(rngs, *inputs, train=True)[0]

  images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
  logsnr = jax.ShapeDtypeStruct((2,), jnp.float32)
  labels = jax.ShapeDtypeStruct((2,), jnp.int32)
  chex.assert_shape(
    jax.eval_shape(output, images, logsnr, labels), images.shape
  )


class Identity:
  """Stands in for a network: what it says of z is z."""

  def apply(self, params, z, logsnr, labels):
    return z


def without_network(row):
  config = paper_rows.load(row)
  config.sample.guidance_scale = row.guidance_scale or 1.0
  parts = (config.schedule, config.objective, config.sample)
  return row.size, *(part.to_json(sort_keys=True) for part in parts)


@pytest.mark.parametrize(
  "row", distinct(OURS, without_network), ids=lambda row: row.config
)
def test_losses_and_samplers_trace_at_full_size(row):
  config = paper_rows.load(row)
  checks.check_train(config, num_devices=64)  # the fewest that the paper had
  config.sample.guidance_scale = row.guidance_scale or 1.0
  images = jax.ShapeDtypeStruct((2, *build.image_shape(config)), jnp.float32)
  schedule = build.make_schedule(config)
  loss, _ = jax.eval_shape(
    lambda x: objective.diffusion_loss(
      x,
      x,
      jnp.full(2, 0.5),
      None,
      predict_fn=lambda z, *_: z,
      schedule=schedule,
      **config.objective,
    ),
    images,
  )
  chex.assert_shape(loss, (2,))
  samples = jax.eval_shape(
    build.make_sample_fn(config, Identity()),
    {},
    sampler.keys_for(0, jnp.arange(2)),
    jnp.zeros(2, jnp.int32),
  )
  chex.assert_equal_shape([samples, images])


@pytest.mark.slow
@pytest.mark.parametrize("row", NETWORKS, ids=lambda row: row.config)
def test_whole_programs_trace_at_full_size(row):
  checks.check_shapes(paper_rows.load(row))
