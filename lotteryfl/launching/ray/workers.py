"""The actors of a launch by name: made, asked how they are, ended."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lotteryfl.launching.ray.actor import Orders, Told, Ward
from lotteryfl.launching.ray.cluster import explained

_ASK_SECONDS = 3.0
_STOP_SECONDS = 20.0


class Seen(NamedTuple):
    """How an actor is."""

    told: Told | None = None
    """What it says of its child; None: nothing now: it waits for room, or is being started again."""
    is_gone: bool = False
    """For good: Ray does not start it again."""
    why: str = ""
    """Gone: by Ray's words."""

    @property
    def is_running(self) -> bool:
        """Whether its child runs."""
        return self.told is not None and self.told.code is None

    @property
    def is_over(self) -> bool:
        """Whether it is not going to run any more."""
        return self.is_gone or (self.told is not None and self.told.code is not None)


class Actors:
    """The detached actors of one launch. All of it blocks, and needs a connected cluster."""

    def __init__(self, namespace: str) -> None:
        """Set in which namespace their names are."""
        self._namespace = namespace
        self._handles: dict[str, Any] = {}
        self._calls: dict[str, Any] = {}

    def start(self, orders: Orders, options: Mapping[str, object]) -> None:
        """Have Ray start one when there is room for it.

        Args:
            orders: what it is told, each time that it is started.
            options: Ray's, of what it needs and where.
        """
        import ray

        with explained():
            self._handles[orders.name] = (
                ray.remote(Ward)
                .options(name=orders.name, namespace=self._namespace, lifetime="detached", **options)
                .remote(orders)
            )

    def seen(self, names: Iterable[str]) -> dict[str, Seen]:
        """Return how they are, as far as they say so soon."""
        import ray

        with explained():
            calls = {name: self._asked(name) for name in names}
            if waiting := [call for call in calls.values() if call is not None]:
                ray.wait(waiting, num_returns=len(waiting), timeout=_ASK_SECONDS)
            return {name: self._answer(name, call) for name, call in calls.items()}

    def end(self, names: Iterable[str]) -> None:
        """Let them hand back what is under work, and end them; those that are gone already are passed over."""
        import ray

        with explained():
            seen = self.seen(names)
            calls = [self._handles[name].stop.remote() for name, each in seen.items() if each.told is not None]
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=_STOP_SECONDS)
            for name, each in seen.items():
                if not each.is_gone:
                    ray.kill(self._handles[name])

    def _asked(self, name: str) -> Any:
        """Return a call to an actor, perhaps one that has not been answered before; None: there is no such actor."""
        import ray

        if name not in self._handles:
            try:
                self._handles[name] = ray.get_actor(name, self._namespace)
            except ValueError:
                return None
        if name not in self._calls:
            self._calls[name] = self._handles[name].told.remote()
        return self._calls[name]

    def _answer(self, name: str, call: Any) -> Seen:
        import ray
        from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError

        if call is None:
            return Seen(is_gone=True, why="Ray has no such actor any more")
        try:
            told = ray.get(call, timeout=0)
        except GetTimeoutError:
            return Seen()
        except ActorDiedError as error:
            return Seen(is_gone=True, why=str(error))
        except RayActorError:
            told = None
        del self._calls[name]
        return Seen(told)
