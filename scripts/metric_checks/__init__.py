# SPDX-License-Identifier: Apache-2.0
"""What `scripts.check_metrics` checks, a part a file; each yields rows."""
