"""The errors that name what a person can mend; the command line prints them as one line."""


class LotteryFLError(Exception):
    """Base of every error whose message is meant for the user as it is."""

    exit_code = 1
    """Of the program that it ends."""


class ExperimentError(LotteryFLError):
    """An experiment file or an override is wrong: the message names the key, its value and what is allowed."""


class TaskError(LotteryFLError):
    """A task, its data or its model cannot be used: the message names the task and what is missing."""


class TaskVersionError(TaskError):
    """The user's own task is here in another version than the run's: the message names the file that differs."""

    exit_code = 5


class LocalAlgorithmError(LotteryFLError):
    """A file of local algorithms cannot be used: the message names it, and what is wrong."""


class LocalVersionError(LocalAlgorithmError):
    """The run's local algorithm is not here, or in another version: the message says how to begin, or what differs."""

    exit_code = 5


class OutputError(TaskError, ValueError):
    """What a model returns cannot be scored: the message names its form and what was expected."""


class ClientError(TaskError):
    """What one client's data, model or training raised: its own trouble, and nobody else's."""

    def __init__(self, message: str, told: str) -> None:
        """Set both forms.

        Args:
            message: with what the error itself says.
            told: its type and place alone, for those who must not learn of the client's data.
        """
        super().__init__(message)
        self.told = told


class ShortOfMemoryError(ClientError):
    """There is not the memory that one client's work takes: here and now, and perhaps elsewhere or later there is."""


class DeviceGoneError(LotteryFLError):
    """The device cannot be used any more by this process; by another one it may."""

    exit_code = 4


class PayloadError(LotteryFLError):
    """Received or stored bytes are not what the model's tensor table says: the message names the tensor."""
