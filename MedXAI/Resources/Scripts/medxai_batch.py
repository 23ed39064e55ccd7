"""MedXAI without a window: explain volumes inside 3D Slicer, one after the other.

Slicer --no-splash --no-main-window --python-script medxai_batch.py -- \\
    --input head.nrrd --model planted-lesion --output out

The application ends with 0 when every volume was done, else with 1, whatever happens.
"""

import argparse
import sys
import traceback
from pathlib import Path
from typing import Any

import slicer

MODULE = Path(__file__).resolve().parents[2]
"""The folder of MedXAI.py, packaged and in a source checkout."""


def arguments(words: list[str]) -> argparse.Namespace:
    """The options of a command line."""
    parser = argparse.ArgumentParser(
        prog="medxai_batch.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--input", nargs="+", required=True, help="volumes in any format that Slicer reads")
    parser.add_argument(
        "--model", required=True, help="name of a model that comes with MedXAI, or path of a model card"
    )
    parser.add_argument("--output", required=True, type=Path, help="folder; each volume gets one of its own in it")
    parser.add_argument("--class", dest="target", help="class to explain (default: the predicted one)")
    parser.add_argument("--method", nargs="+", default=["gradcam"], help="gradcam, lime (default: gradcam)")
    parser.add_argument("--layer", nargs="+", default=[], help="layers, as in named_modules() (default: the card's)")
    parser.add_argument("--slices", help="slice-wise models: all, top:N or a:b")
    parser.add_argument("--samples", type=int, help="LIME: number of perturbed inputs")
    parser.add_argument("--weights", help="the weights file, or the folder that holds it")
    parser.add_argument("--trust", action="store_true", help="let a weights file run code")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--scene", action="store_true", help="also save the scene (.mrb)")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier runs in the output folders")
    return parser.parse_args(words)


def one(logic: Any, path: str, a: argparse.Namespace) -> None:
    """One volume: load, explain, export."""
    from MedXAILib.errors import InputError

    folder = a.output / Path(path).name.split(".")[0]
    if (folder / "run.json").exists() and not a.overwrite:
        raise InputError(f"{folder} holds an earlier run; give another --output, or add --overwrite.")
    if not Path(path).exists():
        raise InputError("there is no such file; check the path.")
    slicer.mrmlScene.Clear()
    volume = slicer.util.loadVolume(path, {"show": False})
    options = {"layers": a.layer, "slices": a.slices, "samples": a.samples, "weights": a.weights}
    logic.explain(volume, a.model, a.target, a.method, trust=a.trust, device=a.device, **options)
    files = logic.export(volume, folder, overwrite=a.overwrite)
    if a.scene and not slicer.util.saveScene(str(folder / f"{folder.name}.mrb")):
        raise OSError(f"{folder / folder.name}.mrb: the scene could not be saved.")
    print(f"{path}: {len(files)} files in {folder}", flush=True)


def main(words: list[str]) -> int:
    """The exit code."""
    a = arguments(words)
    sys.path[:0] = [str(MODULE)]
    from MedXAI import NOTICE, MedXAILogic

    logic, failed = MedXAILogic(), 0
    for path in a.input:
        try:
            one(logic, path, a)
        except Exception as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr, flush=True)
    logic.client.stop()
    print(f"{len(a.input) - failed} of {len(a.input)} volumes done. {NOTICE}.", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:  # of argparse; Slicer itself would stay
        code = 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
    slicer.util.exit(code)
