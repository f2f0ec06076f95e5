"""Messages that come in parts, because one Perspective Broker string holds 640 KiB and a message may hold 16 MiB.

``begin`` reserves the announced size, ``part`` adds bytes, ``take`` gives the whole message once. Bounded in three
ways: messages begun per session, announced bytes of all sessions together, and time without a part.
"""

from __future__ import annotations

from collections import deque

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from groupcomm.daemon import caps
from groupcomm.daemon.errors import BadArgument, LimitReached, MessageTooLarge
from groupcomm.limits import MAX_MESSAGE_BYTES


class UploadBudget:
    """Announced bytes of all sessions of one daemon.

    Invariant: ``reserved_bytes`` is the sum of what was granted and not released, and at most the total, unless
    nothing else was granted.
    """

    def __init__(self, total_bytes: int = caps.MAX_UPLOAD_TOTAL_BYTES) -> None:
        self._total_bytes = total_bytes
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self.reserved_bytes = 0

    def reserve(self, size: int) -> Deferred[None]:
        """Fires when ``size`` bytes are granted, in the order of asking; cancelling gives up the place."""
        if not self._waiting and self._fits(size):
            self.reserved_bytes += size
            return succeed(None)
        granted: Deferred[None] = Deferred(self._forget)
        self._waiting.append((size, granted))
        return granted

    def release(self, size: int) -> None:
        """Give back what was granted."""
        self.reserved_bytes -= size
        while self._waiting and self._fits(self._waiting[0][0]):
            size, granted = self._waiting.popleft()
            self.reserved_bytes += size
            granted.callback(None)

    def _fits(self, size: int) -> bool:
        return self.reserved_bytes == 0 or self.reserved_bytes + size <= self._total_bytes

    def _forget(self, granted: Deferred[None]) -> None:
        self._waiting = deque(entry for entry in self._waiting if entry[1] is not granted)


@define
class _Upload:
    size: int
    timeout: IDelayedCall | None = None
    data: bytearray = field(factory=bytearray)


class Uploads:
    """The messages in parts of one session.

    Invariant: at most ``MAX_UPLOADS`` are begun, each holding at most its announced size.
    """

    def __init__(self, clock: IReactorTime, budget: UploadBudget) -> None:
        self._clock = clock
        self._budget = budget
        self._uploads: dict[int, _Upload] = {}
        self._begun = 0
        self._reservations: list[Deferred[None]] = []
        self._closed = False

    def begin(self, size: int) -> Deferred[int]:
        """Begin a message of ``size`` bytes; fires with its number when there is room for it.

        Raises:
            MessageTooLarge: larger than any message may be.
            LimitReached: too many are begun already.
        """
        if size > MAX_MESSAGE_BYTES:
            raise MessageTooLarge(f"a message may have {MAX_MESSAGE_BYTES} bytes, not {size}")
        if len(self._uploads) + len(self._reservations) >= caps.MAX_UPLOADS:
            raise LimitReached(f"{caps.MAX_UPLOADS} messages in parts are begun already: commit one first")
        reservation = self._budget.reserve(size)
        self._reservations.append(reservation)
        number: Deferred[int] = reservation.addCallback(self._granted, size, reservation)
        return number

    def _granted(self, result: None, size: int, reservation: Deferred[None]) -> int:
        self._reservations.remove(reservation)
        self._begun += 1
        self._uploads[self._begun] = _Upload(size)
        self._wait(self._begun)
        return self._begun

    def part(self, number: int, data: bytes) -> None:
        """Add the next bytes of message ``number``.

        Raises:
            BadArgument: no such message, or more than was announced; the message is dropped then.
        """
        upload = self._find(number)
        if len(upload.data) + len(data) > upload.size:
            self._drop(number)
            raise BadArgument(f"message {number} was announced with {upload.size} bytes; it is dropped")
        upload.data += data
        self._wait(number)

    def take(self, number: int) -> bytes:
        """The whole message; its number is free from then on.

        Raises:
            BadArgument: no such message, or parts are missing; it is kept in the latter case.
        """
        upload = self._find(number)
        if len(upload.data) != upload.size:
            raise BadArgument(f"message {number} has {len(upload.data)} of {upload.size} bytes: send the other parts")
        self._drop(number)
        return bytes(upload.data)

    def close(self) -> None:
        """Drop everything."""
        for reservation in self._reservations[:]:
            reservation.addErrback(lambda _: None)
            reservation.cancel()
        self._reservations.clear()
        for number in tuple(self._uploads):
            self._drop(number)

    def _find(self, number: int) -> _Upload:
        upload = self._uploads.get(number)
        if upload is None:
            raise BadArgument(
                f"there is no message {number} in parts: none was begun, it was committed, or no part came "
                f"for {caps.UPLOAD_SECONDS:.0f} s"
            )
        return upload

    def _wait(self, number: int) -> None:
        upload = self._uploads[number]
        if upload.timeout is None:
            upload.timeout = self._clock.callLater(caps.UPLOAD_SECONDS, self._drop, number)
        else:
            upload.timeout.reset(caps.UPLOAD_SECONDS)

    def _drop(self, number: int) -> None:
        upload = self._uploads.pop(number)
        if upload.timeout is not None and upload.timeout.active():
            upload.timeout.cancel()
        self._budget.release(upload.size)
