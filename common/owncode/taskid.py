"""What a file or module of the user's own is called on every machine: its name without its place."""

from pathlib import PurePath, PureWindowsPath


def task_id(name: str) -> str:
    """Return the name of a task without its place: custom_task for /x/custom_task.py and x.custom_task."""
    if name.startswith("hf:"):
        return name
    if name.endswith(".py"):
        # Only the path's form counts: it may come from another system.
        return (PureWindowsPath if "\\" in name else PurePath)(name).stem
    return name.rpartition(".")[2]
