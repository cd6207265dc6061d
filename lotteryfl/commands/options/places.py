"""Options of the commands that run something on other machines: where, and with which settings."""

import click

profile_option = click.option(
    "--profile",
    default="",
    metavar="NAME|FILE",
    help="Settings for every experiment: NAME.toml in ~/.config/lotteryfl, or a path. [default: default, if any]",
)
"""Gives the command `profile`, as `launch_settings` takes it."""

with_option = click.option(
    "--with",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override the profile and the experiment's [launch], as slurm.nodes=4.",
)
"""Gives the command `given`, likewise."""
