# SPDX-License-Identifier: Apache-2.0
"""Training losses of one reading list, as pure functions of arrays.

One family each: `token_level` (maps of the per-token NLL), ...
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
from losses.earth_mover import emo_mode1
from losses.earth_mover import emo_mode2
from losses.earth_mover import emo_terms
from losses.earth_mover import soft_emo_terms
from losses.earth_mover import stabilised_emd
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
from losses.linear import linear_emo_terms
from losses.linear import linear_nll
from losses.linear import linear_nll_terms
from losses.many_way import many_way_loss1
from losses.many_way import many_way_loss3
from losses.multilabel import sparse_zlpr
from losses.multilabel import zlpr
from losses.multilabel import zlpr_excess
from losses.multilabel import zlpr_minimum
from losses.multilabel import zlpr_probabilities
from losses.perturbation import fgm_perturbation
from losses.perturbation import virtual_adversarial_loss
from losses.perturbation import virtual_adversarial_perturbation
from losses.soft_f1 import soft_f1_macro
from losses.soft_f1 import soft_f1_micro
from losses.token_level import focal
from losses.token_level import generalized_cross_entropy
from losses.token_level import label_smoothing
from losses.token_level import logit_adjustment
from losses.token_level import smooth_accuracy_loss
from losses.token_level import tailr
from losses.token_level import uniform_nll
