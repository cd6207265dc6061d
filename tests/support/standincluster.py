"""A stand-in for kubectl and helm: it writes down how it is called, and says of Jobs and pods what a test has it say.

Run as kubectl or helm by a link of that name in a folder that also has what it answers with:

calls.jsonl      what it was called with, and what it was given to read
standing-N.json  what the Nth question for Jobs and pods is answered with; the last one stays
volume/          the runs' volume
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[0]).absolute().parent


class Cluster:
    """What a test sees of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "volume").mkdir(parents=True)
        for tool in ("kubectl", "helm"):
            script = folder / tool
            script.write_text(f"#!{sys.executable} -S\n{Path(__file__).read_text()}")
            script.chmod(0o755)
        self.env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def says(self, *standings: list[dict[str, Any]]) -> None:
        """Set what it says of Jobs and pods, question by question."""
        for number, items in enumerate(standings, start=1):
            (self.folder / f"standing-{number}.json").write_text(json.dumps({"items": items}))

    def calls(self) -> list[tuple[list[str], str]]:
        """Return how it was called, without the options that say where, and what it was given to read."""
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [(call["words"], call["read"]) for call in map(json.loads, lines)]

    def verbs(self) -> list[str]:
        """Return the names of the calls, in their order, each once in a row."""
        found: list[str] = []
        for words, _ in self.calls():
            verb = " ".join([words[0], *(word for word in words[1:] if not word.startswith("-"))][:2])
            found += [verb] if found[-1:] != [verb] else []
        return found


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _answer(words: list[str]) -> int:
    match words:
        case ["kubectl", "config", *_]:
            _say(json.dumps({"contexts": [{"name": "lab", "context": {"namespace": "team"}}]}))
        case ["kubectl", "get", "jobs,pods", *_]:
            asked = FOLDER / "asked"
            number = int(asked.read_text()) + 1 if asked.exists() else 1
            known = sorted(FOLDER.glob("standing-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
            asked.write_text(str(number))
            _say(known[min(number, len(known)) - 1].read_text())
        case ["kubectl", "get", "pods", *_]:
            _say("pod/the-coordinator")
        case ["kubectl", "logs", *_]:
            _say("last words")
        case ["kubectl", "exec", _, "--", *command]:
            return subprocess.call([word.replace("/runs", str(FOLDER / "volume")) for word in command])
        case ["kubectl", "port-forward", *_]:
            sys.stderr.write("error: nothing to forward to here\n")
            return 1
        case ["helm", "template", *_]:
            _say("kind: Rendered")
    return 0


if __name__ == "__main__":
    name, *arguments = [Path(sys.argv[0]).name, *sys.argv[1:]]
    said = [word for word in arguments if not word.startswith(("--context=", "--namespace=", "--kube-context="))]
    reads = any(word in ("--filename=-", "--values=-") for word in said)
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"words": [name, *said], "read": sys.stdin.read() if reads else ""}) + "\n")
    sys.exit(_answer([name, *said]))
