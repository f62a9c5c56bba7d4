"""The command line states the defaults and choices of the Python API, which its help must not load."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_args

import click
import pytest

import penult
from penult import defaults
from penult.exporters.requests import FAMILIES
from penult.pipeline.cli.app import VERBS, app
from penult.pipeline.demo.demo import run_demo
from penult.pipeline.doctor.diagnosis import diagnose
from penult.pipeline.evaluation.measures import Measure
from penult.pipeline.images.decode import FILTERS
from penult.pipeline.runtime.providers import EXECUTION_PROVIDERS
from penult.pipeline.samples.relabelling import SplitRule
from penult.store.layouts import LAYOUTS

CONTEXT = click.Context(app)


def command(*words: str) -> click.Command:
    found: click.Command = app
    for word in words:
        assert isinstance(found, click.Group)
        loaded = found.get_command(CONTEXT, word)
        assert loaded is not None
        found = loaded
    return found


def commands() -> list[tuple[str, ...]]:
    """Every verb, and every command of a verb."""
    names: list[tuple[str, ...]] = []
    for verb in VERBS:
        found = command(verb)
        names += [(verb, name) for name in found.commands] if isinstance(found, click.Group) else [(verb,)]
    return names


def defaults_of(source: Callable[..., Any] | type) -> dict[str, Any]:
    if isinstance(source, type):
        return {field.name: field.default for field in fields(source) if field.default is not MISSING}
    parameters = inspect.signature(source).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


@pytest.mark.parametrize(
    ("words", "source"),
    [
        (("demo",), run_demo),
        (("fit",), penult.fit),
        (("fit",), penult.ExtractOptions),
        (("fit",), penult.TrainOptions),
        (("extract",), penult.extract),
        (("extract",), penult.ExtractOptions),
        (("train",), penult.train),
        (("train",), penult.TrainOptions),
        (("compare",), penult.compare),
        (("compare",), penult.CompareOptions),
        (("review",), penult.review),
        (("review",), penult.ReviewOptions),
        (("advise",), penult.advise),
        (("advise",), penult.AdviseOptions),
        (("predict",), penult.predict),
        (("serve",), penult.serve),
        (("report",), penult.report),
        (("export",), penult.export),
        (("doctor",), diagnose),
        (("dataset", "split"), SplitRule),
    ],
)
def test_a_verb_has_the_defaults_of_the_function_that_it_calls(
    words: tuple[str, ...], source: Callable[..., Any] | type
) -> None:
    api = defaults_of(source)
    compared = 0
    for parameter in command(*words).params:
        wanted, given = api.get(str(parameter.name)), parameter.get_default(CONTEXT)
        if isinstance(wanted, tuple) and wanted:  # a list is text on the command line
            wanted = ",".join(wanted)
        # The command line names a store where Python takes none.
        if isinstance(wanted, str | bool | int | float) and given is not None:
            assert (str(given) if isinstance(wanted, str) else given) == wanted, parameter.name
            compared += 1
    assert compared


def test_the_choices_are_those_that_the_library_takes() -> None:
    assert set(defaults.LAYOUTS) == set(LAYOUTS)
    assert set(defaults.PIXEL_FAMILIES) == set(FAMILIES)
    assert set(defaults.RESIZE_FILTERS) == set(FILTERS)
    assert set(defaults.PROVIDERS) == {*EXECUTION_PROVIDERS, "openvino"}
    assert set(defaults.MEASURES) == set(get_args(Measure))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_json_and_explains_each_option(words: tuple[str, ...]) -> None:
    options = [parameter for parameter in command(*words).params if isinstance(parameter, click.Option)]
    assert "--json" in [name for option in options for name in option.opts]
    for option in options:
        assert option.help, option.opts
        assert len(option.help.split()) >= 3, option.opts


@pytest.mark.parametrize("words", [(), *((verb,) for verb in VERBS if isinstance(command(verb), click.Group))], ids=str)
def test_the_list_of_commands_shows_whole_sentences(words: tuple[str, ...]) -> None:
    found = command(*words)
    context = click.Context(found, info_name="penult", terminal_width=80)
    text = found.get_help(context)
    assert "\b" not in text
    assert "\\b" not in text
    assert "..." not in text.partition("Commands:")[2]
