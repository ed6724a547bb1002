#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Samplers at 16, 32, 64 and 512 evaluations and a sweep of guidance, one after
# the other on one run: the rows of docs/samplers.md, and those not yet run.
#
#   sh scripts/photograph_samplers.sh runs/clothing64_unet mobilenet_v2.npz
#
# Each appends a line to experiments/results/photographs.jsonl and draws a grid
# into the run's folder. `make tables` puts the newest of each sampler into the
# docs.
set -eu
workdir=$1
weights=$2

# The grid's name, and flags.
evaluate() {
  name=$1
  shift
  ${PYTHON:-python} -m experiments.evaluate --workdir="$workdir" \
    --results=experiments/results/photographs.jsonl \
    --feature_network=mobilenet_v2 --feature_weights="$weights" \
    --grid="$workdir/grids/$name.jpg" "$@"
}

# Ancestral and DDIM as published are uniform in time.
for evaluations in 16 32 64 512; do
  for method in ancestral ddim; do
    evaluate ${method}_$evaluations \
      --method=$method --num_steps=$evaluations --spacing=time
  done
  for method in dpmpp_2m dpmpp_2m_sde; do
    evaluate ${method}_$evaluations \
      --method=$method --num_steps=$evaluations --spacing=logsnr
  done
  # Two evaluations a step, but for the last: 15, 31, 63 and 511.
  evaluate heun_$evaluations \
    --method=heun --num_steps=$((evaluations / 2)) --spacing=logsnr
done

# The paper's table 9, and beyond. An interval costs both evaluations outside
# of it too.
for scale in 1.05 1.1 1.2 1.3 1.5 2 4; do
  for interval in "" --guidance_interval=-4,2; do
    evaluate guidance_$scale${interval:+_interval} \
      --method=dpmpp_2m_sde --num_steps=32 --spacing=logsnr \
      --guidance_scale=$scale $interval
  done
done
