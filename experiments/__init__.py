# SPDX-License-Identifier: Apache-2.0
"""Programs that take a config and leave checkpoints, metrics and samples."""
