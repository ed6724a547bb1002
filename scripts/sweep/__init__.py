# SPDX-License-Identifier: Apache-2.0
"""Runs the points that a config's `sweep()` lists: here or on rented chips."""
