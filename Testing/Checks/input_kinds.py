"""How often the zoo's models call an input unlike what they know: on their own validation and test sets, where at most one
in twenty may be called so, and on inputs of other kinds.

    make check-input          # about 8 minutes on one core; it goes on where it stopped

The ranges come from the training cases alone (``input.expected`` of each card); nothing here is fitted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from results import ROOT, Results

from MedXAILib.errors import InputError
from MedXAILib.examples.planted_lesion.heads import demo_head, read_held_out
from MedXAILib.examples.planted_lesion.planting import plant_in, survey
from MedXAILib.geometry.volume import Volume
from MedXAILib.io.read import read_volume
from MedXAILib.models.card import ModelCard
from MedXAILib.models.loading import find_card
from MedXAILib.models.sources.zoo import zoo_cards
from MedXAILib.preprocessing.prepare import prepare
from MedXAILib.preprocessing.suitability import check
from MedXAILib.progress import silent
from MedXAILib.training.cases import find_both
from MedXAILib.training.example import load_all
from MedXAILib.training.recipe import known_recipes, read_recipe
from MedXAILib.training.splitting import split

ALLOWED = 0.05
SEEDS = 25
TUTORIAL = {
    "brain-tumor-slices": ["volumes/pyradiomics_brain1_image.nrrd"],
    "hippocampus-doubleunet": ["volumes/hippocampus/images/hippocampus_004.nii.gz"],
}
FOREIGN = {
    "abdominal CT": "volumes/ts_example_ct_sm.nii.gz",
    "abdominal MR": "volumes/ts_example_mr_sm.nii.gz",
    "thigh CT": "volumes/STS_002_CT_image.nii.gz",
    "thigh CT, DICOM": "dicom/STS_002_CT",
    "thigh MR": "volumes/STS_002_MR_T1_image.nii.gz",
    "thigh PET": "volumes/STS_002_PET_image.nii.gz",
    "chest CT": "volumes/elastix_3DCT_lung_baseline_small.mha",
    "spine MR": "volumes/sct_t2.nii.gz",
    "breast MR": "volumes/pyradiomics_breast1_image.nrrd",
    "labels of a CT": "volumes/ts_example_seg.nii.gz",
    "labels of an MR": "volumes/ts_example_seg_mr.nii.gz",
    "labels of a brain": "models/ref_model18_t1crop.nii.gz",
    "a tumour's mask": "volumes/pyradiomics_brain1_label.nrrd",
    "whole head MR": "volumes/brainchop_t1_crop.nii.gz",
    "head MR, another scan": "volumes/TCGA-FG-6692_t1c.nii.gz",
    "chest X-ray, child": "images2d/kermany_cxr",
    "chest X-ray": "images2d/nih_cxr",
    "retina": "images2d/chasedb1",
}
"""A folder of pictures stands for its first file."""
MUST = ("abdominal CT", "empty", "constant", "inverted")


def changed(volume: Volume) -> dict[str, Volume]:
    """One's own input, spoilt."""
    array = volume.array.astype(np.float32)
    flat = array.shape[0] == 1
    made = {
        "empty": array * 0,
        "constant": array * 0 + 7,
        "inverted": array.max() - array,
        "noise": np.random.default_rng(0).normal(size=array.shape),
        "front and back exchanged": array[:, ::-1],
        "turned by 90 degrees": np.rot90(array, axes=(1, 2)),
    }
    if not flat:
        made |= {"upside down": array[::-1], "axes j and k exchanged": array.swapaxes(0, 1)}
    return {name: Volume(np.ascontiguousarray(a, np.float32), volume.affine, volume.source) for name, a in made.items()}


def own_cases(name: str, card: ModelCard, data: Path) -> Iterator[tuple[str, str, Callable[[], Volume]]]:
    """(set, case, reader) of what the model was held against."""
    if name not in known_recipes():
        for part, head in (("test", demo_head()), ("validation", read_held_out(data))):
            seen = survey(head)
            for seed in range(SEEDS):
                yield part, f"seed {seed}", lambda head=head, seen=seen, seed=seed: plant_in(head, seen, seed).head
        return
    recipe = read_recipe(name)
    found, tested = find_both(recipe, card, data)
    _, held = split(recipe, card, found, load_all(card, found, silent))
    for part, some in (("test", tested), ("validation", [found[n] for n in held])):
        for case in some:
            yield part, case.image.relative_to(data).as_posix(), lambda case=case: read_volume(case.image)


def foreign_cases(own: Volume, data: Path) -> Iterator[tuple[str, str, Callable[[], Volume]]]:
    for name, volume in changed(own).items():
        yield "foreign", name, lambda volume=volume: volume
    for name, path in FOREIGN.items():
        yield "foreign", name, lambda path=data / path: read_volume(first(path))


def first(path: Path) -> Path:
    """The file, the DICOM folder, or the first picture of a folder."""
    pictures = sorted(p for p in path.glob("*") if p.suffix in (".png", ".jpg", ".jpeg")) if path.is_dir() else []
    return pictures[0] if pictures else path


def codes(card: ModelCard, volume: Volume) -> list[str]:
    try:
        return [caveat.code for caveat in check(card, prepare(card, volume))]
    except InputError:
        return ["refused"]


def report(found: dict[tuple, list[str]]) -> list[str]:
    """Prints the rates; gives what went wrong.

    :param found: (model, set, case) -> codes of its caveats.
    """
    failed = []
    for name in dict.fromkeys(model for model, _, _ in found):
        for part, allowed in (("validation", None), ("test", ALLOWED), ("tutorial", 0)):
            some = [codes for (model, kind, _), codes in found.items() if (model, kind) == (name, part)]
            called = sum(map(bool, some))
            if some:
                print(f"{name}, {part}: {called} of {len(some)} called unlike the training data")
            if allowed is not None and called > allowed * len(some):
                failed.append(f"{name}: {called} of {len(some)} of its own {part} set")
        for (model, part, case), codes in found.items():
            if (model, part) == (name, "foreign"):
                print(f"    {case}: {', '.join(codes) or 'nothing said'}")
                if case in MUST and not codes:
                    failed.append(f"{name}: nothing said of {case}")
    return failed


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    data = Path(os.environ.get("MEDXAI_TEST_DATA", ROOT.parent / "shared" / "data"))
    results = Results(
        "check-input", [ROOT / "MedXAILib" / f"{part}.py" for part in ("suitability", "regions", "preparation")]
    )
    found = {}
    for name in zoo_cards():
        card = find_card(name)[0]
        digest = hashlib.sha256(card.input.expected.model_dump_json().encode()).hexdigest()[:16]
        own = list(own_cases(name, card, data))
        tutorial = [("tutorial", p, lambda p=data / p: read_volume(p)) for p in TUTORIAL.get(name, ())]
        for part, case, read in [*own, *tutorial, *foreign_cases(own[0][2](), data)]:
            key = f"{name} {part} {case} {digest}"
            if key not in results.known:
                results.add(key, {"codes": codes(card, read())})
            found[name, part, case] = results.known[key]["codes"]
    sys.exit("\n".join(report(found)) or 0)


if __name__ == "__main__":
    main()
