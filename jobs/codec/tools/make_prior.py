"""Make the table that every coder of .ptz containers begins with, from networks made here.

`python jobs/codec/tools/make_prior.py FOLDER` writes the corpus to FOLDER, or takes the one that is there,
learns from it, and writes prior_table.py and ptz_prior.h anew. It takes some minutes. Another release of
TensorFlow makes other files, so the table that is committed is what counts: containers made with it must stay
readable, and another table needs another method or version of the format. `--render` writes ptz_prior.h from
prior_table.py as it is.
"""

import sys
from pathlib import Path

import prior_files
from paretune_codec.initial import PARTS


def main(arguments: list[str]) -> None:
    """Learn and write, or only write."""
    firsts = [part.first for part in PARTS]
    if arguments == ["--render"]:
        from paretune_codec import prior_table as table

        header = prior_files.c_header(table.CLASSES, table.STATES, table.WEIGHTS, firsts)
        prior_files.HEADER.write_text(header)
        return
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(__doc__)
    from prior_training import File, learn

    folder = Path(arguments[0])
    _make_corpus(folder)
    files = []
    for path in sorted(folder.glob("*.tflite")):
        number, kind = path.stem.split("-", 1)
        files.append(File(int(number), kind, path.read_bytes()))
    found = learn(files)
    classes = prior_files.packed(found.classes.tolist())
    prior_files.MODULE.write_text(prior_files.python_module(classes, found.states, found.weights))
    prior_files.HEADER.write_text(prior_files.c_header(classes, found.states, found.weights, firsts))


def _make_corpus(folder: Path) -> None:
    done = folder / "complete"
    if done.exists():
        return
    from prior_corpus import files

    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files():
        (folder / f"{name}.tflite").write_bytes(data)
    done.touch()


if __name__ == "__main__":
    main(sys.argv[1:])
