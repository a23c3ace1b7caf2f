"""How a command is found among many, and loaded when it is called: none waits for what only others need."""

import ast
import gc
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Group(TyperGroup):
    """Commands by name, in the order in which help lists them: each is a group, or the `module:function` of this
    package that is called."""

    def __init__(self, name: str, help: str, commands: Mapping[str, "str | Group"]) -> None:
        self._places = commands
        super().__init__(name=name, help=help, commands=self._named({}), no_args_is_help=True)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        place = self._places.get(cmd_name)
        return _loaded(cmd_name, place) if isinstance(place, str) else place

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """What a list tells of a command stands in its source: to load them all would take a second."""
        told = self._named({name: _docstring(place) for name, place in self._places.items() if isinstance(place, str)})
        TyperGroup(name=self.name, help=self.help, commands=told).format_help(ctx, formatter)

    def _named(self, helps: Mapping[str, str | None]) -> dict[str, Any]:
        """The groups themselves, and in the place of each command another, which can do nothing."""
        return {
            name: TyperCommand(name, help=helps.get(name)) if isinstance(place, str) else place
            for name, place in self._places.items()
        }


def _loaded(name: str, place: str) -> Any:
    module, _, function = place.partition(":")
    alone = typer.Typer(add_completion=False)
    alone.command(name)(getattr(_imported(module), function))
    return typer.main.get_command(alone)


def _imported(module: str) -> ModuleType:
    """What is loaded stays: to look for garbage in it meanwhile, and later ever again, is a sixth of the time."""
    gc.disable()
    try:
        return import_module(f".{module}", __package__)
    finally:
        gc.freeze()
        gc.enable()


def _docstring(place: str) -> str | None:
    module, _, name = place.partition(":")
    source = ast.parse(Path(__file__).with_name(f"{module}.py").read_text())
    (function,) = (node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return ast.get_docstring(function)
