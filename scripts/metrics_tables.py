# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/metrics.md, from experiments/results/metrics.jsonl."""

from scripts import results


def _protocol(record) -> str:
  environment = record["environment"]
  weights = f"weights {record['weights']}, " if "weights" in record else ""
  versions = record.get("references", {})
  references = "".join(f", {name} {v}" for name, v in versions.items())
  return (
    f"{record['num_images']:,} images a side, {weights}"
    f"jax {environment['versions']['jax']}{references}; commit "
    f"{environment['git_sha']}."
  )


def metrics_distances() -> str:
  """MobileNetV2's distances beside those that are known of its weights."""
  record = results.newest("metrics", part="distances")
  if record is None:
    return "Not yet run."
  rows = []
  kernels, frechets = record["rows"][::2], record["rows"][1::2]
  for kernel, frechet in zip(kernels, frechets, strict=True):
    rows.append(
      (
        kernel["check"].removeprefix("kernel distance to "),
        f"{kernel['ours']:.4f} ± {kernel['standard_error']:.4f}",
        f"{kernel['reference']:g}",
        f"{frechet['ours']:.1f}",
        f"{frechet['reference']:.1f}",
      )
    )
  first = f"{record['images']} against"
  header = (first, "kernel distance", "known", "Frechet", "known")
  return f"{results.markdown(header, rows)}\n\n{_protocol(record)}"


def metrics_copies() -> str:
  """What a file format does to the distances."""
  record = results.newest("metrics", part="copies")
  if record is None:
    return "Not yet run."
  rows = [
    (
      row["check"],
      f"{row['kernel_distance']:.4f} ± {row['standard_error']:.4f}",
      f"{max(row['frechet_distance'], 0):.2f}",  # 0 but for rounding.
    )
    for row in record["rows"]
  ]
  first = f"{record['images']} against the"
  header = (first, "kernel distance", "Frechet distance")
  return f"{results.markdown(header, rows)}\n\n{_protocol(record)}"


def metrics_pytorch() -> str:
  """Inception-v3 with random weights, and metrics, against others."""
  record = results.newest("metrics", part="pytorch")
  if record is None:
    return "Not yet run."
  rows = []
  for row in record["rows"]:
    name, is_largest, _ = row["check"].partition(", largest difference")
    rows.append(
      (
        name,
        row["against"],
        "" if is_largest else f"{row['ours']:.6g}",
        "" if is_largest else f"{row['reference']:.6g}",
        f"{row['difference']:.1e}{'' if is_largest else ' of it'}",
      )
    )
  header = ("what", "against", "ours", "theirs", "largest difference")
  return f"{results.markdown(header, rows)}\n\n{_protocol(record)}"


MAKERS = (metrics_distances, metrics_copies, metrics_pytorch)
