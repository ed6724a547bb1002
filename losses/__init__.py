# SPDX-License-Identifier: Apache-2.0
"""Training losses of one reading list, as pure functions of arrays.

One family each: `token_level` (maps of the per-token NLL), ...
"""

from losses.token_level import focal
from losses.token_level import generalized_cross_entropy
from losses.token_level import label_smoothing
from losses.token_level import logit_adjustment
from losses.token_level import smooth_accuracy_loss
from losses.token_level import tailr
from losses.token_level import uniform_nll
