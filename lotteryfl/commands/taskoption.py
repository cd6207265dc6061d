"""The option by which commands take tasks of the user's own."""

import click

task_option = click.option(
    "--task", "tasks", multiple=True, metavar="FILE|MODULE", help="A task of your own to allow here."
)
"""Gives the command `tasks`, a tuple of what was named."""
