"""Launches a run on a cluster of Kubernetes, as a release of the chart."""

import asyncio
import contextlib
import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.launching.kubernetes.calls import Target, asked, called, failure
from lotteryfl.launching.kubernetes.fetch import fetch, remove
from lotteryfl.launching.kubernetes.forward import Forward
from lotteryfl.launching.kubernetes.state import standing_of, trouble_of, workers_of
from lotteryfl.launching.kubernetes.values import CHART, WORKERS, chart_name, release_of, values_of
from lotteryfl.launching.launcher import Launcher, Looking, Request, Stage, Standing

_RELEASE = "release"
"""Under this word the record has context, namespace and name."""

_HOLDERS = {"coordinator": "coordinator", WORKERS: "worker"}
"""Whose certificate is in the secret of which role."""

_PORT = 7000
_MOST_LOGS = 100
"""Pods whose logs are kept, each with its last lines."""
_LOG_LINES = 10_000
_DELETE_SECONDS = 120


class KubernetesLauncher(Launcher):
    """Everything runs there, as Jobs; here is a port that leads to the coordinator while somebody follows."""

    kind: ClassVar[str] = "kubernetes"

    def __init__(self, request: Request, note: Callable[[str], None]) -> None:
        """Set what is launched."""
        super().__init__(request, note)
        self._forward: Forward | None = None
        self._told = ""
        """Of the workers' pods, last."""
        self._trouble = ""
        """With the port that leads to the coordinator, as it was told last."""
        self._keeps_volume = False
        """Whether the volume has, or may have, a run that is nowhere else; who only takes down has been told to."""

    def check(self) -> None:
        """Check tools, settings, the user's own code, and the chart's values by its schema."""
        settings, run_dir = self.request.settings, self.request.run_dir
        for tool in ("kubectl", "helm"):
            if shutil.which(tool) is None:
                raise LotteryFLError(f"{tool}: is not installed here: expected it on the PATH")
        if not settings.kubernetes.image and "image" not in settings.kubernetes.values:
            raise LotteryFLError("kubernetes.image: is missing: expected the image as the cluster pulls it")
        if "tls" in settings.kubernetes.values:
            raise LotteryFLError("kubernetes.values.tls: is not for a launch, which makes its certificates by itself")
        if settings.setup:
            raise LotteryFLError("setup: is for shells: expected an image in which everything is set up")
        if self.request.source.is_dir():
            raise LotteryFLError(
                f"{self.request.source}: is a run: expected the experiment file; one that is on its volume goes on with"
                f" the same --run-dir"
            )
        if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
            raise LotteryFLError(f"{run_dir}: is there already: expected a folder for the run to be brought to")
        self._template()

    def rendered(self) -> dict[str, str]:
        """Return the chart's values, and what they make of it; beside it are two secrets with certificates."""
        return {"values.json": self._values, "manifests.yaml": self._template()}

    async def up(self) -> None:
        """Make the certificates' secrets, and install the release."""
        self._keeps_volume = True
        target = await self._find_target()
        self.request.folder.note(_RELEASE, target)
        service = f"{chart_name(target.release)}-coordinator"
        hosts = (service, f"{service}.{target.namespace}", f"{service}.{target.namespace}.svc")
        await asyncio.to_thread(self.request.folder.make_certificates, hosts, [WORKERS])
        # By the server: kubectl's own way would write their content into an annotation, too.
        apply = target.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-")
        await called(apply, json.dumps({"apiVersion": "v1", "kind": "List", "items": self._secrets(target)}))
        write_text(self._values_file, self._values)
        await called(target.helm("upgrade", "--install", target.release, str(CHART), f"--values={self._values_file}"))
        self.note(f"release {target.release} in namespace {target.namespace}")

    async def standing(self) -> Standing:
        """Return what the cluster says of the Jobs and their pods."""
        self._keeps_volume = True
        target = self._target()
        if target is None:
            return Standing(Stage.ENDED, "nothing was started", 1)
        found = await asked(target.kubectl("get", "jobs,pods", target.labelled(), "--output=json"))
        objects = found.get("items", [])
        standing = standing_of(objects)
        if standing.stage is not Stage.ENDED and (told := workers_of(objects)) not in ("", self._told):
            self._told = told
            self.note(told)
        if standing.stage is Stage.RUNNING:
            await self._ensure_forward(target)
        if standing.stage is Stage.WAITING:
            standing = standing._replace(why=await self._with_trouble(target, standing.why))
        return standing

    def looking(self) -> Looking:
        """Return the port that leads to the coordinator, with the observer's certificate."""
        port = self._forward.port if self._forward else 0
        return Looking(f"localhost:{port}", ChannelSecurity(self.request.folder.certificate("observer")))

    async def bring_back(self) -> None:
        """Bring the run directory from its volume, by way of a pod that has it."""
        target = self._required_target()
        await self._close_forward()
        self.note("brings the run directory here")
        manifest = await called(
            target.helm(
                *("template", target.release, str(CHART), f"--values={self._values_file}"),
                *("--show-only=templates/fetch.yaml", "--set=fetch.enabled=true"),
            )
        )
        directory = self.request.settings.kubernetes.values.get("runs", {}).get("directory")
        seconds = self.request.settings.kubernetes.fetch_seconds
        pod, place = self._fetching(target), self.request.run_dir
        try:
            await fetch(target, pod, manifest, directory or target.release, place, seconds)
        except LotteryFLError as error:
            raise LotteryFLError(
                f"{error}; the run is on its volume still: follow it again to bring it here"
            ) from error
        self._keeps_volume = False

    async def down(self) -> None:
        """Keep the pods' last lines, and take away release and secrets, but the volume only where that is wanted."""
        await self._close_forward()
        target = self._target()
        if target is None:
            return
        await self._keep_logs(target)
        await remove(target, self._fetching(target))
        await called(
            target.helm("uninstall", target.release, "--ignore-not-found", "--wait", f"--timeout={_DELETE_SECONDS}s")
        )
        deletes = self.request.settings.kubernetes.delete_volume and not self._keeps_volume
        kinds = "secrets,pods,persistentvolumeclaims" if deletes else "secrets,pods"
        await called(target.kubectl("delete", kinds, target.labelled(), f"--timeout={_DELETE_SECONDS}s"))
        self._values_file.unlink(missing_ok=True)

    # -- what is where

    @cached_property
    def _values(self) -> str:
        """The chart's values; JSON is YAML."""
        return json.dumps(values_of(self.request), indent=2)

    @property
    def _values_file(self) -> Path:
        return self.request.folder.path / "values.json"

    def _template(self) -> str:
        settings = self.request.settings.kubernetes
        target = Target("", settings.namespace, release_of(self.request))
        command = target.helm("template", target.release, str(CHART), "--values=-")
        done = subprocess.run(command, input=self._values.encode(), capture_output=True)  # noqa: S603 - no shell
        if done.returncode:
            raise LotteryFLError(failure(command, done.returncode, done.stderr))
        return done.stdout.decode()

    async def _find_target(self) -> Target:
        """Return the cluster and namespace that kubectl's configuration means now: it may mean others later."""
        settings = self.request.settings.kubernetes
        view = await asked(Target(settings.context, "", "").kubectl("config", "view", "--minify", "--output=json"))
        (current, *_) = view.get("contexts") or [{}]
        namespace = settings.namespace or current.get("context", {}).get("namespace") or "default"
        return Target(settings.context or current.get("name", ""), namespace, release_of(self.request))

    def _target(self) -> Target | None:
        """Return where it was started, as the record has it; None: it never was."""
        if not self.request.folder.is_up:
            return None
        found = self.request.folder.started(_RELEASE)
        return Target(*found) if len(found) == len(Target._fields) else None

    def _required_target(self) -> Target:
        target = self._target()
        if target is None:
            raise LotteryFLError(f"{self.request.run_dir}: nothing is launched")
        return target

    def _fetching(self, target: Target) -> str:
        return f"{chart_name(target.release)}-fetch"

    def _secrets(self, target: Target) -> list[dict[str, object]]:
        """Return the secrets of both roles: key, certificate and authority, as the chart mounts them."""
        found: list[dict[str, object]] = []
        for holder, role in _HOLDERS.items():
            files = self.request.folder.certificate(holder)
            data = {
                path.name: b64encode(path.read_bytes()).decode() for path in (files.cert, files.key, files.ca) if path
            }
            labels = {"app.kubernetes.io/name": "lotteryfl", "app.kubernetes.io/instance": target.release}
            metadata = {"name": f"{chart_name(target.release)}-{role}-tls", "labels": labels}
            found.append({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data})
        return found

    # -- while it runs, and at its end

    async def _with_trouble(self, target: Target, why: str) -> str:
        """Return for what it waits with what the cluster warns of."""
        get = target.kubectl("get", "events", "--field-selector=type=Warning", "--output=json")
        with contextlib.suppress(LotteryFLError):  # who may not read events knows less
            found = trouble_of((await asked(get)).get("items", []), f"{chart_name(target.release)}-coordinator")
            return f"{why} ({found})" if found and found not in why else why
        return why

    async def _ensure_forward(self, target: Target) -> None:
        if self._forward is None:
            self._forward = Forward(target, f"{chart_name(target.release)}-coordinator", _PORT)
        try:
            await self._forward.ensure()
        except LotteryFLError as error:  # the run goes on, and is not looked at
            if str(error) != self._trouble:
                self._trouble = str(error)
                self.note(str(error))

    async def _close_forward(self) -> None:
        if self._forward is not None:
            await self._forward.close()

    async def _keep_logs(self, target: Target) -> None:
        """Write the last lines of every pod into the launch's folder, as far as they can be had."""
        with contextlib.suppress(LotteryFLError):
            names = await called(target.kubectl("get", "pods", target.labelled(), "--output=name"))
            for name in names.split()[:_MOST_LOGS]:
                with contextlib.suppress(LotteryFLError):
                    text = await called(target.kubectl("logs", name, f"--tail={_LOG_LINES}"))
                    write_text(self.request.folder.logs / f"{name.rpartition('/')[2]}.log", text)
