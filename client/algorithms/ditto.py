"""Ditto, the client's half: a model of its own, pulled towards the shared one as it was downloaded."""

from torch import nn

from lotteryfl.client.local.algorithm import LocalAlgorithm
from lotteryfl.common.pruning.parameters import named_tensors


class Ditto(LocalAlgorithm):
    """Trains the own model before the shared one moves; or alone, in the place of the shared one."""

    name = "ditto"

    def begin(self) -> None:
        """Take the own model up where it was, or as downloaded, and train it unless the plan does."""
        work = self.work
        is_only = bool(work.options.get("only"))
        self._model = work.model if is_only else work.copy()
        self._own = work.like("personal")
        if work.tensors["begun"]:
            values = named_tensors(self._model)
            for name, kept in self._own.items():
                values[name].copy_(kept)
        if not is_only:
            towards = work.named_parameters()  # as downloaded: nothing has trained them yet
            work.train(self._model, proximal=work.options["lambda"], towards=towards, what="personal")

    def end(self) -> None:
        """Keep the own model with the client."""
        values = named_tensors(self._model)  # anew: training may have moved them to other storages
        for name, kept in self._own.items():
            kept.copy_(values[name])
        self.work.tensors["begun"].fill_(True)

    def personalised(self) -> nn.Module:
        """Measure the client by its own model."""
        return self._model
