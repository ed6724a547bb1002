# SPDX-License-Identifier: Apache-2.0
"""The figures that need no training, one module each; see `__main__`.

A module's draw() returns a matplotlib figure; `canvas` has what they share.
"""
