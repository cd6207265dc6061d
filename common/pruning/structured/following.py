"""Follows channels through a model's graph, as torch.export finds it, from the rows that make them to their readers."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.pruning.structured.channels import Channels, Flow, Reading, columns

_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_ALONE = {
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "silu_", "mish", "softplus"),
    *("tanh", "sigmoid", "hardtanh", "hardtanh_", "hardswish", "hardswish_", "hardsigmoid", "clamp"),
    *("dropout", "dropout_", "feature_dropout", "contiguous", "clone", "detach", "alias", "to", "_to_copy", "slice"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "upsample_nearest2d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
}
"""Operators by which a channel becomes itself alone, and is constant if it was, but at borders."""
_TOGETHER = {"add", "add_", "maximum"}
"""Of two values whose channels are then the same."""
_FOLDED = {"flatten", "view", "reshape", "_unsafe_view", "mean"}
"""What may lay a channel's numbers beside one another, or take their mean."""
_ASKED = {"sym_size", "sym_numel", "_assert_tensor_metadata"}
"""What gives no tensor."""


def follow(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Channels]:
    """Follow the channels of a model in eval mode.

    Args:
        model: plain, on the CPU.
        args: an example of what it gets, two examples or more.
        kwargs: the same by name.

    Raises:
        LotteryFLError: torch.export does not take the model, or what is pruned whole goes where it cannot be followed.
    """
    with torch.no_grad():
        try:
            exported = torch.export.export(model, args, dict(kwargs)).module(check_guards=False)
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise LotteryFLError(f"torch.export does not take the model: {reason}") from error
        walk = _Walk(exported)
        walk.run(*_pytree.tree_leaves((args, dict(kwargs))))
    if walk.lost:
        raise LotteryFLError(walk.lost)
    return walk.channels


class _Walk(Interpreter):
    """Runs the graph, and notes of every value what is known of its channels."""

    def __init__(self, exported: GraphModule) -> None:
        super().__init__(exported, garbage_collect_values=False)
        self.channels: list[Channels] = []
        self.lost = ""
        """What is pruned whole, and goes where it cannot be followed; '': nothing."""
        self._flows: dict[Node, Flow] = {}
        read = [node for node in exported.graph.nodes if node.op == "get_attr"]
        self._uses = Counter(self._storage(node) for node in read for _ in node.users)

    def run_node(self, n: Node) -> Any:
        """Run a node, then follow what goes through it."""
        result = super().run_node(n)
        if n.op == "output":
            for flow in self._flows_into(n):
                flow.channels.root().fixed = True
        elif n.op == "call_function" and (followed := self._follow(n, result)) is not None:
            self._flows[n] = followed
        return result

    def _follow(self, node: Node, result: Any) -> Flow | None:
        name = str(getattr(node.target, "__name__", node.target)).partition(".")[0]
        if name in _ASKED:
            return None
        if name == "linear" or name in _CONVOLUTIONS:
            found = self._layer(node, name, result)
        elif name == "batch_norm":
            found = self._norm(node)
        elif name in _TOGETHER:
            found = self._together(node)
        else:
            found = self._alone(node, name, result)
        if found is not None:
            return Flow(found.channels, found.axis, found.width, found.same_in(result), found.layer)
        self._lose(node, name)
        return None

    def _layer(self, node: Node, name: str, result: Tensor) -> Flow | None:
        """Have a layer read its input's channels, and make its own."""
        weight, bias = self._tensors(node, 1), self._tensors(node, 2)
        pads = name in _CONVOLUTIONS and _pads(node)
        if weight is None or bias is None or not weight or (name in _CONVOLUTIONS and _argument(node, 6, 1) != 1):
            return None
        matrix = self._value(weight)
        taken = self._flows.get(node.args[0])  # type: ignore[arg-type] # what is no node has none
        axis = 1 if name in _CONVOLUTIONS else result.dim() - 1
        made = Channels(torch.ones(len(matrix), dtype=torch.bool), [weight, *filter(None, [bias])])
        if taken is None:
            constant = (matrix.flatten(1) == 0).all(dim=1)
        else:
            value = self.env[node.args[0]]  # type: ignore[index]
            values = taken.of(value)[:, 0]
            if taken.axis != (1 if name in _CONVOLUTIONS else value.dim() - 1):
                return None
            reading = Reading(weight, bias, taken.constant, values, pads, made)
            taken.channels.root().readings.append(reading)
            constant = (columns(matrix, len(values))[:, ~taken.constant] == 0).flatten(1).all(dim=1)
        self.channels.append(made)
        return Flow(made, axis, 1, constant, weight.rpartition(".")[0] or weight)

    def _norm(self, node: Node) -> Flow | None:
        """Have a batch norm scale its input's channels, each by itself."""
        names = [self._tensors(node, place) for place in range(1, 5)]
        flow = self._flows.get(node.args[0])  # type: ignore[arg-type]
        if flow is None or (flow.axis, flow.width) != (1, 1) or None in names or node.args[5]:
            return None
        flow.channels.root().rows.extend(name for name in names if name)
        return flow

    def _together(self, node: Node) -> Flow | None:
        first, second = (self._flows.get(each) if isinstance(each, Node) else each for each in node.args[:2])
        if isinstance(first, Flow) and isinstance(second, int | float):
            return first
        if isinstance(first, Flow) and isinstance(second, Flow):
            shapes = [self.env[each].shape for each in node.args[:2]]  # type: ignore[index]
            if shapes[0] == shapes[1] and (first.axis, first.width) == (second.axis, second.width):
                joined = first.channels.root().join(second.channels)
                return Flow(joined, first.axis, first.width, first.constant & second.constant, first.layer)
        for flow in (first, second):
            if isinstance(flow, Flow):  # with what is not constant it is not either: nothing is lost
                flow.channels.root().fixed = True
        return None

    def _alone(self, node: Node, name: str, result: Any) -> Flow | None:
        flow = self._flows.get(node.args[0]) if node.args else None  # type: ignore[arg-type]
        if flow is None or not isinstance(result, Tensor) or len(node.all_input_nodes) > 1:
            return None
        before = self.env[node.args[0]]  # type: ignore[index]
        if name in _ALONE and result.dim() == before.dim() and result.shape[flow.axis] == before.shape[flow.axis]:
            return flow
        if name not in _FOLDED or flow.axis != 1 or result.dim() != 2 or len(result) != len(before):
            return None
        if result.numel() == before.numel() or (name == "mean" and result.shape == before.shape[:2]):
            return Flow(flow.channels, 1, result.shape[1] // len(flow.constant), flow.constant, flow.layer)
        return None

    def _lose(self, node: Node, name: str) -> None:
        for flow in self._flows_into(node):
            count = int(flow.constant.sum())
            if count and name not in _TOGETHER and not self.lost:
                self.lost = (
                    f"{flow.layer}: {count} of its {len(flow.constant)} rows give the same for every input, and go "
                    f"through {name}, where they cannot be followed"
                )
            flow.channels.root().fixed = True

    def _flows_into(self, node: Node) -> list[Flow]:
        return [self._flows[each] for each in node.all_input_nodes if each in self._flows]

    def _tensors(self, node: Node, place: int) -> str | None:
        """Return the name of a tensor of the model among a node's arguments; '': there is none; None: it has others."""
        given = _argument(node, place, None)
        if given is None:
            return ""
        if not isinstance(given, Node) or given.op != "get_attr" or self._uses[self._storage(given)] > 1:
            return None
        return str(given.target)

    def _storage(self, node: Node) -> int:
        return self._value(str(node.target)).data_ptr()

    def _value(self, name: str) -> Tensor:
        value: Tensor = self.fetch_attr(name)
        return value


def _argument(node: Node, place: int, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else default


def _pads(node: Node) -> bool:
    padding = _argument(node, 4, 0)
    return padding != "valid" if isinstance(padding, str) else bool(torch.tensor(padding).any())
