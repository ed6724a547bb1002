# SPDX-License-Identifier: Apache-2.0
"""Tables of the comparisons of losses on real data, for docs/losses.

A cell is the test metric of the point that validation chose, mean and standard
error over the seeds. Only methods of which every point was trained have one.
"""

from collections.abc import Callable

from configs import loss_images
from configs import loss_label_noise
from configs import loss_many_way
from configs import loss_multilabel
from configs import loss_tabular
from experiments import workdir
from experiments.loss_studies import selection
from experiments.loss_studies import study
from scripts import results


def finished(config: dict, records: list[dict]) -> dict[str, list[dict]]:
  """All records of each method of a config of which every point was trained."""
  by_key = {selection.key(r): r for r in records}
  found = {}
  for method in config["methods"]:
    keys = [
      selection.key(study.record_of(config, method, point))
      for point in study.points(config, method)
    ]
    if all(key in by_key for key in keys):
      found[method] = [by_key[key] for key in keys]
  return found


def chosen(config: dict, records: list[dict]) -> dict[str, dict]:
  """The chosen record of each method of a config that is finished."""
  return {
    method: selection.best(of_method, config["metric"])
    for method, of_method in finished(config, records).items()
  }


def cell(values: list[float], scale: float = 100, digits: int = 1) -> str:
  mean = round(scale * selection.mean(values), digits) + 0.0  # no -0.0
  error = scale * selection.standard_error(values)
  return f"{mean:.{digits}f} ± {error:.{digits}f}"


def columns_of(module, args):
  """{argument: (config, chosen records)} of what has results."""
  configs = {arg: workdir.as_json(module.get_config(arg)) for arg in args}
  (name,) = {config["study"] for config in configs.values()}
  records = results.lines(name)
  found = {}
  for arg, config in configs.items():
    of_arg = chosen(config, records)
    if of_arg:
      found[arg] = (config, of_arg)
  return found


def methods_of(columns):
  """Names and titles in the order of the tables of methods."""
  config = next(iter(columns.values()))[0]
  known = study.KINDS[config["data"]["kind"]][1].METHODS
  return [(n, m.title) for n, m in known.items() if n in config["methods"]]


def title_of(arg: str) -> str:
  """A config's argument as a reader sees it."""
  name, _, noise = arg.replace("_", " ").partition(",")
  return f"{name}, {noise} %" if noise else name


def by_data(columns: dict, metric: str, *, minus: str | None = None) -> str:
  """Methods down, data sets across; minus another method, seed by seed."""
  if not columns:
    return "Not yet run."
  methods = methods_of(columns)
  if minus:
    titles = dict(methods)
    methods = [pair for pair in methods if pair[0] != minus]
  rows = []
  for name, title in methods:
    cells = []
    for _, of_arg in columns.values():
      if name not in of_arg or (minus and minus not in of_arg):
        cells.append("-")
      elif minus:
        cells.append(
          cell(
            selection.differences(of_arg[name], of_arg[minus], metric),
            digits=2,
          )
        )
      else:
        cells.append(cell(of_arg[name]["test"][metric]))
    rows.append((title, *cells))
  first = f"minus {titles[minus]}" if minus else "%"
  names = [title_of(arg) for arg in columns]
  return results.markdown((first, *names), rows)


def budget(columns: dict) -> str:
  """How many points a method has; the most, and where there are fewer."""
  by_points = {}
  for arg, (config, _) in columns.items():
    by_points.setdefault(config["search"]["num_points"], []).append(arg)
  most, *fewer = sorted(by_points, reverse=True)
  found = f"{most} points a method"
  for points in fewer:
    names = ", ".join(dict.fromkeys(a.split(",")[0] for a in by_points[points]))
    found += f" ({points} of {names})"
  return found


def points_by_data(columns: dict) -> str:
  """What validation chose; * is the least or the most that was tried."""
  rows = []
  for name, title in methods_of(columns):
    cells = []
    for config, of_arg in columns.values():
      if name not in of_arg:
        cells.append("-")
        continue
      tried = study.points(config, name)
      cells.append(
        ", ".join(
          f"{key.replace('_', ' ')} {value:g}"
          + "*" * (value in _ends(p[key] for p in tried))
          for key, value in of_arg[name]["point"].items()
        )
      )
    rows.append((title, *cells))
  return results.markdown(("", *map(title_of, columns)), rows)


def _ends(values) -> tuple:
  """The least and the most of some; of one value, none."""
  values = set(values)
  return (min(values), max(values)) if len(values) > 1 else ()


def footnote(columns) -> str:
  """The budget, the protocol and where it ran."""
  config, _ = next(iter(columns.values()))
  metric = config["metric"].replace("_", " ").replace("f1", "F1")
  return (
    f"{protocol(len(config['seeds']))}; {budget(columns)} in one quasi-random "
    "search of all its numbers, so that a value of its own meets few learning "
    f"rates, chosen by the mean {metric} on validation examples "
    f"({where(columns.values())})."
  )


def protocol(num_seeds: int) -> str:
  return (
    f"Mean ± standard error over {num_seeds} seeds, each with its own start "
    "and its own split of the same examples into training and validation; an "
    "official test set is the same for all"
  )


def where(columns) -> str:
  """The machine and the commits of (config, records by method)."""
  return results.where(
    *(r["environment"] for _, of in columns for r in of.values())
  )


def with_footnote(columns, *tables) -> str:
  if not columns:
    return "Not yet run."
  return "\n\n".join([*tables, footnote(columns)])


def compared(columns, metric: str, *, minus: str) -> str:
  """A metric, its differences from one method, and how it was measured."""
  return with_footnote(
    columns,
    by_data(columns, metric),
    by_data(columns, metric, minus=minus),
  )


def tabular() -> dict:
  return columns_of(loss_tabular, loss_tabular.DATA)


def images() -> dict:
  return columns_of(loss_images, loss_images.DATA)


def label_noise() -> dict:
  args = [
    f"{name},{noise}"
    for name in loss_label_noise.DATA
    for noise in loss_label_noise.NOISE
  ]
  return columns_of(loss_label_noise, args)


def multilabel() -> dict:
  return columns_of(loss_multilabel, loss_multilabel.DATA)


def many_way() -> dict:
  return columns_of(loss_many_way, loss_many_way.DATA)


def loss_tabular_accuracy() -> str:
  return compared(tabular(), "accuracy", minus="cross_entropy")


def loss_images_accuracy() -> str:
  return compared(images(), "accuracy", minus="cross_entropy")


def loss_label_noise_accuracy() -> str:
  return compared(label_noise(), "accuracy", minus="cross_entropy")


def loss_label_noise_calibration() -> str:
  """Expected calibration error of the points chosen by accuracy."""
  columns = label_noise()
  return with_footnote(columns, by_data(columns, "ece"))


def loss_label_noise_gamma() -> str:
  """TaiLr minus cross-entropy of the same learning rate and decay.

  For each gamma at the point of it that validation likes best, so that what
  differs is the loss alone.
  """
  columns = label_noise()
  if not columns:
    return "Not yet run."
  records = results.lines("loss_label_noise")
  rows = {}
  for config, _ in columns.values():
    of = finished(config, records)
    for gamma in config["methods"]["tailr"]["gamma"]:
      pairs = [
        (record, plain)
        for record, plain in zip(
          of.get("tailr", ()), of.get("cross_entropy", ()), strict=False
        )
        if record["point"]["gamma"] == gamma
      ]
      text = "-"
      if pairs:
        best = selection.best([r for r, _ in pairs], config["metric"])
        (plain,) = (p for r, p in pairs if r is best)
        text = cell(selection.differences(best, plain, "accuracy"), digits=2)
      rows.setdefault(gamma, []).append(text)
  names = [title_of(arg) for arg in columns]
  return results.markdown(
    ("gamma", *names), [(f"{gamma:g}", *cells) for gamma, cells in rows.items()]
  )


def points_maker(columns_of_study: Callable, name: str) -> Callable:
  """The maker of the table `name` of chosen points."""

  def maker() -> str:
    columns = columns_of_study()
    return points_by_data(columns) if columns else "Not yet run."

  maker.__name__ = name
  return maker


def loss_multilabel_micro_f1() -> str:
  return compared(multilabel(), "micro_f1", minus="weighted_binary")


def loss_multilabel_micro_f1_at_best_threshold() -> str:
  columns = multilabel()
  return by_data(columns, "micro_f1_at_best_threshold")


def loss_multilabel_macro_f1() -> str:
  return by_data(multilabel(), "macro_f1")


def loss_multilabel_average_precision() -> str:
  return by_data(multilabel(), "average_precision")


def loss_many_way_f1() -> str:
  """Macro F1, and micro F1 of all classes but the frequent one."""
  columns = many_way()
  return with_footnote(
    columns,
    by_data(columns, "macro_f1"),
    by_data(columns, "macro_f1", minus="cross_entropy"),
    by_data(columns, "rare_f1"),
  )


EXACT = (
  loss_tabular_accuracy,
  points_maker(tabular, "loss_tabular_points"),
  loss_images_accuracy,
  points_maker(images, "loss_images_points"),
)
TAILR = (
  loss_label_noise_accuracy,
  points_maker(label_noise, "loss_label_noise_points"),
  loss_label_noise_gamma,
  loss_label_noise_calibration,
)
ZLPR = (
  loss_multilabel_micro_f1,
  points_maker(multilabel, "loss_multilabel_points"),
  loss_multilabel_micro_f1_at_best_threshold,
  loss_multilabel_macro_f1,
  loss_multilabel_average_precision,
  loss_many_way_f1,
  points_maker(many_way, "loss_many_way_points"),
)
