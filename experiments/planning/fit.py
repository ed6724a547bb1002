# SPDX-License-Identifier: Apache-2.0
"""What would make a training step fit: fsdp, rematerialisation, accumulation.

Candidates are tried by compiling them, cheapest first: more fsdp, if the state
needs it; "dots", which repeats only what is cheap; accumulation, which gathers
the parameters again for each part; "all", which repeats the forward pass.
"""

from collections.abc import Callable
from collections.abc import Iterator
import copy

POLICIES = ("none", "dots", "all")  # from the least to the most recomputation
STATE_SHARE = 0.5  # of the memory that parameters, EMA and moments may take


def changed(config: dict, overrides: dict) -> dict:
  """A copy of a config as JSON with values at dotted names replaced."""
  config = copy.deepcopy(config)
  for name, value in overrides.items():
    *sections, key = name.split(".")
    section = config
    for part in sections:
      section = section[part]
    section[key] = value
  return config


def flags(overrides: dict) -> str:
  """As they stand on a command line."""
  return " ".join(f"--config.{k}={v}" for k, v in overrides.items())


def _fsdp(mesh, num_devices) -> int:
  fsdp, data = mesh["fsdp"], mesh["data"]
  return fsdp if fsdp > 0 else num_devices // max(1, data)


def _fsdp_for_state(config, num_devices, state_bytes, usable) -> int | None:
  """The least fsdp with which the state leaves room, if not the present one."""
  now = _fsdp(config["mesh"], num_devices)
  whole = state_bytes * now
  for fsdp in range(now, num_devices + 1):
    if num_devices % fsdp == 0 and whole / fsdp <= STATE_SHARE * usable:
      return fsdp if fsdp > now else None
  return num_devices if now < num_devices else None


def candidates(
  config: dict, *, num_devices: int, state_bytes: int, usable: int
) -> Iterator[dict]:
  """Overrides to try, in order.

  Args:
    config: as JSON.
    num_devices: of the topology.
    state_bytes: of parameters, EMA and optimizer on one device now.
    usable: bytes of a device.
  """
  split = {}
  if fsdp := _fsdp_for_state(config, num_devices, state_bytes, usable):
    split = {"mesh.data": -1, "mesh.fsdp": fsdp}
    yield split
  now = config["train"]["accum_steps"]
  local = config["train"]["batch_size"] // num_devices
  accums = [now]
  accums += [n for n in (2, 4, 8, 16, 32, 64) if n > now and local % n == 0]
  remat = config["model"]["remat"]
  stronger = POLICIES[POLICIES.index(remat) + 1 :]
  mild = [policy for policy in [remat, *stronger] if policy != "all"]
  pairs = [(policy, accum) for accum in accums[:3] for policy in mild]
  pairs += [("all", accum) for accum in accums]
  for policy, accum in pairs:
    overrides = dict(split)
    if policy != remat:
      overrides["model.remat"] = policy
    if accum != now:
      overrides["train.accum_steps"] = accum
    if overrides not in ({}, split):
      yield overrides


def _temporaries(outcome) -> int:
  """Bytes beside the state, as measured or as the compiler complained."""
  state = sum(outcome["device_bytes"].values())
  peak = outcome["memory"]["peak"] if "memory" in outcome else outcome["needed"]
  return max(0, (peak or 0) - state)


def _hopeless(overrides, tried, usable) -> bool:
  """Whether a try that differs only in less accumulation needed too much.

  Temporaries shrink at most in proportion to accumulation.
  """
  name = "train.accum_steps"
  for other, outcome in tried:
    same = (overrides | {name: 0}) == (other | {name: 0})
    shrinks = other[name] / overrides[name]
    if same and _temporaries(outcome) * shrinks > usable:
      return True
  return False


def search(
  config: dict,
  first: dict,
  *,
  num_devices: int,
  usable: int,
  least_spare: float,
  compile_step: Callable[[dict], dict],
  max_tries: int = 8,
) -> list[dict]:
  """Compiles candidates until one leaves enough memory.

  Args:
    config: as JSON.
    first: the answer for the config itself.
    num_devices: of the topology.
    usable: bytes of a device.
    least_spare: share of them that has to be left.
    compile_step: from a config to the answer of `child`.
    max_tries: compilations at most.

  Returns:
    In order: {"flags", "overrides", "peak" or None, "fits"}; the last one fits,
    unless none does.
  """
  state = sum(
    first["device_bytes"][k] for k in ("parameters", "ema", "optimizer")
  )
  now = {"train.accum_steps": config["train"]["accum_steps"]}
  tried, report = [(now, first)], []
  options = candidates(
    config, num_devices=num_devices, state_bytes=state, usable=usable
  )
  for overrides in options:
    if _hopeless(now | overrides, tried, usable):
      continue
    if len(report) == max_tries:
      break
    outcome = compile_step(changed(config, overrides))
    tried.append((now | overrides, outcome))
    peak = outcome["memory"]["peak"] if "memory" in outcome else None
    fits = peak is not None and peak <= (1 - least_spare) * usable
    report.append(
      {
        "flags": flags(overrides),
        "overrides": overrides,
        "peak": peak,
        "fits": fits,
      }
    )
    if fits:
      break
  return report
