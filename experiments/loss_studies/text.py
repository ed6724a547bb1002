# SPDX-License-Identifier: Apache-2.0
"""Texts to train, validate and test language models, and windows of tokens.

python          the documentation of Python's own language that pydoc has, in
                the order of its topics; differs between versions of Python
scikit_learn    descriptions of scikit-learn's data sets
classicbooks    novels of the 19th and early 20th century, whole books in each
                part (github.com/mlschmitt/classic-books-markdown)
tinyshakespeare dramas (github.com/karpathy/char-rnn)

The first two are there without files; they differ as a language and its dialect
do. Where a text has no parts of its own, it is cut at 80 and 90 %.
"""

import importlib.resources
import pathlib
import pydoc_data.topics

import numpy as np

PARTS = ("train", "validation", "test")
BUILT_IN = ("python", "scikit_learn")
# name -> files below data_dir, of the parts or of all.
FILES = {
  "classicbooks": ("train.txt", "valid.txt", "test.txt"),
  "tinyshakespeare": ("input.txt",),
}


def cut(text: str) -> list[str]:
  """The first 80 %, the next 10 %, and the rest."""
  n = len(text)
  return [
    text[: n * 8 // 10],
    text[n * 8 // 10 : n * 9 // 10],
    text[n * 9 // 10 :],
  ]


def read(name: str, data_dir: str | None = None) -> dict[str, str]:
  """The text of each part.

  Raises:
    ValueError: if there is no such text, or its files are not there.
  """
  if name == "python":
    topics = pydoc_data.topics.topics
    texts = cut("\n".join(topics[topic] for topic in sorted(topics)))
  elif name == "scikit_learn":
    folder = importlib.resources.files("sklearn.datasets") / "descr"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    rst = [file for file in files if file.name.endswith(".rst")]
    texts = cut("\n".join(file.read_text("utf-8") for file in rst))
  elif name in FILES:
    if data_dir is None:
      raise ValueError(
        f"{name} is read from {', '.join(FILES[name])}: give the folder of "
        f"{name}/ as --data_dir; without files there are {', '.join(BUILT_IN)}"
      )
    paths = [pathlib.Path(data_dir) / name / file for file in FILES[name]]
    for path in paths:
      if not path.exists():
        raise ValueError(f"{path} does not exist; check --data_dir")
    texts = [path.read_text("utf-8") for path in paths]
    texts = texts if len(texts) == 3 else cut(texts[0])
  else:
    known = ", ".join([*BUILT_IN, *FILES])
    raise ValueError(f"data.name={name!r} is none of {known}")
  return dict(zip(PARTS, texts, strict=True))


def windows(tokens: np.ndarray, context: int, at_most: int) -> np.ndarray:
  """The text cut into windows [N, context], evenly spread if too many."""
  n = len(tokens) // context
  found = tokens[: n * context].reshape(n, context)
  if n > at_most:
    found = found[np.arange(at_most) * n // at_most]
  return found


def batches(
  tokens: np.ndarray,
  rng: np.random.Generator,
  *,
  num_steps: int,
  batch_size: int,
  context: int,
) -> np.ndarray:
  """int32 [num_steps, batch_size, context], from anywhere in the text."""
  starts = rng.integers(
    0, len(tokens) - context + 1, (num_steps, batch_size, 1)
  )
  return tokens[starts + np.arange(context)]
