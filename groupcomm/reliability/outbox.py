"""What sessions have handed over and the wire has not taken yet: fair among sessions, bounded for each.

Deficit round robin by bytes (Shreedhar and Varghese, 1995): a session that sends much delays another by one quantum.
The node's own frames (group changes, directories) go first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from groupcomm.limits import SESSION_QUEUE_BYTES

QUANTUM_BYTES = 64 * 1024

Item = TypeVar("Item")


class _Queue(Generic[Item]):
    __slots__ = ("deficit", "items", "size_bytes", "was_full")

    def __init__(self) -> None:
        self.items: deque[tuple[Item, int]] = deque()
        self.size_bytes = 0
        self.deficit = 0
        self.was_full = False


class Outbox(Generic[Item]):
    """Items of several sessions, waiting to be sent.

    Bound: ``SESSION_QUEUE_BYTES`` and one item for each session, and ``limit_bytes`` and one item for all together;
    emptied as the window allows; when full, ``has_room`` says no and the producer is paused.

    Attributes:
        size_bytes: all that waits of sessions.
        control_bytes: all that waits of the node itself.
    """

    __slots__ = (
        "_forgotten",
        "_limit_bytes",
        "_priority",
        "_queues",
        "_turn",
        "_writable",
        "control_bytes",
        "size_bytes",
    )

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._priority: deque[tuple[Item, int]] = deque()
        self._queues: dict[int, _Queue[Item]] = {}
        self._turn: deque[int] = deque()
        self._writable: list[int] = []
        self._forgotten: set[int] = set()
        self.size_bytes = self.control_bytes = 0

    def has_room(self, session: int) -> bool:
        """Whether one more item is accepted from ``session``; if not, it will be among ``take_writable`` later."""
        queue = self._queues.get(session)
        if queue is None:
            return True
        if queue.size_bytes >= SESSION_QUEUE_BYTES or (queue.items and self.size_bytes >= self._limit_bytes):
            queue.was_full = True
            return False
        return True

    def session_bytes(self, session: int) -> int:
        """What waits of one session."""
        queue = self._queues.get(session)
        return queue.size_bytes if queue else 0

    def put(self, session: int, item: Item, size: int) -> None:
        """Add an item at the end of its session's queue."""
        queue = self._queues.get(session)
        if queue is None:
            queue = self._queues[session] = _Queue()
        if not queue.items:
            self._turn.append(session)
        queue.items.append((item, size))
        queue.size_bytes += size
        self.size_bytes += size

    def put_control(self, item: Item, size: int) -> None:
        """Add an item of the node itself: ahead of all sessions, behind earlier ones."""
        self._priority.append((item, size))
        self.control_bytes += size

    def drop_control(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget the node's own items that are ``unwanted``."""
        self._priority = deque(entry for entry in self._priority if not unwanted(entry[0]))
        self.control_bytes = sum(size for _, size in self._priority)

    def put_back(self, session: int, item: Item, size: int) -> None:
        """Return an item that could not be sent whole: it is the next of its session."""
        if session == 0:
            self._priority.appendleft((item, size))
            self.control_bytes += size
            return
        queue = self._queues.get(session)
        if queue is None:
            queue = self._queues[session] = _Queue()
        if session in self._turn:
            self._turn.remove(session)
        self._turn.appendleft(session)
        queue.items.appendleft((item, size))
        queue.size_bytes += size
        self.size_bytes += size

    def take(self, may_go: Callable[[Item], bool], *, control_only: bool = False) -> tuple[Item, int] | None:
        """The next item and its size, or None. A session whose next item ``may_go`` refuses is passed over."""
        if self._priority:
            own = self._priority.popleft()
            self.control_bytes -= own[1]
            return own
        if control_only:
            return None
        turn, passed = self._turn, 0
        while passed < len(turn):
            session = turn[0]
            queue = self._queues[session]
            item, size = queue.items[0]
            if not may_go(item):
                turn.rotate(-1)
                passed += 1
                continue
            passed = 0
            if len(turn) == 1:
                queue.deficit = size
            if queue.deficit < size:
                queue.deficit += QUANTUM_BYTES
                turn.rotate(-1)
                continue
            queue.deficit -= size
            queue.items.popleft()
            queue.size_bytes -= size
            self.size_bytes -= size
            if queue.was_full:
                self._note_writable(session, queue)
            if not queue.items:
                queue.deficit = 0
                turn.popleft()
                if session in self._forgotten:
                    self.forget(session)
            return item, size
        return None

    def _note_writable(self, session: int, queue: _Queue[Item]) -> None:
        if queue.size_bytes <= SESSION_QUEUE_BYTES // 2:
            queue.was_full = False
            self._writable.append(session)

    def take_writable(self) -> list[int]:
        """The sessions that were refused and have room again."""
        writable, self._writable = self._writable, []
        return writable

    def forget(self, session: int) -> None:
        """The session is over: its queue goes once everything in it has left."""
        self._forgotten.discard(session)
        queue = self._queues.get(session)
        if queue is None:
            return
        if queue.items:
            self._forgotten.add(session)
        else:
            del self._queues[session]

    def __bool__(self) -> bool:
        return bool(self._priority or self._turn)
