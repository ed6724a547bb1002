# SPDX-License-Identifier: Apache-2.0
"""Overrides of a config, parsed as the command line parses them."""

from collections.abc import Sequence

from absl import flags
import ml_collections
from ml_collections import config_flags


def apply(
  config: ml_collections.ConfigDict, arguments: Sequence[str]
) -> ml_collections.ConfigDict:
  """The locked config with flags such as --config.optim.lr=1e-4.

  Raises:
    ValueError: if a key or value is wrong; says which.
  """
  values = flags.FlagValues()
  arguments = ["overrides", *arguments]
  try:
    config_flags.DEFINE_config_dict(
      "config", config, flag_values=values, sys_argv=arguments
    )
    values(arguments)
  except (flags.Error, AttributeError) as error:
    message = " ".join(str(error).split())
    raise ValueError(message.removeprefix("flag --config.")) from error
  return values.config
