"""PruneFL, the client's half (Jiang et al. 2022, section IV): what every weight would do for the loss."""

from lotteryfl.client.local.algorithm import LocalAlgorithm


class PruneFL(LocalAlgorithm):
    """Sends the squares of what a round's gradients add up to, of all parameters, pruned weights too."""

    name = "prunefl"

    def begin(self) -> None:
        """Have room for the sums."""
        self._sums = self.work.like("importance")

    def before_step(self, step: int) -> None:
        """Add a step's gradients."""
        del step
        for name, parameter in self.work.named_parameters().items():
            if parameter.grad is not None:
                self._sums[name] += parameter.grad

    def end(self) -> None:
        """Square the sums."""
        for total in self._sums.values():
            total.square_()
