"""Jobs and pods as `kubectl get` tells of them, with what is read of that."""

from typing import Any

Object = dict[str, Any]


def _metadata(name: str, role: str) -> Object:
    return {"name": name, "labels": {"app.kubernetes.io/component": role}, "creationTimestamp": "2026-01-01T00:00:00Z"}


def job(role: str, parallelism: int = 2, **conditions: str) -> Object:
    """Return a Job with conditions by type and reason."""
    found = [{"type": type_, "status": "True", "reason": reason} for type_, reason in conditions.items()]
    spec = {"parallelism": parallelism}
    return {"kind": "Job", "metadata": _metadata(f"run-a-{role}", role), "spec": spec, "status": {"conditions": found}}


def waiting(reason: str, message: str = "") -> Object:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def pod(role: str, state: Object | None = None, *, ready: bool = False, ended: tuple[int, str] | None = None) -> Object:
    """Return a pod: pending where its container's state is given, ended with exit code and last words, or running."""
    phase = "Pending" if state else "Running"
    if ended is not None:
        code, words = ended
        phase = "Failed" if code else "Succeeded"
        state = {"terminated": {"exitCode": code, "message": words, "reason": "Error"}}
    container = {"name": role, "ready": ready, "state": state or {"running": {}}}
    status = {"phase": phase, "containerStatuses": [container]}
    return {"kind": "Pod", "metadata": _metadata(f"run-a-{role}", role), "status": status}
