"""Options: every one of every command explains itself, from one place."""

import argparse
import ast
import dataclasses
import importlib
import inspect
import sys
from pathlib import Path

import pytest

from pipelines.commands.main import make_parser as vivace_parser
from tests.conftest import ROOT
from training.config import RunConfig, UNetRun, about, invalid, make_parser, option, parse_config
from training.text.align import TextAlignRun

FOLDERS = ("benchmarks", "space", "training")


def modules_that_call(name: str) -> list[str]:
    """Modules of the commands' folders in which a function of this name is called."""
    found = []
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        nodes = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if name in {getattr(node, "attr", getattr(node, "id", None)) for node in nodes}:
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [name for name in found if name != "training.config"]


def bare(text: str) -> str:
    """A text without white space, since argparse breaks lines at hyphens too."""
    return "".join(text.split())


def test_the_commands_are_found():
    assert {"training.train_unet", "training.sweep", "training.listeners.key"} <= set(modules_that_call("parse_config"))
    assert {"benchmarks.load", "training.data.prepare.__main__"} <= set(modules_that_call("ArgumentParser"))


@pytest.mark.parametrize("name", modules_that_call("parse_config"))
def test_help_shows_every_setting_with_its_range(name, capsys):
    module = importlib.import_module(name)
    classes = [value for key, value in vars(module).items() if key.endswith("Run") and dataclasses.is_dataclass(value)]
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    shown = bare(capsys.readouterr().out)
    (config_class,) = [kind for kind in classes if bare(kind.__doc__) in shown]
    assert invalid(config_class()) is None
    for field in dataclasses.fields(config_class):
        described = about(config_class, field.name)
        assert len(described["help"].split()) > 1, field.name
        ends = f" (allowed: {described['range']}; default: " if str(described["range"]) else " (default: "
        assert bare(described["help"] + ends) in shown and f"--{field.name}" in shown, field.name


class Made(Exception):
    """Carries the parser that a command made."""


def maker_of(module) -> str:
    """Name of the function of a command that makes its parser."""
    for node in ast.parse(Path(module.__file__).read_text()).body:
        if isinstance(node, ast.FunctionDef) and "ArgumentParser(" in ast.unparse(node):
            return node.name
    raise AssertionError(f"{module.__name__} makes its parser outside of a function")


@pytest.mark.parametrize("name", modules_that_call("ArgumentParser"))
def test_every_argument_of_a_plain_parser_has_help(name, monkeypatch):
    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Made(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", ["command"])
    module = importlib.import_module(name)
    maker = vars(module)[maker_of(module)]
    words = [None] * len(inspect.signature(maker).parameters)  # the command line, where it can be given
    with pytest.raises(Made) as made:
        maker(*words)
    assert silent_arguments(made.value.args[0]) == []


def silent_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Arguments without help, those of commands below too."""
    silent = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            silent += [word for command in action.choices.values() for word in silent_arguments(command)]
        elif not action.help:
            silent.append(f"{parser.prog} {'/'.join(action.option_strings) or action.dest}")
    return silent


def test_every_argument_of_vivace_has_help():
    assert silent_arguments(vivace_parser()[0]) == []


@dataclasses.dataclass(frozen=True)
class Base:
    """A command."""

    share: float = option(0.5, "a share", at_least=0, below=1)
    speed: float | None = option(None, "a speed", above=0, at_most=9)
    sizes: list[int] = option([1, 2], "some sizes", at_least=1)
    kind: str = option("a", "a kind", choices=("a", "b"))
    quiet: bool = option(False, "print less", free=True)


@dataclasses.dataclass(frozen=True)
class Other(Base):
    """Another command."""

    share: float = 0.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--share", "1"], "share is 1.0; allowed: 0 to below 1"),
        (["--share", "nan"], "share is NaN"),
        (["--speed", "0"], "speed is 0.0; allowed: above 0 to 9"),
        (["--speed", "fast"], "argument --speed: 'fast' is not a number"),
        (["--sizes", "3", "0"], "sizes is [3, 0]; allowed: one or more numbers of at least 1"),
        (["--sizes", "1.5"], "argument --sizes: '1.5' is not a whole number"),
        (["--kind", "c"], "kind is 'c'; allowed: 'a', 'b'"),
        (["--quiet", "maybe"], "argument --quiet: 'maybe' is neither true nor false"),
        (["--config", "none.yaml"], "--config none.yaml: no such file"),
    ],
)
@pytest.mark.parametrize("kind", [Base, Other])
def test_what_is_not_allowed_is_one_line(kind, words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_config(kind, words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("share: 2", "share is 2.0; allowed: 0 to below 1"),
        ("sizes: [1, many]", "argument --sizes: 'many' is not a whole number"),
        ("kind: null", "kind is 'null'; allowed: 'a', 'b'"),
        ("- share", "holds no settings"),
        ("share: [", "while parsing a flow node"),
    ],
)
def test_a_file_is_checked_as_the_command_line_is(text, message, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse_config(Base, ["--config", str(tmp_path / "a.yaml")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_a_file_and_the_command_line_give_values_of_the_fields_types(tmp_path):
    (tmp_path / "a.yaml").write_text("share: 3e-1\nspeed: 2\nsizes: [4]\nkind: b\nquiet: true\n")
    words = ["--config", str(tmp_path / "a.yaml")]
    assert parse_config(Base, words) == Base(0.3, 2.0, [4], "b", True)
    assert parse_config(Base, [*words, "--speed", "null", "--sizes", "5", "6", "--quiet", "false"]) == Base(
        0.3, None, [5, 6], "b", False
    )
    assert parse_config(Other, ["--quiet"]) == Other(0.25, quiet=True)
    assert about(Other, "share")["help"] == "a share" and "(allowed: 0 to below 1; default: 0.25)" in " ".join(
        make_parser(Other).format_help().split()
    )


def test_both_spellings_of_a_name_are_taken():
    assert parse_config(UNetRun, ["--max-steps", "3", "--batch_size=2"]).max_steps == 3


def test_what_may_change_in_a_run_that_goes_on():
    free = {field.name for field in dataclasses.fields(UNetRun) if about(UNetRun, field.name)["free"]}
    assert {"max_minutes", "checkpoint_every", "tracker", "evaluate_every", "compile", "num_workers"} <= free
    assert not {"learning_rate", "max_steps", "batch_size", "seed", "crop_frames", "scheduler_config"} & free
    # The encoder that stage 3 evaluates with is free; the one whose states are the targets of stage 0 is not.
    assert about(UNetRun, "text_encoder")["free"] and not about(TextAlignRun, "text_encoder")["free"]


def test_a_field_without_an_option_is_an_error():
    @dataclasses.dataclass(frozen=True)
    class Silent(RunConfig):
        """A command."""

        more: int = 1

    with pytest.raises(TypeError, match=r"Silent\.more is no option"):
        make_parser(Silent)
