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
        values = named_tensors(self._model)
        own = {name.removeprefix("personal:"): tensor for name, tensor in work.tensors.items() if ":" in name}
        self._kept = [(values[name], tensor) for name, tensor in own.items()]
        if work.tensors["begun"]:
            for value, kept in self._kept:
                value.copy_(kept)
        if not is_only:
            towards = work.named_parameters()  # as downloaded: nothing has trained them yet
            work.train(self._model, proximal=work.options["lambda"], towards=towards, what="personal")

    def end(self) -> None:
        """Keep the own model with the client."""
        for value, kept in self._kept:
            kept.copy_(value)
        self.work.tensors["begun"].fill_(True)

    def personalised(self) -> nn.Module:
        """Measure the client by its own model."""
        return self._model
