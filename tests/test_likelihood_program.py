# SPDX-License-Identifier: Apache-2.0
"""The real program, on a run that has hardly begun: v_hat is nearly 0."""

import json
import math

import numpy as np
import pytest
import real_runs

from simple_diffusion import data
from simple_diffusion import greys
from simple_diffusion import images

TINY = (
  *real_runs.TINY,
  "--config.train.batch_size=8",
  "--config.train.total_steps=2",
  "--config.train.checkpoint_every_steps=2",
  "--config.eval.batch_size=16",
)
COUNT = 40  # Images: two batches and a half.


def finish(children):
  """Waits for a good end, longer than usual; returns what was printed."""
  ended = real_runs.end(children, timeout=300)
  for code, _, err in ended:
    assert code == 0, err
  return [out for _, out, _ in ended]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run") / "workdir"
  finish([real_runs.start(*TINY, f"--workdir={folder}")])
  return folder


def start(workdir, results, *args):
  program = ["-m", "experiments.likelihood", f"--workdir={workdir}"]
  return real_runs.start_python([*program, f"--results={results}", *args])


def held_out():
  source = data.make_source(name="digits", split="test")
  x = images.to_float(np.stack([source[i]["image"] for i in range(COUNT)]))
  return np.float64(greys.on_grid(x, num_levels=17))


PARSE = """
import json, sys
from absl import flags
from configs import digits
from experiments import likelihood
from simple_diffusion import build
config, found = digits.get_config(), []
config.train.label_dropout = 0.0
for line in json.loads(sys.argv[1]):
  flags.FLAGS.unparse_flags()
  flags.FLAGS(["likelihood", *line])
  try:
    likelihood.check_flags()
    found.append(
      likelihood.protocol_from_flags(config, build.make_schedule(config))
    )
  except ValueError as error:
    found.append(str(error))
print(json.dumps(found))
"""


def parsed(lines):
  """The protocol, or the error, that each list of flags gives."""
  child = real_runs.start_python(["-c", PARSE, json.dumps(lines)])
  (out,) = finish([child])
  return json.loads(out)


def test_flags_of_the_other_bound_are_errors():
  vlb = ("--num_samples=4", "--spacing=time", "--noclip")
  ode = ("--num_probes=3", "--dequantisation=normal")
  samplers = (
    *("--method=ddim", "--gamma=0.2"),
    *("--guidance_scale=2", "--guidance_interval=-3,5"),
  )
  wrong = [("ode", flag, "--bound=vlb") for flag in vlb]
  wrong += [("vlb", flag, "--bound=ode") for flag in ode]
  wrong += [(b, flag, "samplers") for b in ("vlb", "ode") for flag in samplers]
  # Also with the value that is the default.
  wrong += [("ode", "--num_samples=128", "--bound=vlb")]
  wrong += [("ode", "--spacing=logsnr", "--bound=vlb")]
  right = [["--bound=vlb", *vlb], ["--bound=ode", *ode], ["--bound=vlb"]]
  untrained = ["--bound=vlb", "--noconditional"]
  found = parsed(
    [[f"--bound={bound}", flag] for bound, flag, _ in wrong]
    + [*right, untrained]
  )
  *errors, first, second, third, fourth = found
  assert "--noconditional needs a network that was also trained" in fourth
  for (bound, flag, what), error in zip(wrong, errors, strict=True):
    name = flag.replace("--noclip", "--clip").partition("=")[0]
    assert error == (
      f"{name} is for {what}; leave it out of --bound={bound}, which ignores it"
    )
  assert first["num_samples"] == 4 and first["spacing"] == "time"
  assert not first["clip"] and third["clip"]
  assert third["num_samples"] == 128 and third["spacing"] == "logsnr"
  assert second["num_probes"] == 3 and second["dequantisation"] == "normal"


LOWER = """
import jax
import jax.numpy as jnp
from configs import digits
from experiments import likelihood
from simple_diffusion import build
from simple_diffusion import sampler
from simple_diffusion import sharding
config = digits.get_config()
config.model.dtype = "bfloat16"
protocol = dict(
  bound="vlb", num_levels=17, logsnr_end=6.0, num_steps=None, num_samples=1,
  spacing="logsnr", clip=True,
)
x, labels = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)
network = build.make_network(config.model)
inputs = jax.random.key(0), x, jnp.zeros(1), labels
params = jax.eval_shape(network.init, *inputs)["params"]
bits_fn = likelihood.make_bits_fn(
  config, sharding.make_mesh(data=1, fsdp=1), protocol
)
keys = sampler.keys_for(0, jnp.arange(1))
of_run = jax.jit(network.init_with_output).lower(*inputs)
for lowered in (of_run, bits_fn.lower(params, keys, x, labels)):
  text = lowered.as_text()
  print("bf16" in text, "DEFAULT" in text, "HIGHEST" in text)
"""


def test_a_run_in_bfloat16_is_measured_in_float32():
  (out,) = finish([real_runs.start_python(["-c", LOWER])])
  of_run, of_bits = out.splitlines()
  assert of_run == "True True False" and of_bits == "False False True"


@pytest.mark.slow
def test_bounds_and_a_mistake(workdir, tmp_path):
  results = {bound: tmp_path / f"new/{bound}.jsonl" for bound in ("vlb", "ode")}
  common = (f"--num_examples={COUNT}", "--logsnr_end=6")
  printed = finish(
    [
      start(
        workdir, results["vlb"], *common, "--bound=vlb", "--noclip", "--seed=1"
      ),
      start(workdir, results["ode"], *common, "--bound=ode", "--num_steps=8"),
    ]
  )
  records = {}
  for (bound, path), out in zip(results.items(), printed, strict=True):
    (line,) = path.read_text().splitlines()
    records[bound] = record = json.loads(line)
    assert record["num_examples"] == COUNT and record["split"] == "test"
    assert record["checkpoint_step"] == 2 and record["ema_decay"] == 0.999
    assert record["config"] == json.loads((workdir / "config.json").read_text())
    assert record["environment"]["devices"] == ["cpu"]
    assert f"bits_per_dim: {record['bits_per_dim']:.4f}" in out
    assert 0 < record["standard_errors"]["bits_per_dim"] < 0.1
  assert records["vlb"]["protocol"] == {
    "bound": "vlb",
    "num_levels": 17,
    "logsnr_end": 6.0,
    "conditional": True,
    "seed": 1,
    "num_steps": None,
    "num_samples": 128,
    "spacing": "logsnr",
    "clip": False,
  }
  protocol = records["ode"]["protocol"]
  assert (protocol["num_steps"], protocol["num_probes"]) == (8, 1)
  assert protocol["dequantisation"] == "uniform"

  # v_hat = 0: eps_hat = sigma z, so the eps-MSE is alpha^4 + alpha^2 sigma^2
  # x^2, whose integral is elementary; and the flow moves nothing.
  x2 = np.mean(held_out() ** 2)
  alpha2, alpha2_1 = (1 / (1 + math.exp(-end)) for end in (6, -15))
  softplus = math.log1p(math.exp(6)) - math.log1p(math.exp(-15))
  nats = (softplus - (alpha2 - alpha2_1) * (1 - x2)) / 2
  assert records["vlb"]["diffusion"] == pytest.approx(
    nats / math.log(2), rel=0.02
  )
  nats = math.log(2 * math.pi) / 2 - math.log(alpha2) / 2
  nats += alpha2 * (x2 + (2 / 16) ** 2 / 12) / 2 - math.log(2 / 16)
  for name in ("bits_per_dim", "at_half_the_steps"):
    assert records["ode"][name] == pytest.approx(nats / math.log(2), rel=0.02)
  parts = ("prior", "diffusion", "reconstruction")
  assert records["vlb"]["bits_per_dim"] == pytest.approx(
    sum(records["vlb"][part] for part in parts)
  )

  bad = start(workdir, tmp_path / "no", "--bound=ode", "--guidance_scale=2")
  ((code, _, err),) = real_runs.end([bad])
  assert code == 2 and "--guidance_scale is for samplers" in err
  assert not (tmp_path / "no").exists()
