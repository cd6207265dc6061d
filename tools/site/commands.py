"""The reference of the program: every command, as it describes itself."""

import inspect
from collections.abc import Iterator

import click

from lotteryfl.program import COMMANDS, program
from tools.site.markdown import cell, code, literal, table

_INTRODUCTION = """# Commands

What each says with `--help`. Exit codes: 0, all is well; 1, an error, said in one line; 2, wrong usage; 3, a run has
finished without some of its clients; 4, a worker's device is gone; 5, a task or local algorithm is here in another
version than the run's; 130, interrupted.
"""


def page() -> str:
    """Return the page."""
    context = click.Context(program, info_name="lotteryfl")
    own = [each for each in program.params if isinstance(each, click.Option)]
    parts = [_INTRODUCTION, table(("option", "what it does"), (_row(each, context) for each in own))]
    for name in COMMANDS:
        if command := program.get_command(context, name):
            parts += _described(command, click.Context(command, context, info_name=name), level=2)
    return "\n".join(parts)


def _described(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    """Give a command, and those below it."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"\n{'#' * level} {context.command_path}\n\n```text\n{usage}\n```\n\n{_text(command)}\n"
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    yield table(("option", "what it does"), (_row(each, context) for each in options))
    for name, each in getattr(command, "commands", {}).items():
        yield from _described(each, click.Context(each, context, info_name=name), level + 1)


def _text(command: click.Command) -> str:
    """Return what a command says of itself, as paragraphs."""
    return literal(inspect.cleandoc(command.help or "").replace("\f", "").replace("\b\n", ""))


def _row(option: click.Option, context: click.Context) -> tuple[str, str]:
    named, text = option.get_help_record(context) or (", ".join(option.opts), option.help or "")
    return code(named), cell(literal(text))
