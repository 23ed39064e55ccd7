"""Keys: what a result depends on, as a short text. What has the same key need not be computed again.

Of a prediction: pixels and geometry, the fields of the card that decide, the weights, and the numbers of the stages. Of maps:
that, and what was asked. Nothing else: no path, no name, no device, no order of cases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import stages
from ..attribution.method import Method
from ..attribution.option import settled
from ..attribution.registry import chosen, method
from ..geometry.labels import Labels
from ..geometry.volume import Volume
from ..models.card import ModelCard
from .checking import part_of
from .job import EXPLAIN, Job

LENGTH = 16
"""Hexadecimal digits of a key: 64 bits."""
EACH = "of each case"
"""Stands in a question for the hash of a mask that each case has for itself."""
UNDECIDED = {"name", "description", "weights", "provenance", "licence", "figures", "weaknesses", "methods"}
"""Fields of a card that change no value. (The weights have a hash of their own.)"""


def key_of(**parts: Any) -> str:
    """The key of plain values: equal for equal ones, whatever the order of names."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def hash_of(image: Volume | Labels) -> str:
    """Of an image's voxels, their type, where they lie, and how sure this is: not of the file that holds them."""
    volume = image.volume if isinstance(image, Labels) else image
    rows = [[row.value, row.name, row.color] for row in image.rows] if isinstance(image, Labels) else []
    array = np.ascontiguousarray(volume.array)
    told = {
        "type": array.dtype.newbyteorder("<").str, "shape": array.shape, "affine": volume.affine.tolist(), "reach": volume.reach,
        "assumed": sorted(volume.source.assumed), "letters": volume.source.letters, "rows": rows,
        "modality": volume.source.series.get("modality", ""),
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def model_identity(card: ModelCard, weights: str) -> dict[str, Any]:
    """What of a model decides its values, in plain ones.

    :param weights: their hash, or whatever stands for it.
    """
    return {"card": card.model_dump(mode="json", exclude=UNDECIDED), "weights": weights, "stages": stages.PREDICTION}


def prediction_key(model: Mapping[str, Any], channels: Sequence[str], inputs: Mapping[str, str]) -> str:
    """Of what a model says of a case.

    :param model: its identity. :param channels: names of its inputs. :param inputs: name -> hash; a single one may have the name "".
    """
    named = {channels[0] if name == "" else name: digest for name, digest in inputs.items()}
    return key_of(model=model, inputs=named)


def map_key(prediction: str, question: Mapping[str, Any], mask: str | None = None) -> str:
    """Of the maps that answer a question.

    :param prediction: key of the prediction that is explained. :param question: one of :func:`questions`.
    :param mask: hash of the case's own, where the question is about one.
    """
    own = {"mask": mask} if question.get("mask") == EACH else {}
    return key_of(prediction=prediction, question={**question, **own})


def questions(job: Job, card: ModelCard, hashes: Mapping[str, str], masked: bool = False) -> list[dict[str, Any]]:
    """What a job asks of each case, in plain values: a target and a method each, in the order in which results are listed. The
    answer is a map, or several where there are several layers.

    :param hashes: path -> hash, of the mask and of references that the job names.
    :param masked: whether each case has a mask of its own.
    """
    if job.task != EXPLAIN:
        return []
    part, told = part_of(job), {}
    if masked:
        told = {"mask": EACH}
    elif part is not None:
        value = getattr(job, part)
        told = {part: hashes[value] if part == "mask" else value}
    labels: list[str | None] = [card.output.labels[card.index(label)].name for label in job.classes]
    return [
        {
            "target": target,
            **told,
            "score": job.score,
            **_asked_of(m, job, hashes),
            "numbers": numbers(m),
            "stages": stages.MAP,
        }
        for target in labels or [None]
        for m in chosen(job.methods)
    ]


def _asked_of(m: Method, job: Job, hashes: Mapping[str, str]) -> dict[str, Any]:
    options = settled(m.options, job.options)
    options |= {o.name: [hashes[path] for path in options[o.name]] for o in m.options if o.inputs}
    layers = list(job.layers) if m.takes_layers else []
    return {
        "method": m.name, "layers": layers, "slices": job.slices, "options": options, "seed": job.seed, "probe": not job.no_probe,
        "cells": job.cells and m.takes_layers,
    }  # fmt: skip


def numbers(m: Method) -> dict[str, int]:
    """Of a method and of those whose maps it takes."""
    return {m.name: m.number} | {name: method(name).number for name in m.requires}


def seed_of(seed: int, volume: Volume) -> int:
    """The seed of a case: of the job's and of the values of its first input, whatever program read them and whenever its turn
    comes. So chance is another one in each case, and evens out over a cohort."""
    values = np.ascontiguousarray(volume.array, np.float32)
    digest = hashlib.blake2b(values.data, digest_size=8).hexdigest()
    return int(key_of(seed=seed, shape=volume.shape, values=digest)[:8], 16)


def made_key(part: str, made: Mapping[str, Any]) -> str:
    """Of what is made of a part without the network.

    :param part: its key. :param made: what it is made by: the fraction of mass, anatomy, format, writers.
    """
    return key_of(part=part, made=made)
