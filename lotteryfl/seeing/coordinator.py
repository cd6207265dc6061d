"""A run as its coordinator tells observers of it. Imports gRPC, and no torch."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import CALL_SECONDS, asked, open_channel
from lotteryfl.common.security.rpcerror import explain
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.protos import lotteryfl_pb2_grpc as pb_grpc
from lotteryfl.seeing.look import SECONDS, SHARE, Look, first_of_last

T = TypeVar("T")

_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
"""What a coordinator that is stopped, killed or started again makes of a call."""

_LEAST_SECONDS = 0.2
"""Between two looks at a run of which much is heard."""


class CoordinatorSource:
    """Asks one coordinator; nothing is sent before it is asked."""

    def __init__(self, address: str, security: ChannelSecurity) -> None:
        """Set whom to ask.

        Args:
            address: HOST:PORT.
            security: how calls to it are secured.
        """
        self._address = address
        self._security = security
        self._round = self._event = 0

    def __enter__(self) -> Self:
        self._channel = open_channel(self._address, self._security)
        self._stub = pb_grpc.CoordinatorStub(self._channel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def status(self) -> pb.RunStatus:
        """Return where the run stands.

        Raises:
            LotteryFLError: the coordinator cannot be reached, or does not answer.
        """
        return self._asked(lambda: self._stub.GetRun(pb.GetRunRequest(), timeout=CALL_SECONDS))

    def is_driven(self) -> bool:
        """Return True: who answers has it."""
        return True

    def fleet(self) -> pb.Fleet | None:
        """Return what the run's workers are at; None: an older coordinator does not say.

        Raises:
            LotteryFLError: the coordinator cannot be reached, or does not answer.
        """
        return self._asked(self._fleet)

    def clients(self) -> pb.Clients:
        """Return how all clients stand, without what privacy withholds.

        Raises:
            LotteryFLError: the coordinator cannot be reached, does not answer, or is older and does not know.
        """
        whole, following = pb.Clients(), 0
        while True:
            request = pb.GetClientsRequest(first=following)
            page = self._asked(lambda: self._stub.GetClients(request, timeout=CALL_SECONDS))  # noqa: B023 - called here
            whole.clients.extend(page.clients)
            whole.withheld, following = page.withheld, page.next
            if not following:
                return whole

    def looks(self) -> Iterator[Look]:
        """Look at the run whenever something is heard of it, until it has ended.

        A coordinator that was there and cannot be reached is waited for: it may be started again.

        Raises:
            LotteryFLError: the coordinator cannot be reached from the first, or refuses to answer.
        """
        told, status = _Told(), self.status()
        listener = threading.Thread(target=self._listen, args=(told,), daemon=True)
        listener.start()
        try:
            while True:
                begin = time.monotonic()
                look = self._look(status, told.trouble)
                taken = time.monotonic() - begin
                yield look
                if look.is_last:
                    return
                time.sleep(max(_LEAST_SECONDS, SHARE * taken))
                status = told.next(SECONDS) or status
        finally:
            told.is_over.set()

    def _look(self, status: pb.RunStatus, trouble: str) -> Look:
        if trouble:
            return Look(status, trouble=trouble)
        rounds: list[pb.RoundSummary] = []
        try:
            self._round = first_of_last(status.last.round, self._round) - 1
            while page := self._rounds():
                rounds += page
                self._round = page[-1].round
            events = self._events()
            self._event = events[-1].id if events else self._event
            return Look(status, self._fleet(), rounds, events)
        except grpc.RpcError as error:
            if status.state != pb.RunStatus.RUNNING:  # it has said its last word, and left
                return Look(status, rounds=(*rounds, *((status.last,) if status.last.round > self._round else ())))
            return Look(status, None, rounds, trouble=explain(error, self._address))

    def _fleet(self) -> pb.Fleet | None:
        return _if_known(lambda: self._stub.GetFleet(pb.GetFleetRequest(), timeout=CALL_SECONDS))

    def _rounds(self) -> Sequence[pb.RoundSummary]:
        """Return the next page of rounds; none: there are no more, or the coordinator does not say."""
        request = pb.GetRoundsRequest(after=self._round)
        page = _if_known(lambda: self._stub.GetRounds(request, timeout=CALL_SECONDS))
        return page.rounds if page else ()

    def _events(self) -> Sequence[pb.Event]:
        request = pb.GetEventsRequest(after=self._event)
        news = _if_known(lambda: self._stub.GetEvents(request, timeout=CALL_SECONDS))
        return news.events if news else ()

    def _listen(self, told: "_Told") -> None:
        """Hear of every change, for as long as somebody looks."""
        while not told.is_over.is_set():
            try:
                call = self._stub.WatchRun(pb.WatchRunRequest(lingers=True), wait_for_ready=True)
                for status in call:
                    told.put(status)
                    if status.state != pb.RunStatus.RUNNING:
                        told.is_over.wait()  # until then the coordinator answers
                        call.cancel()
                        return
            except grpc.RpcError as error:
                if error.code() not in _PASSING:
                    told.fail(LotteryFLError(explain(error, self._address)))
                    return
                told.put(None, explain(error, self._address))
            except ValueError:  # the channel is closed: nobody looks any more
                return
            told.is_over.wait(SECONDS)

    def _asked(self, call: Callable[[], T]) -> T:
        return asked(call, self._address, self._security)


def _if_known(call: Callable[[], T]) -> T | None:
    """Return the answer to a call that older coordinators do not know; None: this is one."""
    try:
        return call()
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise


class _Told:
    """What was heard last, from one thread to another."""

    def __init__(self) -> None:
        self.trouble = ""
        """Why nothing is heard; '': something is."""
        self.is_over = threading.Event()
        self._news = threading.Condition()
        self._status: pb.RunStatus | None = None
        self._is_new = False
        self._error: LotteryFLError | None = None

    def put(self, status: pb.RunStatus | None, trouble: str = "") -> None:
        """Say where the run stands, or why nobody knows."""
        with self._news:
            self._status, self.trouble, self._is_new = status or self._status, trouble, True
            self._news.notify_all()

    def fail(self, error: LotteryFLError) -> None:
        """Say that nothing will be heard any more."""
        with self._news:
            self._error = error
            self._news.notify_all()

    def next(self, seconds: float) -> pb.RunStatus | None:
        """Wait for news, but not for longer; return the newest status, if there has been one."""
        with self._news:
            self._news.wait_for(lambda: self._is_new or self._error, seconds)
            if self._error is not None:
                raise self._error
            self._is_new = False
            return self._status
