# SPDX-License-Identifier: Apache-2.0
"""Our FID and IS of the rows, from what `experiments.evaluate` measured."""

from experiments import workdir
from scripts import paper_rows
from scripts import protocols
from scripts import results
from simple_diffusion.features import inception


def record_of(row: paper_rows.Row) -> dict | None:
  """The record of the row's FID, of any seed.

  It is of the row's config, steps, sampler and guidance, in features of FID's
  network, against the split that the config holds out. Of several the one of
  most samples, then of the original resize, then the newest: a quick look at
  fewer samples, whose FID is larger, changes nothing.
  """
  config = paper_rows.load(row)
  if row.guidance_scale is not None:
    config.sample.guidance_scale = row.guidance_scale
  config = workdir.as_json(config)
  found = [
    record
    for record in results.lines(config["data"]["name"])
    if "samples" in record
    and record["samples"]["features"]["name"] in inception.PROTOCOLS
    # Not the config's: a longer run passes by the row's checkpoint.
    and record["checkpoint_step"] == config["train"]["total_steps"]
    and record["held_out_split"] == config["data"]["eval_split"]
    and results.is_of(record, config, apart=("train.seed",))
  ]

  def nearness(record):
    s = record["samples"]
    resizes = list(inception.PROTOCOLS)
    return s["num_samples"], -resizes.index(s["features"]["name"])

  # Of equals `max` takes the first.
  return max(reversed(found), key=nearness, default=None)


def measured(row: paper_rows.Row) -> str:
  """FID train / eval and IS, or "not yet run"; `notes` have the protocol."""
  record = record_of(row)
  if record is None:
    return "not yet run"
  s = record["samples"]
  # 50,000 samples and this network are the paper's protocol; fewer have a
  # larger FID, and the other network's resize another one.
  score, _ = s["inception_score"]
  return (
    f"{s['train']['frechet']:.2f} / {s['held_out']['frechet']:.2f}, IS "
    f"{score:.1f}, {s['num_samples']:,} samples, {s['features']['name']}"
  )


def notes(rows) -> str:
  """Below a table: the protocol of each of its rows that is measured."""
  lines = []
  for row in rows:
    if row.config is None or (record := record_of(row)) is None:
      continue
    size = f"{row.size} pixels"
    lines.append(
      f"* ours, `{row.config}`: step {record['checkpoint_step']:,}, "
      f"{protocols.sampler(record)}. {protocols.measures({size: record})} "
      f"{results.where(record['environment'])}."
    )
  return "\n\n" + "\n".join(lines) if lines else ""
