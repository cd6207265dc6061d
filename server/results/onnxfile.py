"""A model as ONNX, checked by a runtime of it."""

import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.usercode import first_line
from lotteryfl.common.training.structure import tensors_in
from lotteryfl.server.models.built import EXAMPLES, SHARE, Built, require_same

_MOST = 2**31 - 1
"""Bytes of a file of Protocol Buffers."""
_SHARES = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Of the largest output: by how much another may differ that is reckoned in another order."""


def save_onnx(path: Path, model: Built, metadata: Mapping[str, str]) -> None:
    """Write a model as ONNX, in which the number of examples is left open.

    Args:
        path: the file.
        model: with an example, which says what its inputs are.
        metadata: what the file says of itself.

    Raises:
        LotteryFLError: a library is missing, torch.onnx does not take the model, it is too large for one file, or
            what is in the file gives other outputs than the model.
        OSError: the file cannot be written.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 - torch.onnx does
    except ImportError as error:
        raise LotteryFLError(f"--onnx needs {error.name}: pip install 'lotteryfl[onnx]'") from error
    if sum(tensor.nbytes for tensor in tensors_in(list(model.model.state_dict().values()))) > _MOST:
        raise LotteryFLError(f"--onnx: the model's values take more than the {_MOST:,} bytes of one file of ONNX")
    content = _content(model, metadata)
    with AtomicFile(path, SHARED_FILE) as file:
        file.write(content, 0)


def _content(model: Built, metadata: Mapping[str, str]) -> bytes:
    given = inspect.signature(model.model.forward).bind(*model.args, **model.kwargs).arguments
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                model.model,
                model.args,
                kwargs=model.kwargs,
                dynamic_shapes={name: _open(value) for name, value in given.items()},
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            raise LotteryFLError(
                f"--onnx: torch.onnx does not take the model: {type(error).__name__}: {first_line(error)}"
            ) from error
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # where on this machine the code lies that it is of
    program.model.metadata_props.update(metadata)
    content = bytes(program.model_proto.SerializeToString())
    _check(model, content)
    return content


def _check(model: Built, content: bytes) -> None:
    for count, each in ((EXAMPLES, model), (EXAMPLES + 1, model.with_another().at_random())):
        try:
            _compare(each, content)
        except LotteryFLError:
            raise
        except Exception as error:  # whatever the model or the runtime says
            raise LotteryFLError(
                f"--onnx: the model or its graph does not take {count} examples: "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error


def _compare(model: Built, content: bytes) -> None:
    import onnxruntime

    expected = model.outputs()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised besides
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    inputs = [leaf.numpy() for leaf in _pytree.tree_leaves((model.args, model.kwargs)) if isinstance(leaf, Tensor)]
    found = session.run(None, dict(zip(names, inputs, strict=True)))
    share = max([_SHARES.get(tensor.dtype, SHARE) for tensor in expected])
    require_same("--onnx: the graph", [torch.from_numpy(output) for output in found], expected, share)


def _open(value: Any) -> Any:
    """Say of a structure of inputs that the number of examples may be any."""
    if isinstance(value, Tensor):
        return {0: torch.export.Dim.AUTO} if value.dim() and len(value) == EXAMPLES else {}
    if isinstance(value, Mapping):
        return {key: _open(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_open(part) for part in value)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Have torch.onnx say nothing but by its errors."""
    found = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(found)
