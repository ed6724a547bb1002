# SPDX-License-Identifier: Apache-2.0
"""Reads files of a sweep from a folder or from a Google Cloud bucket."""

import pathlib

import tensorstore

TIMEOUT_S = 30.0  # tensorstore tries again for much longer


def is_remote(root: str) -> bool:
  """Whether a root is in a bucket of Google Cloud.

  Raises:
    ValueError: if it is an address of another kind, which nothing here reads.
  """
  if "://" in root and not root.startswith("gs://"):
    raise ValueError(
      f"--root={root}: of addresses only gs://BUCKET/FOLDER can be read; mount "
      "the bucket and give its folder"
    )
  return root.startswith("gs://")


def read(root: str, path: str) -> bytes | None:
  """The content of root/path; None if there is no such file.

  Raises:
    OSError: if the bucket can't be read.
  """
  if not is_remote(root):
    file = pathlib.Path(root) / path
    return file.read_bytes() if file.exists() else None
  bucket, _, prefix = root.removeprefix("gs://").partition("/")
  base = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
  spec = {"driver": "gcs", "bucket": bucket, "path": base}
  try:
    files = tensorstore.KvStore.open(spec).result(timeout=TIMEOUT_S)
    found = files.read(path).result(timeout=TIMEOUT_S)
  except (ValueError, TimeoutError) as error:
    first_line = (str(error).splitlines() or ["timeout"])[0]
    raise OSError(
      f"--root={root} can't be read ({first_line}); check the bucket's name "
      "and `gcloud auth application-default login`"
    ) from error
  return found.value if found.state == "value" else None
