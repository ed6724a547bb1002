# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/paper.md that are measured: memory, speed, pooling.

From experiments/results/paper_*.jsonl; the paper's numbers stand beside ours.
"""

from scripts import paper_costs
from scripts import paper_rows
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


def _speed(table: int) -> str:
  record = results.newest("paper_speed", table=table)
  if record is None:
    return "Not yet measured."
  names = {
    row.config.partition(",")[2]: row.name for row in paper_rows.of_table(table)
  }
  rows, full = [], {k: r["full_size"] for k, r in record["rows"].items()}
  baseline = full[record["baseline"]]["train_flops"]
  for key, row in record["rows"].items():
    measured = row["measured"]
    flops = full[key]["train_flops"]
    rows.append(
      (
        names[key],
        f"{paper_costs.RELATIVE_SPEED[table][key]:.0%}",
        f"{baseline / flops:.0%}",
        f"{measured['relative_speed']:.0%}",
        f"{flops / 1e12:.2f}",
        f"{full[key]['parameters'] / 1e9:.2f} B",
        "{:.1f} s ({:.1f} to {:.1f})".format(
          measured["seconds_per_step"], *measured["seconds_quartiles"]
        ),
        f"{measured['compiled_flops'] / measured['batch_size'] / 1e9:.1f}",
      )
    )
  header = (
    "relative speed",
    "paper, on TPUs",
    "by FLOPs, full size",
    "measured, narrow",
    "TFLOP an image, full size",
    "parameters, full size",
    "step, narrow (quartiles)",
    "GFLOP an image compiled, narrow",
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
