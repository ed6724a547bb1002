# SPDX-License-Identifier: Apache-2.0
"""What a number of samples depends on, as captions and cells say it."""


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
