# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/paper.md that are measured: memory, speed, pooling.

From experiments/results/paper_*.jsonl; the paper's numbers stand beside ours.
"""

from scripts import paper_costs
from scripts import paper_rows
from scripts import plan_rows
from scripts import plan_tables
from scripts import results


def paper_table_1() -> str:
  """A layer at high and at low resolution."""
  record = results.newest("paper_convolutions")
  if record is None:
    return "Not yet measured."
  # Kernel, features and total; "TFLOPs". arXiv 2301.11093, table 1.
  paper = {
    (256, 128): ("2.8 MB", "16 GB", "16 GB", "9"),
    (16, 1024): ("180 MB", "0.5 GB", "0.7 GB", "2.3"),
  }
  rows = []
  for layer in record["layers"]:
    side, channels = layer["side"], layer["channels"]
    name = f"({side}, {side}, {channels})"
    copies, gib = layer["kernel_copies"], 2**30
    rows.append((name, "paper", *paper[side, channels]))
    rows.append(
      (
        "",
        "compiled",
        f"{copies * layer['kernel_bytes'] / 2**20:.4g} MiB",
        f"{layer['feature_bytes'] / gib:.4g} GiB",
        f"{layer['total_bytes'] / gib:.3g} GiB",
        f"{layer['flops'] / 2 / 2**40:.3g}",
      )
    )
  header = (
    "feature map",
    "",
    "kernel",
    "features",
    "total",
    "multiply-adds / 2^40",
  )
  first, second = record["layers"]
  ratio = first["total_bytes"] / second["total_bytes"]
  return (
    f"{results.markdown(header, rows)}\n\nBatch of {first['batch']}; totals "
    f"{ratio:.1f} : 1 ({results.where(record['environment'])})."
  )


def _planned_flops(config: str, plans: dict) -> float | None:
  """Of the full training step for an image, in the program that was planned."""
  planned = plan_rows.ablations()[config]
  plan = plans.get(plan_rows.Row(planned, plan_rows.ABLATIONS_TOPOLOGY))
  if plan is None or "speed" not in plan["train_step"]:
    return None
  return plan_tables.compiled_flops(plan["train_step"], plan)


def _speed(table: int) -> str:
  record = results.newest("paper_speed", table=table)
  if record is None:
    return "Not yet measured."
  of_row = {
    row.config.partition(",")[2]: row for row in paper_rows.of_table(table)
  }
  plans = plan_tables.newest_plans()
  planned = {
    key: _planned_flops(row.config, plans) for key, row in of_row.items()
  }

  def by(flops: dict) -> dict[str, str]:
    """Relative speeds of FLOPs, as far as they are known."""
    base = flops[record["baseline"]]
    return {
      k: f"{base / n:.0%}" if base and n else "-" for k, n in flops.items()
    }

  full = {k: r["full_size"]["train_flops"] for k, r in record["rows"].items()}
  narrow = {
    k: r["measured"]["compiled_flops"] for k, r in record["rows"].items()
  }
  by_full, by_planned, by_narrow = by(full), by(planned), by(narrow)
  rows = []
  for key, row in record["rows"].items():
    measured = row["measured"]
    low, high = measured["relative_speed_quartiles"]
    rows.append(
      (
        of_row[key].name,
        f"{paper_costs.RELATIVE_SPEED[table][key]:.0%}",
        by_full[key],
        by_planned[key],
        by_narrow[key],
        f"{measured['relative_speed']:.0%} ({low:.0%} to {high:.0%})",
        f"{full[key] / 1e12:.2f}",
        f"{row['full_size']['parameters'] / 1e9:.2f} B",
        "{:.2f} s ({:.2f} to {:.2f})".format(
          measured["seconds_per_step"], *measured["seconds_quartiles"]
        ),
      )
    )
  header = (
    "relative speed",
    "paper, on TPUs",
    "by FLOPs of the formulas, full size",
    f"by FLOPs compiled for {plan_rows.ABLATIONS_TOPOLOGY}, full size",
    "by FLOPs compiled here, narrow",
    "measured here, narrow (quartiles)",
    "TFLOP an image, full size",
    "parameters, full size",
    "step, narrow (quartiles)",
  )
  first = next(iter(record["rows"].values()))["measured"]
  return (
    f"{results.markdown(header, rows)}\n\nNarrow: all widths divided by "
    f"{record['width_divisor']}, {first['image_size']} pixels, batch "
    f"{first['batch_size']}, {first['dtype']}; medians of {record['rounds']} "
    f"turns ({results.where(record['environment'])})."
  )


def paper_speed_4() -> str:
  """Speed of table 4's rows."""
  return _speed(4)


def paper_speed_5() -> str:
  """Speed of table 5's rows."""
  return _speed(5)


def paper_pooling() -> str:
  """What pooling does to the SNR of photographs."""
  record = results.newest("paper_pooling")
  if record is None:
    return "Not yet measured."
  rows = [
    (
      f"{row['photograph']}, {row['size']} pixels",
      row["transform"],
      f"{row['factor'] ** 2}",
      f"{row['snr']:.2f}",
      f"{row['contrast_snr']:.2f}",
      f"{row['noise']:.2f}",
      f"{row['signal']:.2f}",
    )
    for row in record["rows"]
  ]
  header = (
    "photograph",
    "low resolution by",
    "s^2",
    "SNR, times",
    "of the contrast",
    "noise power, divided by",
    "signal power, times",
  )
  return (
    f"{results.markdown(header, rows)}\n\n"
    f"{record['num_noises']} draws of noise "
    f"({results.where(record['environment'])})."
  )
