"""A Job through JSON, and as the command line that would build it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict

from hypothesis import given, settings
from hypothesis import strategies as st

from MedXAILib import cli
from MedXAILib.app.job import Job

names = st.text("abc XYZ-'\"$é", min_size=1, max_size=8).filter(lambda text: text.strip() and not text.startswith("-"))
jobs = st.builds(
    Job,
    task=st.just("explain"),
    inputs=st.one_of(
        names.map(lambda n: {"": f"/{n}.nrrd"}), st.dictionaries(names, names.map("/{}".format), min_size=2, max_size=3)
    ),
    model=names,
    weights=st.none() | names,
    trust=st.booleans(),
    device=st.sampled_from(["auto", "cpu"]),
    classes=st.lists(names, max_size=2, unique=True).map(tuple),
    voxel=st.none() | st.tuples(*[st.integers(-200, 200).map(lambda n: n / 4)] * 3),
    methods=st.sampled_from([("gradcam",), ("lime",), ("gradcam", "lime")]),
    layers=st.lists(names, max_size=2, unique=True).map(tuple),
    slices=st.none() | st.sampled_from(["all", "top:3", "2:7"]),
    samples=st.none() | st.integers(2, 999),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.5, 0.25]),
    anatomy=st.none() | names,
)


@given(jobs)
def test_a_job_comes_back_from_json(job):
    assert Job.from_json(json.loads(json.dumps(asdict(job)))) == job


@settings(max_examples=60, deadline=None)
@given(jobs)
def test_its_command_builds_the_same_job(job):
    built = []
    carry_out, cli.carry_out = cli.carry_out, lambda job, *rest: built.append(job)
    try:
        words = shlex.split(job.command())
        assert words[0] == "medxai" and cli.run(words[1:]) == 0
    finally:
        cli.carry_out = carry_out
    assert built == [job]
