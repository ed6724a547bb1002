# SPDX-License-Identifier: Apache-2.0
"""What the losses do: toys with known answers, comparisons on real data."""
