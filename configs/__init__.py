# SPDX-License-Identifier: Apache-2.0
"""Each file describes one family of runs; nothing here computes or reads."""
