# SPDX-License-Identifier: Apache-2.0
"""Tables of the studies of language models, for docs/losses.

A row is the point that validation chose of a method, mean and standard error
over the seeds; references, which have no points, are rows as well.
"""

import math

from configs import loss_adaptation
from configs import loss_oracle
from experiments import workdir
from experiments.loss_studies import adaptation
from experiments.loss_studies import language_units
from experiments.loss_studies import oracle
from experiments.loss_studies import selection
from experiments.loss_studies import study
from scripts import loss_study_tables
from scripts import results

REFERENCES = {
  "oracle": "the oracle itself",
  "pretrained": "before",
  "text": "validation text",
}
TITLES = REFERENCES | {
  name: method.title for name, method in language_units.METHODS.items()
}


def read(module, arg: str, references) -> tuple[dict, dict, list[dict]]:
  """The config, {reference: record}, and the records of a study."""
  config = workdir.as_json(module.get_config(arg))
  lines = results.lines(config["study"])
  by_key = {selection.key(r): r for r in lines}
  keys = {
    name: selection.key(study.record_of(config, name, {}))
    for name in references
  }
  found = {name: by_key[k] for name, k in keys.items() if k in by_key}
  return config, found, lines


def read_oracle():
  return read(loss_oracle, "classicbooks", oracle.REFERENCES)


def read_adaptation():
  return read(loss_adaptation, "tinyshakespeare", adaptation.REFERENCES)


def chosen(config, references, lines, metric: str) -> dict[str, dict]:
  """References, then methods, each with its record, in the tables' order."""
  found = loss_study_tables.chosen(config | {"metric": metric}, lines)
  found = references | found
  return {name: found[name] for name in TITLES if name in found}


def perplexity(log_likelihoods: list[float]) -> list[float]:
  return [math.exp(-value) for value in log_likelihoods]


def number(values, digits: int) -> str:
  return loss_study_tables.cell(values, scale=1, digits=digits)


def _cell(record: dict, name: str) -> str:
  """A measure of test text; BLEU in percent, likelihoods as perplexities."""
  values = record["test"].get(name)
  if values is None:
    return "-"
  if name.endswith("log_likelihood") or name == "before":
    return number(perplexity(values), 1)
  if name.endswith("bleu"):
    return number([100 * v for v in values], 1)
  return number(values, 3)


def _own(point: dict) -> str:
  """A point's hyper-parameters in a few words."""
  return ", ".join(
    f"{name.replace('_', ' ')} {value:g}" for name, value in point.items()
  )


def table(rows: dict[str, dict], columns: dict[str, str]) -> str:
  """Methods down, {title: measure} across, then the point."""
  cells = [
    (
      TITLES[name],
      *(_cell(record, column) for column in columns.values()),
      _own(record["point"]) or "-",
    )
    for name, record in rows.items()
  ]
  return results.markdown(("", *columns, "point"), cells)


def _protocol(config: dict, rows: dict[str, dict]) -> str:
  where = results.where(*(record["environment"] for record in rows.values()))
  points = config["search"]["num_points"]
  return (
    f"Mean ± standard error over {len(config['seeds'])} seeds; {points} points "
    f"a method ({where})."
  )


ORACLE = {
  "test perplexity": "log_likelihood",
  "oracle's perplexity": "oracle_log_likelihood",
  "total variation": "total_variation",
  "BLEU-4, %": "bleu",
  "self-BLEU-4, %": "self_bleu",
}
ADAPTATION = {
  "perplexity": "log_likelihood",
  "EMD": "emd",
  "perplexity of novels": "before",
  "BLEU-4, %": "bleu",
  "self-BLEU-4, %": "self_bleu",
  "bigrams, bits": "divergence",
}


def loss_oracle_by_likelihood() -> str:
  """Points that validation likelihood chose."""
  config, references, lines = read_oracle()
  rows = chosen(config, references, lines, "log_likelihood")
  if not rows:
    return "Not yet run."
  return f"{table(rows, ORACLE)}\n\n{_protocol(config, rows)}"


def loss_oracle_by_bleu() -> str:
  """Points that validation BLEU-4 chose."""
  config, references, lines = read_oracle()
  rows = chosen(config, references, lines, "bleu")
  return table(rows, ORACLE) if rows else "Not yet run."


def loss_adaptation_quality() -> str:
  """Points that validation likelihood chose."""
  config, references, lines = read_adaptation()
  rows = chosen(config, references, lines, "log_likelihood")
  if not rows:
    return "Not yet run."
  return f"{table(rows, ADAPTATION)}\n\n{_protocol(config, rows)}"


def loss_adaptation_step() -> str:
  """What a training step costs."""
  config = workdir.as_json(loss_adaptation.get_config("tinyshakespeare,cost"))
  settings = study.settings(config)
  record = results.newest("loss_adaptation_cost", settings=settings)
  if record is None:
    return "Not yet run."
  rows = [
    (
      TITLES[row["loss"]],
      row["form"],
      f"{row['milliseconds']:.0f}",
      f"{row['temporary_mib']:.0f}",
    )
    for row in record["measured"]
  ]
  made = results.markdown(("", "logits", "ms a step", "MiB"), rows)
  data, train = config["data"], config["train"]
  tokens = train["batch_size"] * data["context"]
  return (
    f"{made}\n\n{tokens:,} tokens, D = {config['network']['width']}, V = "
    f"{data['vocab_size']:,}; medians of {record['rounds']} rounds; "
    f"{results.where(record['environment'])}."
  )


TAILR = (loss_oracle_by_likelihood, loss_oracle_by_bleu)
EMO = (loss_adaptation_quality, loss_adaptation_step)
