# SPDX-License-Identifier: Apache-2.0
"""Table 1 of the paper: why blocks belong at 16x16, from compiled programs.

  python -m scripts.paper_convolutions

A 3x3 convolution of a batch of 1024 with 128 channels at 256x256, and with 1024
at 16x16: the second has 64 times the weights and a quarter of the FLOPs. Each
is compiled, not run. The paper does not say how it counts; its numbers come out
with (arXiv 2301.11093, table 1)

  kernel    five float32 copies: the weights, their gradient, average and two
            moments of Adam; MiB
  features  one bfloat16 map, which the backward pass keeps; GiB
  FLOPs     multiply-adds over 2^40 ("TFLOPs"), every pixel as in the interior

Here memory is what the program's arguments and results take, and FLOPs are
XLA's count of the float32 program, two for a multiply-add: a CPU's bfloat16
program has conversions, which count too. XLA leaves out what falls on the zeros
around the image.

Appends one record to experiments/results/paper_convolutions.jsonl.
"""

import pathlib

import jax
import jax.numpy as jnp

from experiments import cli
from experiments import records
from experiments import workdir

BATCH = 1024
LAYERS = ((256, 128), (16, 1024))  # side of the maps, channels
NUM_COPIES = 5

RESULTS = pathlib.Path("experiments/results/paper_convolutions.jsonl")


def _convolve(features, kernel):
  return jax.lax.conv_general_dilated(
    features,
    kernel.astype(features.dtype),
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _compile(batch, side, channels, dtype):
  features = jax.ShapeDtypeStruct((batch, side, side, channels), dtype)
  kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
  return jax.jit(_convolve).lower(features, kernel).compile()


def measure(batch: int, side: int, channels: int) -> dict:
  """Bytes and FLOPs of one layer, from its compiled programs."""
  memory = _compile(batch, side, channels, jnp.bfloat16).memory_analysis()
  features = memory.output_size_in_bytes
  kernel = memory.argument_size_in_bytes - features
  costs = _compile(batch, side, channels, jnp.float32).cost_analysis()
  return {
    "batch": batch,
    "side": side,
    "channels": channels,
    "kernel_bytes": kernel,
    "kernel_copies": NUM_COPIES,
    "feature_bytes": features,
    "total_bytes": NUM_COPIES * kernel + features,
    "flops": costs["flops"],
  }


def main(_):
  layers = [measure(BATCH, side, channels) for side, channels in LAYERS]
  for layer in layers:
    print(
      f"({layer['side']}, {layer['side']}, {layer['channels']}): "
      f"{layer['total_bytes'] / 2**30:.2f} GiB, "
      f"{layer['flops'] / 2 / 2**40:.2f} x 2^40 multiply-adds"
    )
  record = {"layers": layers, "environment": workdir.environment()}
  records.append_result(RESULTS, record)


if __name__ == "__main__":
  cli.run(main)
