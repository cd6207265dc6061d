"""The errors that name what a person can mend; the command line prints them as one line."""


class LotteryFLError(Exception):
    """Base of every error whose message is meant for the user as it is."""


class ExperimentError(LotteryFLError):
    """An experiment file or an override is wrong: the message names the key, its value and what is allowed."""


class TaskError(LotteryFLError):
    """A task, its data or its model cannot be used: the message names the task and what is missing."""


class OutputError(TaskError, ValueError):
    """What a model returns cannot be scored: the message names its form and what was expected."""


class PayloadError(LotteryFLError):
    """Received or stored bytes are not what the model's tensor table says: the message names the tensor."""
