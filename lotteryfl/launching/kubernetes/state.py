"""Where a launch stands, by what the cluster says of its Jobs and pods."""

from collections.abc import Iterator
from typing import Any

from lotteryfl.common.text import printable
from lotteryfl.exitcodes import LEFT_OUT
from lotteryfl.launching.launcher import Stage, Standing

Object = dict[str, Any]

_COMPONENT = "app.kubernetes.io/component"
_NEVER = {"InvalidImageName", "ErrImageNeverPull"}
"""Reasons for which a container waits that do not pass."""
_NO_NEWS = {"Unhealthy", "FailedScheduling", "Failed", "BackOff"}
"""Reasons of warnings that say of a pod no more than it says itself, or only that it does not listen yet."""
_PULL = "ErrImagePull"
_STARTING = {"ContainerCreating", "PodInitializing"}


def standing_of(objects: list[Object]) -> Standing:
    """Return where a launch stands.

    Args:
        objects: its Jobs and pods.
    """
    job = _job(objects, "coordinator")
    if job is None:
        return Standing(Stage.ENDED, "the coordinator's Job is gone: somebody has removed it", 1)
    conditions = _conditions(job)
    if "Complete" in conditions:
        return Standing(Stage.ENDED)
    if "Failed" in conditions:
        return _failed("coordinator", conditions["Failed"], _pods(objects, "coordinator"))
    workers = _job(objects, "worker")
    if workers is not None and "Failed" in (found := _conditions(workers)):
        return _failed("worker", found["Failed"], _pods(objects, "worker"))
    for role in ("coordinator", "worker"):
        for pod in _pods(objects, role):
            if _waiting(pod)[0] in _NEVER:
                return Standing(Stage.ENDED, _why(pod), 1)
    if "Suspended" in conditions:
        return Standing(Stage.WAITING, "the coordinator's Job is suspended, and waits in its queue")
    alive = [pod for pod in _pods(objects, "coordinator") if _phase(pod) in ("Pending", "Running", "Unknown")]
    if not alive:
        ended = _pods(objects, "coordinator")
        return Standing(Stage.WAITING, _end(ended[-1]) if ended else "the coordinator has no pod yet")
    return Standing(Stage.RUNNING) if _is_ready(alive[-1]) else Standing(Stage.WAITING, _why(alive[-1]))


def workers_of(objects: list[Object]) -> str:
    """Return in a line how many workers' pods run, and for what the others wait; '': there is nothing to say yet."""
    job = _job(objects, "worker")
    if job is None:
        return ""
    wanted = job.get("spec", {}).get("parallelism", 0)
    pods = _pods(objects, "worker")
    running = sum(_phase(pod) == "Running" for pod in pods)
    if "Suspended" in _conditions(job):
        return f"workers: their Job is suspended, and {wanted} wait in its queue"
    found = dict.fromkeys(_why(pod) for pod in pods if _phase(pod) == "Pending")
    failed = dict.fromkeys(_end(pod) for pod in pods if _phase(pod) == "Failed")
    return "; ".join([f"workers: {running} of {wanted} pods run", *list(found)[:1], *list(failed)[-1:]])


def trouble_of(events: list[Object], name: str) -> str:
    """Return the newest warning about an object whose name begins so: a quota, a volume or a secret that is missing."""
    found = [
        each
        for each in events
        if str(each.get("involvedObject", {}).get("name", "")).startswith(name) and each.get("reason") not in _NO_NEWS
    ]
    newest = max(found, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""), default=None)
    return "" if newest is None else printable(f"{newest.get('reason', '')}: {newest.get('message', '')}")


def _failed(role: str, condition: Object, pods: list[Object]) -> Standing:
    """Return how a Job has failed, by the last of its pods that has."""
    ends = [(code, _end(pod)) for pod in pods if (code := _exit_code(pod)) is not None and code != 0]
    why = ends[-1][1] if ends else condition.get("message") or "nobody knows why"
    code = ends[-1][0] if ends and role == "coordinator" else 1
    return Standing(
        Stage.ENDED,
        printable(f"the {role}'s Job has failed ({condition.get('reason', 'Failed')}): {why}"),
        1 if code == LEFT_OUT else code,
    )


def _why(pod: Object) -> str:
    """Return in a line for what a pod waits."""
    name = pod["metadata"]["name"]
    for condition in pod.get("status", {}).get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return printable(f"pod {name}: {condition.get('reason', 'not scheduled')}: {condition.get('message', '')}")
    reason, message = _waiting(pod)
    if not reason or reason in _STARTING:
        return f"pod {name}: starts"
    return printable(f"pod {name}: {reason}{f': {message}' if message else ''}")


def _end(pod: Object) -> str:
    """Return how a pod has ended: its exit code, and its last words."""
    name = pod["metadata"]["name"]
    for status in _containers(pod):
        if ended := status.get("state", {}).get("terminated"):
            words = str(ended.get("message") or ended.get("reason") or "").strip().splitlines()
            return printable(f"pod {name}: exit code {ended.get('exitCode')}{f': {words[-1]}' if words else ''}")
    status = pod.get("status", {})
    return printable(f"pod {name}: {status.get('reason', 'Failed')} {status.get('message', '')}".strip())


def _exit_code(pod: Object) -> int | None:
    for status in _containers(pod):
        if ended := status.get("state", {}).get("terminated"):
            return int(ended.get("exitCode", 1))
    return None


def _waiting(pod: Object) -> tuple[str, str]:
    for status in _containers(pod):
        if waiting := status.get("state", {}).get("waiting"):
            reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
            _, again, cause = message.partition(f"{_PULL}: ")  # it is tried again and again, and is one trouble
            return (_PULL, cause) if again else (reason, message)
    return "", ""


def _is_ready(pod: Object) -> bool:
    return all(status.get("ready") for status in _containers(pod)) and _phase(pod) == "Running"


def _containers(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", ()))


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def _conditions(job: Object) -> dict[str, Object]:
    """Return by type what holds of a Job."""
    conditions = job.get("status", {}).get("conditions", ())
    return {each["type"]: each for each in conditions if each.get("status") == "True"}


def _job(objects: list[Object], role: str) -> Object | None:
    return next(_of(objects, "Job", role), None)


def _pods(objects: list[Object], role: str) -> list[Object]:
    """Return the pods of a role, the newest last."""
    return sorted(_of(objects, "Pod", role), key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def _of(objects: list[Object], kind: str, role: str) -> Iterator[Object]:
    for each in objects:
        if each.get("kind") == kind and each["metadata"].get("labels", {}).get(_COMPONENT) == role:
            yield each
