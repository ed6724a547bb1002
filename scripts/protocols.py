# SPDX-License-Identifier: Apache-2.0
"""What numbers depend on, as captions and cells say it."""


def evaluations(samples: dict) -> str:
  """Of the network, for each image; guidance asks it with and without class."""
  twice = " x 2" if samples["guidance_scale"] != 1 else ""
  return f"{samples['num_network_evaluations']}{twice}"


def guidance(samples: dict) -> str:
  """Its scale, and where in log-SNR if not everywhere."""
  scale = f"{samples['guidance_scale']:g}"
  if interval := samples["guidance_interval"]:
    return f"{scale}, log-SNR {interval[0]:g} to {interval[1]:g}"
  return scale


def sampler(record: dict) -> str:
  """How samples were made, of an evaluation's record."""
  s = record["samples"]
  guided = f"guidance {guidance(s)}"
  if s["guidance_scale"] == 1:
    guided = "no guidance"
  return (
    f"{evaluations(s)} evaluations of {s['method']} uniform in "
    f"{s['spacing']}, {guided}, EMA {record['ema_decay']:g}"
  )


def _all(values, form: str) -> str:
  """Each value once; "" if older records do not say it."""
  found = set(values)
  if None in found:
    return ""
  return f", {form.format(' and '.join(map(str, sorted(found))))}"


def held_out_loss(data: str, runs: list[dict]) -> str:
  """Of which images and noise losses are, and of which trainings.

  Args:
    data: which photographs.
    runs: records of one data set and split.

  Raises:
    ValueError: if they are of several splits.
  """
  split, *others = {r["held_out_split"] for r in runs}
  if others:
    raise ValueError(
      f"losses of the splits {split} and {', '.join(others)} of {data} are in "
      "one table: keep one of them in experiments/results"
    )
  of_training = [r["config"]["train"] for r in runs]
  steps = sorted({r["checkpoint_step"] for r in runs})
  batch_sizes = sorted({t["batch_size"] for t in of_training})
  return (
    f"the {split} split of {data}"
    + _all((r.get("num_held_out") for r in runs), "{} images")
    + _all((r.get("held_out_hash") for r in runs), "of pixels {}")
    + _all((r.get("seed") for r in runs), "noise of seed {}")
    + _all((r["ema_decay"] for r in runs), "EMA {}")
    + f", {' and '.join(f'{n:,}' for n in steps)} steps of "
    + f"{' and '.join(map(str, batch_sizes))} images"
  )


def measures(newest: dict[str, dict]) -> str:
  """How many samples, by which features, against which images.

  Args:
    newest: by a name of its own a record of each reference; in all else they
      agree.
  """
  *_, record = newest.values()
  s = record["samples"]
  # Of before labels were recorded nothing is said.
  labels = f", classes {s['labels']}" if "labels" in s else ""
  references = "; ".join(
    f"{name}: {r['samples']['train']['num_images']:,} training images "
    f"({r['samples']['train']['reference_hash']}), "
    f"{r['samples']['held_out']['num_images']:,} held out "
    f"({r['samples']['held_out']['reference_hash']})"
    for name, r in newest.items()
  )
  return (
    f"{s['num_samples']:,} samples of seed {s['seed']}{labels}, features of "
    f"{s['features']['name']} ({s['features']['weights_hash']}) of images "
    f"resized {s['features']['resize']}, crop "
    f"{record['config']['data']['crop']}; {references}."
  )
