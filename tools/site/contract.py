"""The reference of the contract: calls and messages with what protos/lotteryfl.proto says of them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet

from tools.site.markdown import cell, code, table
from tools.site.repository import ROOT

_KINDS = {value: name.removeprefix("TYPE_").lower() for name, value in FieldDescriptorProto.Type.items()}
_SERVICE, _MESSAGE, _FIELD, _NESTED, _ENUM_WITHIN, _ENUM, _VALUE, _METHOD = 6, 4, 2, 3, 4, 5, 2, 2
"""Numbers of fields in descriptor.proto, of which the paths of comments are made."""

Path_ = tuple[int, ...]


def page() -> str:
    """Return the page."""
    file = _parsed().file[0]
    said = {tuple(each.path): each for each in file.source_code_info.location}
    comments = {path: each.leading_comments or each.trailing_comments for path, each in said.items()}
    top = " ".join(said[(12,)].leading_comments.split()) if (12,) in said else ""
    parts = ["# Contract\n", f"`{file.package}`, as `protos/lotteryfl.proto` has it. {top}\n"]
    for number, service in enumerate(file.service):
        rows = []
        for place, method in enumerate(service.method):
            asked, answer = (_short(each) for each in (method.input_type, method.output_type))
            rows.append(
                (
                    code(method.name),
                    ("stream of " if method.client_streaming else "") + code(asked),
                    ("stream of " if method.server_streaming else "") + code(answer),
                    cell(comments.get((_SERVICE, number, _METHOD, place), "")),
                )
            )
        parts.append(f"## {service.name}\n\n" + table(("call", "takes", "gives", "what it is"), rows))
    parts += _messages(file.message_type, comments, (_MESSAGE,), "")
    parts += _enums(file.enum_type, comments, (_ENUM,), "")
    return "\n".join(parts)


def _messages(
    messages: Iterable[DescriptorProto], comments: dict[Path_, str], path: Path_, within: str
) -> Iterator[str]:
    """Give messages, and what is within them."""
    for number, message in enumerate(messages):
        if message.options.map_entry:
            continue
        here = (*path, number)
        rows = (
            (code(field.name), code(_type(field)), str(field.number), cell(comments.get((*here, _FIELD, place), "")))
            for place, field in enumerate(message.field)
        )
        name = within + message.name
        text = " ".join(comments.get(here, "").split())
        yield f"## {name}\n\n{text}\n\n" + (
            table(("field", "type", "number", "what it is"), rows) or "It has no fields.\n"
        )
        yield from _messages(message.nested_type, comments, (*here, _NESTED), f"{name}.")
        yield from _enums(message.enum_type, comments, (*here, _ENUM_WITHIN), f"{name}.")


def _enums(enums: Iterable[EnumDescriptorProto], comments: dict[Path_, str], path: Path_, within: str) -> Iterator[str]:
    for number, enum in enumerate(enums):
        here = (*path, number)
        rows = (
            (code(value.name), str(value.number), cell(comments.get((*here, _VALUE, place), "")))
            for place, value in enumerate(enum.value)
        )
        text = " ".join(comments.get(here, "").split())
        yield f"## {within}{enum.name}\n\n{text}\n\n" + table(("value", "number", "what it is"), rows)


def _type(field: FieldDescriptorProto) -> str:
    kind = _short(field.type_name) if field.type_name else _KINDS[field.type]
    return f"repeated {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _short(name: str) -> str:
    return name.removeprefix(".lotteryfl.v1.")


def _parsed() -> FileDescriptorSet:
    """Return the file as protoc reads it, comments too."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract"
        command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", "--include_source_info"]
        done = [*command, f"--descriptor_set_out={out}", "lotteryfl/protos/lotteryfl.proto"]
        subprocess.run(done, cwd=ROOT, check=True)  # noqa: S603 - our own file
        return FileDescriptorSet.FromString(out.read_bytes())
