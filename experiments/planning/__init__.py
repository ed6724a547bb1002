# SPDX-License-Identifier: Apache-2.0
"""What `experiments.plan` does, from a config and a topology to a report.

planner   asks a child process to compile, and for what would make it fit
child     compiles for TPUs that are not here
hlo, costs, collectives   read the compiled program
roofline  from FLOPs and bytes to time and money
fit       what to try when memory does not suffice
report    the text
"""
