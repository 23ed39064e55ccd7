"""The job is one definition: whatever it holds comes back from JSON and from the command line, field by field of ``specs()`` and
``options()``, so that one that is added later is covered by itself."""

from __future__ import annotations

import json
import shlex
import string
from dataclasses import asdict, replace

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from MedXAILib import cli
from MedXAILib.app.job import (
    EXPLAIN,
    FLAG,
    NUMBER,
    PATH,
    POINT,
    PREDICT,
    TEXT,
    WHOLE,
    Job,
    default_of,
    flag_of,
    specs,
)
from MedXAILib.attribution import registry
from MedXAILib.attribution.option import Option
from MedXAILib.attribution.registry import methods, options
from MedXAILib.cli import running
from MedXAILib.errors import InputError

FOLDER = "hidden-folder"
"""In which every path of the jobs made here lies."""
texts = st.text(string.ascii_letters + string.digits + " -'\"$=,;*\\é", min_size=1, max_size=8).filter(str.strip)
names = texts.filter(lambda text: "=" not in text)
paths = names.map(lambda name: f"/{FOLDER}/of {name}")


def numbers(least, most, whole: bool):
    """Within bounds, where there are any."""
    if whole:
        return st.integers(-999 if least is None else int(least), 2**31 if most is None else int(most))
    bounds = {"min_value": least, "max_value": most}
    return st.floats(**{k: v for k, v in bounds.items() if v is not None}, allow_nan=False, allow_infinity=False)


def values_of(f) -> st.SearchStrategy:
    """What a field may hold, by its kind."""
    about, default = f.metadata, default_of(f)
    kinds = {
        TEXT: st.sampled_from(about["choices"]) if about["choices"] else texts,
        FLAG: st.booleans(),
        WHOLE: numbers(about["least"], about["most"], True),
        NUMBER: numbers(about["least"], about["most"], False),
        POINT: st.tuples(*[numbers(None, None, False)] * 3),
        PATH: paths,
    }
    one = kinds[about["kind"]]
    if about["many"]:  # none given is the default
        return st.lists(one, min_size=1 if default else 0, max_size=3, unique=True).map(tuple)
    return one if default is not None else st.none() | one


def values_of_option(option: Option) -> st.SearchStrategy:
    """What an option of a method may be, where it is given: what is its default is not told."""
    kinds = {int: numbers(option.least, option.most, True), float: numbers(option.least, option.most, False)}
    kinds |= {str: st.sampled_from(option.choices) if option.choices else texts, bool: st.just(True)}
    one = paths if option.inputs else kinds[option.kind]
    if option.many:
        return st.lists(one, min_size=1, max_size=3).map(tuple)
    return one.filter(lambda value: value != option.default)


TASKS = st.sampled_from([PREDICT, EXPLAIN])


@st.composite
def jobs(draw, task: st.SearchStrategy = TASKS) -> Job:
    """Any job; a few of its fields differ from their defaults."""
    what = draw(task)
    fields = {f.name: values_of(f) for f in specs(what)}
    of_methods = {option.name: values_of_option(option) for option in options().values()} if what == EXPLAIN else {}
    given_fields = draw(st.fixed_dictionaries({}, optional=fields))
    given_options = draw(st.fixed_dictionaries({}, optional=of_methods))
    inputs = draw(paths.map(lambda path: {"": path}) | st.dictionaries(names, paths, min_size=1, max_size=3))
    return Job(task=what, inputs=inputs, model=draw(paths), options=given_options, **given_fields)


def parsed(job: Job, app=None) -> Job:
    """What the command line makes of a job's own command."""
    built = []
    carry_out, running.carry_out = running.carry_out, lambda job, *rest: built.append(job)
    try:
        words = shlex.split(job.command())
        assert words.pop(0) == "medxai"
        if app is None:
            assert cli.run(words) == 0
        else:
            app(words, standalone_mode=False)
    finally:
        running.carry_out = carry_out
    (found,) = built
    return found


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_a_job_comes_back_from_json(job):
    assert Job.from_json(json.loads(json.dumps(asdict(job)))) == job


@settings(max_examples=60, deadline=None)
@given(jobs())
def test_its_command_builds_the_same_job(job):
    assert parsed(job) == job


@pytest.mark.parametrize("task", [PREDICT, EXPLAIN])
@settings(max_examples=2, deadline=None)
@given(st.data())
def test_every_field_alone_comes_back_from_the_command(task, data):
    plain = Job(task=task, inputs={"": "in.nrrd"}, model="m")
    for f in specs(task):
        job = Job(task=task, inputs={"": "in.nrrd"}, model="m", **{f.name: data.draw(values_of(f))})
        assert parsed(job) == job
        assert (job == plain) != (flag_of(f) in job.command()), f.name
    for option in options().values() if task == EXPLAIN else ():
        value = data.draw(values_of_option(option))
        job = Job(task=task, inputs={"": "in.nrrd"}, model="m", options={option.name: value})
        assert parsed(job) == job and option.flag in job.command()


@settings(max_examples=50, deadline=None)
@given(jobs())
def test_a_job_that_is_written_down_names_no_folder(job):
    written = json.dumps(job.described())
    assert FOLDER not in written
    assert set(json.loads(written)) == set(asdict(job))
    for path in job.paths():
        assert json.dumps(path.rpartition("/")[2])[1:-1] in written


@settings(max_examples=50, deadline=None)
@given(jobs(), texts)
def test_a_field_that_there_is_not_is_refused_in_a_sentence(job, name):
    values = json.loads(json.dumps(asdict(job)))
    with pytest.raises(InputError) as caught:
        Job.from_json(values | {f"no {name}": 1})
    assert str(caught.value).startswith(f"A job has no field 'no {name}': ") and str(caught.value).endswith(".")


@pytest.mark.parametrize("name", ["task", "inputs", "model"])
def test_a_field_that_is_missing_is_named(name):
    values = asdict(Job(task=EXPLAIN, inputs={"": "a"}, model="m"))
    del values[name]
    with pytest.raises(InputError, match=f"A job needs the field '{name}'"):
        Job.from_json(values)


@pytest.mark.parametrize(("name", "value"), [("inputs", "a.nii"), ("inputs", None), ("options", []), ("options", None)])
def test_a_field_of_names_and_values_is_no_other(name, value):
    values = asdict(Job(task=EXPLAIN, inputs={"": "a"}, model="m")) | {name: value}
    with pytest.raises(InputError, match=f"A job's field '{name}' is names and values"):
        Job.from_json(values)


def test_a_command_has_the_options_of_methods_that_only_the_worker_has():
    """As the panel's process copies it, which need not see the packages of the worker's Python."""
    job = Job(
        task=EXPLAIN, inputs={"": "-a.nii"}, model="m", options={"slab_size": 3, "off": False, "marks_of_it": (1, 2)}
    )
    words = shlex.split(job.command())
    assert words[2] == "./-a.nii", "no option"
    assert words[-3:] == ["--slab-size=3", "--marks-of-it=1", "--marks-of-it=2"]


def test_an_option_that_no_method_has_is_refused_in_a_sentence():
    job = Job(task=EXPLAIN, inputs={"": "a"}, model="m", options={"sampels": 3})
    with pytest.raises(InputError, match=r"There is no option 'sampels': choose from .*samples.*\."):
        job.check()


EVERY_KIND = (
    Option(name="steps_of_it", kind=int, help="", least=2, most=99),
    Option(name="width", kind=float, help="", default=0.5),
    Option(name="rule", kind=str, help="", default="a", choices=("a", "b")),
    Option(name="strict", kind=bool, help="", default=False),
    Option(name="marks", kind=int, help="", default=(), many=True),
    Option(name="others", kind=str, help="", default=(), many=True, inputs=True),
)
"""Options that methods of other packages may have."""


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_options_of_any_kind_come_back_from_the_command(data):
    more = methods() | {"rise": replace(methods()["rise"], options=EVERY_KIND)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "methods", lambda: more)
        app = typer.Typer()
        running.add_to(app)
        job = data.draw(jobs(st.just(EXPLAIN)))
        assert parsed(job, app) == job
        job.described()
