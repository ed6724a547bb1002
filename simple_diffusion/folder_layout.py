# SPDX-License-Identifier: Apache-2.0
"""Which image belongs to which split and class of a folder.

Three layouts are read, told apart by how deep the images lie:

  <split>/<class>/cat1.jpg    split: one of SPLIT_NAMES
  <class>/cat1.jpg            one split, "train"
  cat1.jpg                    one split, "train", no classes

Hidden files and files without an image's suffix are left aside and counted.
The classes are numbered in sorted order over all splits. A held-out split may
lack classes of "train"; one that "train" lacks is an error, being most likely
a misspelt folder.
"""

import collections
import dataclasses
import os
import pathlib

SPLIT_NAMES = ("train", "validation", "val", "valid", "dev", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

_DEEPEST = 8  # Folders; the layouts need 2.


@dataclasses.dataclass(frozen=True)
class Scan:
  """The images found in a folder, unread.

  Attributes:
    root: the folder.
    files: for each split, the sorted paths relative to root, '/'-separated.
    class_names: sorted; empty if the images lie flat.
    num_ignored: how many files do not look like images.
  """

  root: pathlib.Path
  files: dict
  class_names: tuple
  num_ignored: int


def scan(images_dir):
  """Lists the images below images_dir and decides which layout they are in.

  Returns:
    A Scan.

  Raises:
    FileNotFoundError: images_dir does not exist or holds no images.
    ValueError: no layout fits, or "train" lacks a class of another split.
  """
  images_dir = pathlib.Path(images_dir)
  if not images_dir.is_dir():
    raise FileNotFoundError(f"{images_dir} is not a folder of images")
  paths, num_ignored = _list_images(images_dir)
  if not paths:
    raise FileNotFoundError(
      f"no images below {images_dir}: {num_ignored} files, none of them with a"
      f" suffix among {' '.join(SUFFIXES)}"
    )
  _check_layout(images_dir, paths)
  files = collections.defaultdict(list)
  classes = collections.defaultdict(set)
  for path in paths:
    *folders, _ = path.split("/")
    split = folders[0] if len(folders) == 2 else "train"
    files[split].append(path)
    classes[split].update(folders[-1:])
  class_names = set().union(*classes.values())
  unknown = class_names - classes.get("train", class_names)
  if unknown:
    raise ValueError(
      f"classes {sorted(unknown)} of a held-out split have no images in train,"
      f" whose classes are {sorted(classes['train'])}; rename or remove them"
    )
  return Scan(images_dir, dict(files), tuple(sorted(class_names)), num_ignored)


def _list_images(images_dir):
  """Returns the sorted relative paths of images and the number of others."""
  paths, num_ignored = [], 0

  def fail(error):  # os.walk would silently pass over an unreadable folder.
    raise error

  for folder, subfolders, names in os.walk(
    images_dir, onerror=fail, followlinks=True
  ):
    relative = pathlib.Path(folder).relative_to(images_dir)
    subfolders[:] = [
      name
      for name in subfolders
      if not name.startswith((".", "__MACOSX"))
      # Deep enough to find images that fit no layout, and to come out of a
      # link that leads back to a parent.
      and len(relative.parts) < _DEEPEST
    ]
    for name in names:
      if name.lower().endswith(SUFFIXES) and not name.startswith("."):
        paths.append((relative / name).as_posix())
      else:
        num_ignored += 1
  return sorted(paths), num_ignored


def _check_layout(images_dir, paths):
  """Raises ValueError unless the paths fit exactly one of the layouts."""
  by_depth = collections.defaultdict(list)
  for path in paths:
    by_depth[path.count("/")].append(path)
  tops = sorted({path.split("/")[0] for path in paths})
  splits_found = [top for top in tops if top in SPLIT_NAMES]
  if set(by_depth) == {0}:
    return
  if set(by_depth) == {1} and not splits_found:
    return
  if set(by_depth) == {2} and splits_found == tops:
    return
  found = "; ".join(
    f"{len(by_depth[depth])} images {depth} folders deep, such as"
    f" {by_depth[depth][0]}"
    for depth in sorted(by_depth)
  )
  raise ValueError(
    f"the images below {images_dir} are in none of the accepted layouts: found"
    f" {found}; arrange them as <split>/<class>/image, with splits among"
    f" {', '.join(SPLIT_NAMES)}, or <class>/image, with no class named like a"
    " split, or images directly in the folder"
  )
