# SPDX-License-Identifier: Apache-2.0
"""What docs/ablations and docs/samplers.md say, of the committed results."""

import numpy as np
import pytest

from scripts import photograph_guidance
from scripts import photograph_loss_ratios
from scripts import photograph_runs
from scripts import photograph_sampler_tables
from scripts import photograph_tables
from scripts import photograph_yardstick_tables
from scripts import results as results_lib
from scripts.figures import photograph_schedules


def test_few_evaluations_do_as_well_as_512():
  """Of the U-Net of docs/samplers.md."""
  held_out = {}
  for r in photograph_sampler_tables.records("unet"):
    s = r["samples"]
    if s["guidance_scale"] == 1:
      evaluations = s["num_network_evaluations"]
      held_out[s["method"], evaluations] = s["held_out"]["kernel"]
  reference = held_out["ancestral", 512]
  for method in ("ancestral", "dpmpp_2m_sde", "ddim"):
    assert abs(held_out[method, 32] / reference - 1) < 0.05
  # Without noise and uniform in log-SNR it is not for want of steps.
  without = [held_out["dpmpp_2m", n] for n in (16, 32, 64)]
  assert min(without) > 1.2 * reference
  assert max(without) < 1.01 * min(without)


def test_guidance_brings_samples_nearer():
  """Of the U-Net of docs/samplers.md."""
  by_scale = {}
  for r in photograph_sampler_tables.records("unet"):
    s = r["samples"]
    key = s["method"], s["num_network_evaluations"], s["guidance_interval"]
    if key == ("dpmpp_2m_sde", 32, None):
      by_scale[s["guidance_scale"]] = s["held_out"]["kernel"]
  kernels = [by_scale[scale] for scale in (1, 1.5, 2, 4)]
  assert kernels == sorted(kernels, reverse=True)


def test_guidance_of_more_is_nearer_in_each_seed():
  """Of U-Nets of half the width, scales of 1.1 and 1.5."""
  of = photograph_guidance.by_guidance()
  little, more = (
    photograph_tables.kernel_ratios(of[scale], of["1"])
    for scale in ("1.1", "1.5")
  )
  assert len(little) == len(more) == 3
  assert all(b < a < 1 for a, b in zip(little, more, strict=True))


def test_the_sigmoid_weighting_is_the_best():
  """Weightings."""
  of = photograph_runs.by_name("64,weighting", photograph_runs.with_samples())
  v = of.pop("loss_space v, weighting constant")
  ratios = {
    name: photograph_tables.kernel_ratios(runs, v) for name, runs in of.items()
  }
  sigmoid = ratios["loss_space eps, weighting sigmoid"]
  eps = ratios["loss_space eps, weighting constant"]
  assert max(sigmoid) < min(eps) and max(eps) < 1


def test_the_larger_the_image_the_more_a_shift_helps():
  """Table 2."""
  lines = results_lib.lines("photographs")
  losses = {
    size: photograph_loss_ratios.schedules(size, lines)["shifted to half"]
    for size in (64, 128, 256)
  }
  for bin_ in ((-9, -6), (-6, -3)):
    means, errors = zip(
      *(photograph_runs.mean_and_error(of[bin_]) for of in losses.values()),
      strict=True,
    )
    assert 1 > means[0] > means[1] > means[2]
    assert means[0] - means[2] > 3 * np.hypot(errors[0], errors[2])


def test_the_sigmoid_weighting_wants_no_shift():
  """Table 2."""
  samples = photograph_runs.with_samples()
  _, of_width = photograph_schedules.by_width(samples).values()
  assert list(of_width) == [64, 128, 256]
  at_outlines = []
  for of in of_width.values():
    loss = photograph_loss_ratios.against(of["shifted to 32"], of["cosine"])
    assert min(loss[-3, 0] + loss[0, 3]) > 1
    at_outlines.append(np.mean(loss[-3, 0]))
  assert at_outlines == sorted(at_outlines)
  kernels = photograph_tables.kernel_ratios(
    of_width[128]["shifted to 32"], of_width[128]["cosine"]
  )
  assert min(kernels) > 1


def test_what_patching_costs_is_a_matter_of_width():
  """Table 5."""
  of = photograph_loss_ratios.patchings(results_lib.lines("photographs"))
  for bin_ in ((-3, 0), (0, 3), (3, 6)):
    (at_64, _), (wide, wide_error), (narrow, narrow_error) = (
      photograph_runs.mean_and_error(of[name][bin_])
      for name in (
        "64: dwt_1, 32 channels",
        "128: dwt_1, 32 channels",
        "128: dwt_1, 16 channels",
      )
    )
    assert abs(wide - at_64) < 0.1
    assert narrow - wide > 3 * np.hypot(narrow_error, wide_error)


def test_dropout_everywhere_costs():
  """Table 3."""
  of = photograph_runs.by_name(
    "64,table3,sampled", photograph_runs.with_samples()
  )
  nowhere, everywhere = (of[f"dropout_from_resolution {n}"] for n in (0, 64))
  ratios = photograph_tables.kernel_ratios(everywhere, nowhere)
  mean, error = photograph_runs.mean_and_error(ratios)
  assert min(ratios) > 1 and mean - 1 > 3 * error
  from_16 = of["dropout_from_resolution 16"]
  for runs, noisiest in ((nowhere, -9), (from_16, -3)):
    loss = photograph_loss_ratios.against(everywhere, runs)
    assert all(min(loss[n, n + 3]) > 1 for n in range(noisiest, 9, 3))


def test_dropout_everywhere_costs_at_128():
  """Table 3."""
  of = photograph_runs.by_name(
    "128,table3,sampled", photograph_runs.with_samples()
  )
  from_16, everywhere = (of[f"dropout_from_resolution {n}"] for n in (16, 64))
  loss = photograph_loss_ratios.against(everywhere, from_16)
  for n in (-12, -9, -3, 0):
    mean, error = photograph_runs.mean_and_error(loss[n, n + 3])
    assert min(loss[n, n + 3]) > 1 and mean - 1 > 3 * error
  ratios = photograph_tables.kernel_ratios(everywhere, from_16)
  mean, error = photograph_runs.mean_and_error(ratios)
  assert len(ratios) == 3 and abs(mean - 1) < error  # Not told apart.


def test_precision_finds_noise_among_photographs():
  """How far is far: kernel distances do not."""
  rows = {
    row["what"]: row
    for row in photograph_yardstick_tables.newest()["clothing", 64]["rows"]
  }
  white, photographs = rows["white noise"], rows["held out"]
  assert white["precision"] > photographs["precision"]
  assert white["kernel"] > 2 * rows["flowers, held out"]["kernel"]
  assert rows["flowers, held out"]["kernel"] > 10 * photographs["kernel"]


def test_more_numbers_a_channel_cost_more():
  """Table 5 at 128: 12 in 32, 12 in 16 and 48 in 32."""
  of = photograph_loss_ratios.patchings(results_lib.lines("photographs"))
  few, more, most, convolution = (
    of[f"128: {name} channels"]
    for name in ("dwt_1, 32", "dwt_1, 16", "dwt_2, 32", "conv_4, 32")
  )
  for bin_ in ((-3, 0), (0, 3), (3, 6)):
    assert max(few[bin_]) < min(more[bin_])
    assert max(more[bin_]) < min(most[bin_])
    pairs = zip(most[bin_], convolution[bin_], strict=True)
    assert all(wavelet < conv for wavelet, conv in pairs)


@pytest.mark.parametrize("size", [64, 128])
def test_features_and_loss_disagree_of_patchings(size):
  """Table 5."""
  of = photograph_runs.by_name(
    f"{size},table5,sampled", photograph_runs.with_samples()
  )
  none = of.pop("patching none")
  for runs in of.values():
    assert max(photograph_tables.kernel_ratios(runs, none)) < 1
    loss = photograph_loss_ratios.against(runs, none)
    assert all(min(loss[bin_]) > 1 for bin_ in ((0, 3), (3, 6), (6, 9)))


def test_v_mse_learns_outlines_and_no_details():
  """Weightings at 128."""
  of = photograph_runs.by_name(
    "128,weighting,sampled", photograph_runs.with_samples()
  )
  v_mse = of["loss_space v, weighting constant"]
  sigmoid = of["loss_space eps, weighting sigmoid"]
  ratios = photograph_tables.kernel_ratios(v_mse, sigmoid)
  mean, error = photograph_runs.mean_and_error(ratios)
  assert len(ratios) == 3 and min(ratios) > 1 and mean - 1 > 2 * error
  loss = photograph_loss_ratios.against(v_mse, sigmoid)
  assert all(max(loss[n, n + 3]) < 1 for n in (-15, -12, -9, -6))
  assert all(min(loss[n, n + 3]) > 1 for n in (-3, 0, 3))


def test_the_multiscale_loss_costs_details_at_128():
  """Table 6."""
  of = photograph_runs.by_name(
    "128,table6,sampled", photograph_runs.with_samples()
  )
  without, with_ = of["the config"], of["multiscale_base 32"]
  loss = photograph_loss_ratios.against(with_, without)
  assert all(min(loss[n, n + 3]) > 1.4 for n in (-3, 0, 3))
  mean, error = photograph_runs.mean_and_error(loss[-6, -3])
  assert abs(mean - 1) < 2 * error + 0.01
