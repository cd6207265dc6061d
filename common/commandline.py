"""Options of the program as they are given on a command line."""


def given(**values: object) -> list[str]:
    """Return options with their values, in this order.

    Args:
        values: by the options' names, with _ for -; one that is empty or 0 is left out, True is a flag, and of a tuple
            each value is given.
    """
    found: list[str] = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(option)
        elif value:
            found += [f"{option}={each}" for each in (value if isinstance(value, tuple) else (value,))]
    return found
