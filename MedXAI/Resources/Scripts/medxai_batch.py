"""MedXAI without a window: explain volumes inside 3D Slicer, one after the other.

Slicer --no-splash --no-main-window --python-script medxai_batch.py -- \\
    --input head.nrrd --model planted-lesion --output out

The application ends with 0 when every volume was done, with 3 when some were, else with 1, whatever happens.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]  # the folder of MedXAI.py, packaged and in a source checkout

from MedXAI import NOTICE, MedXAILogic  # noqa: E402
from MedXAILib.app.job import (  # noqa: E402
    EXPLAIN,
    FLAG,
    NUMBER,
    POINT,
    WHOLE,
    default_of,
    flag_of,
    help_of,
    option_help,
    specs,
)
from MedXAILib.attribution.registry import options  # noqa: E402
from MedXAILib.errors import FileError  # noqa: E402

NOT_HERE = ("frame", "series", "suffixes", "threads", "anatomy", "format", "writers", "keep_input", "cells")
"""Fields of the job that Slicer's own loading, its worker and the export decide."""
SOME = 3
"""Exit code where some volumes failed."""
KINDS = {WHOLE: int, NUMBER: float}


def arguments(words: list[str]) -> argparse.Namespace:
    """The options of a command line: those of ``medxai explain`` that make sense for a scene."""
    parser = argparse.ArgumentParser(
        prog="medxai_batch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, help="volumes in any format that Slicer reads")
    parser.add_argument(
        "--model", required=True, help="name of a model that comes with MedXAI, or path of a model card"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder; each volume gets one of its own in it")
    for f in fields_here():
        about = {"dest": f.name, "help": help_of(f).replace("%", "%%"), "default": default_of(f)}
        if f.metadata["kind"] == FLAG:
            parser.add_argument(flag_of(f), action="store_true", **about)
        elif f.metadata["kind"] == POINT:
            parser.add_argument(flag_of(f), nargs=3, type=float, metavar=("R", "A", "S"), **about)
        else:
            kind, many = KINDS.get(f.metadata["kind"], str), "+" if f.metadata["many"] else None
            parser.add_argument(flag_of(f), nargs=many, type=kind, choices=f.metadata["choices"] or None, **about)
    for option in options_here():
        about = {"dest": option.name, "help": option_help(option).replace("%", "%%"), "default": None}
        if option.kind is bool:
            parser.add_argument(option.flag, action="store_true", **about)
        else:
            kind, many = option.kind, "+" if option.many else None
            parser.add_argument(option.flag, nargs=many, type=kind, choices=option.choices or None, **about)
    parser.add_argument("--scene", action="store_true", help="also save the scene (.mrb)")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier runs in the output folders")
    return parser.parse_args(words)


def fields_here() -> Sequence[Any]:
    """Fields of the job that the batch takes."""
    return [f for f in specs(EXPLAIN) if f.name not in NOT_HERE]


def options_here() -> Sequence[Any]:
    """Options of methods that the batch takes: those whose values are no other cases."""
    return [option for option in options().values() if not option.inputs]


def one(logic: MedXAILogic, path: str, a: argparse.Namespace) -> None:
    """One volume: load, explain, export."""
    folder = a.output / Path(path).name.split(".")[0]
    if (folder / "run.json").exists() and not a.overwrite:
        raise FileError(folder, "an earlier run is there", "give another --output, or add --overwrite")
    if not Path(path).exists():
        raise FileError(path, "there is no such file", "check the path")
    slicer.mrmlScene.Clear()
    volume = slicer.util.loadVolume(path, {"show": False})
    asked = {given.name: getattr(a, given.name) for given in (*fields_here(), *options_here())}
    logic.explain(volume, a.model, asked.pop("classes"), asked.pop("methods"), **asked)
    files = logic.export(volume, folder, overwrite=a.overwrite)
    if a.scene and not slicer.util.saveScene(str(folder / f"{folder.name}.mrb")):
        raise OSError(f"{folder / folder.name}.mrb: the scene could not be saved.")
    print(f"{path}: {len(files)} files in {folder}", flush=True)


def main(words: list[str]) -> int:
    """The exit code."""
    a = arguments(words)
    logic, failed = MedXAILogic(), 0
    for path in a.input:
        try:
            one(logic, path, a)
        except Exception as error:
            failed += 1
            text = str(error) if isinstance(error, FileError) else f"{path}: {error}"
            print(text, file=sys.stderr, flush=True)
    logic.client.stop()
    print(f"{len(a.input) - failed} of {len(a.input)} volumes done. {NOTICE}.", flush=True)
    return 0 if not failed else SOME if failed < len(a.input) else 1


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:  # of argparse; Slicer itself would stay
        code = 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    slicer.util.exit(code)
