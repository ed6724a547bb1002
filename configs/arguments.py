# SPDX-License-Identifier: Apache-2.0
"""The argument of a config file: what comes after the colon."""


def split(file: str, arg: str, *choices, variants=()) -> list[str]:
  """The parts of an argument: "mnist,40,tiny" -> ["mnist", "40", "tiny"].

  Args:
    file: the config's name, for the error.
    arg: the parts, with commas between them.
    choices: for each part what it can be, the first one as an example.
    variants: what may come after all parts.

  Returns:
    A part for each of the choices and, if there are variants, one of them or
    "".

  Raises:
    ValueError: if a part is missing, too much or none of its choices.
  """
  choices = [[str(choice) for choice in part] for part in choices]
  allowed = [*choices, ["", *variants]] if variants else choices
  parts = arg.split(",")
  if variants and len(parts) == len(choices):
    parts.append("")
  if len(parts) != len(allowed) or any(
    part not in some for part, some in zip(parts, allowed, strict=True)
  ):
    form = ",".join(f"<{'|'.join(part)}>" for part in choices)
    after = ",".join(part[0] for part in choices)
    if variants:
      form += f", or with ,{' or ,'.join(variants)} after it"
    raise ValueError(
      f"configs/{file}.py:{arg}: the argument is {form}, such as "
      f"configs/{file}.py:{after}"
    )
  return parts
