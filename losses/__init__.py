# SPDX-License-Identifier: Apache-2.0
"""Training losses of one reading list, as pure functions of arrays.

docs/losses.md has all of them in one table. A family a file; start with
`token_level`, whose losses are maps of the per-token NLL, and `linear`, which
computes that NLL without logits. `logspace` and `checks` are what they share.

Examples in docstrings have jax, jnp, optax and losses imported, and print four
digits.
"""

from losses.calibration import ReliabilityBins
from losses.calibration import expected_calibration_error
from losses.calibration import maximum_calibration_error
from losses.calibration import overconfidence
from losses.calibration import reliability_bins
from losses.consistency import mean_multilabel_symmetric_kl
from losses.consistency import multilabel_symmetric_kl
from losses.consistency import r_drop
from losses.consistency import softmax_kl
from losses.consistency import symmetric_kl
from losses.earth_mover import EMOTerms
from losses.earth_mover import emo_mode1
from losses.earth_mover import emo_mode2
from losses.earth_mover import emo_terms
from losses.earth_mover import soft_emo_terms
from losses.earth_mover import stabilized_emd
from losses.expected_accuracy import expected_accuracy_loss
from losses.expected_accuracy import gumbel_expected_accuracy_loss
from losses.expected_accuracy_training import ScaleByNormEmaState
from losses.expected_accuracy_training import scale_by_norm_ema
from losses.expected_accuracy_training import sigma_schedule
from losses.expected_accuracy_training import standardize_logits
from losses.global_pointer import decode_spans
from losses.global_pointer import efficient_global_pointer_scores
from losses.global_pointer import global_pointer_scores
from losses.global_pointer import rotary_embedding
from losses.global_pointer import span_mask
from losses.linear import NLLTerms
from losses.linear import linear_emo_terms
from losses.linear import linear_nll
from losses.linear import linear_nll_terms
from losses.linear_head import HeadOptions
from losses.many_way import many_way_loss1
from losses.many_way import many_way_loss3
from losses.multilabel import sparse_zlpr
from losses.multilabel import zlpr
from losses.multilabel import zlpr_excess
from losses.multilabel import zlpr_minimum
from losses.multilabel import zlpr_probabilities
from losses.multitask import DirectionInfo
from losses.multitask import combine
from losses.multitask import direction_and_info
from losses.multitask import gram_matrix
from losses.multitask import value_and_direction
from losses.multitask import value_and_task_grads
from losses.multitask_optimizer import CombineTaskGradientsState
from losses.multitask_optimizer import combine_task_gradients
from losses.perturbation import fgm_perturbation
from losses.perturbation import virtual_adversarial_loss
from losses.perturbation import virtual_adversarial_perturbation
from losses.shared_trunk import shared_value_and_direction
from losses.soft_f1 import soft_f1_macro
from losses.soft_f1 import soft_f1_micro
from losses.task_directions import gradient_cosines
from losses.task_directions import inverse_norm_weights
from losses.task_directions import min_norm_weights
from losses.task_directions import pcgrad_weights
from losses.task_directions import primary_secondary_weights
from losses.task_directions import upgrad_weights
from losses.task_weighting import generalized_mean
from losses.task_weighting import initial_cross_entropy
from losses.task_weighting import initial_squared_error
from losses.task_weighting import inverse_loss_weights
from losses.task_weighting import prior_cross_entropy
from losses.task_weighting import prior_squared_error
from losses.task_weighting import real_time_weighting
from losses.token_level import focal
from losses.token_level import generalized_cross_entropy
from losses.token_level import label_smoothing
from losses.token_level import logit_adjustment
from losses.token_level import smooth_accuracy_loss
from losses.token_level import tailr
from losses.token_level import uniform_nll
