"""From what an engine says to what each session's handler gets: a frame stays whole, as one batch of messages.

Decides nothing about order: outputs become events one for one, as they come.
"""

from __future__ import annotations

from twisted.logger import Logger

from groupcomm.batches import MessageBatch
from groupcomm.errors import MalformedPacket
from groupcomm.events import Reason, TransitionalSignal, Undeliverable
from groupcomm.outputs import (
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    Output,
    PrivateUndeliverable,
    SendAccepted,
    SessionWritable,
)
from groupcomm.sessions.local import LocalSession


class SessionTable:
    """The live sessions of a node, and who of them has events waiting."""

    _log = Logger()

    def __init__(self) -> None:
        self._sessions: dict[int, LocalSession] = {}
        self._touched: dict[int, LocalSession] = {}
        self.counters = {"unreadable_frames": 0}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: LocalSession) -> None:
        """A new session."""
        self._sessions[session.number] = session

    def discard(self, session: LocalSession) -> None:
        """A session is over."""
        self._sessions.pop(session.number, None)
        self._touched.pop(session.number, None)

    def node_leaves(self) -> None:
        """Tell every session that the node is about to leave."""
        for number in sorted(self._sessions):
            self._sessions[number].node_leaves()

    def end_all(self, reason: Reason) -> None:
        """The node ends every session."""
        for number in sorted(self._sessions):
            session = self._sessions.get(number)
            if session is not None:
                session.end(reason)

    def take(self, output: Output) -> bool:
        """Keep what an output means to sessions for the next ``deliver``; False if it means nothing to any."""
        if isinstance(output, FrameDelivered):
            self._frame(output)
        elif isinstance(output, GroupViewDelivered):
            for session in self._touch(output.sessions):
                session.add_event(output.view)
                session.entered(output.view.group)
        elif isinstance(output, GroupSignalDelivered):
            for session in self._touch(output.sessions):
                session.add_event(TransitionalSignal(output.group))
        elif isinstance(output, GroupLeft):
            for session in self._touch((output.session,)):
                session.left(output.group, output.reason)
        elif isinstance(output, PrivateUndeliverable):
            for session in self._touch((output.session,)):
                session.add_event(Undeliverable(output.recipient))
        elif isinstance(output, SendAccepted):
            for session in self._touch((output.session,)):
                session.ticket_done(output.ticket, output.complete)
        elif isinstance(output, SessionWritable):
            for session in self._touch((output.session,)):
                session.resume()
        else:
            return False
        return True

    def deliver(self) -> None:
        """Give every handler what has come for it."""
        touched, self._touched = self._touched, {}
        for session in touched.values():
            if not session.closed:
                session.deliver()

    def _touch(self, numbers: tuple[int, ...]) -> list[LocalSession]:
        """Those of these sessions that still live, marked as having something waiting."""
        found = []
        for number in numbers:
            session = self._sessions.get(number)
            if session is not None:
                self._touched[number] = session
                found.append(session)
        return found

    def _frame(self, frame: FrameDelivered) -> None:
        """The messages of a frame, for each session it is for; sessions in the same groups share them."""
        made: dict[tuple[str, ...], MessageBatch] = {}
        for number, groups in frame.recipients:
            session = self._sessions.get(number)
            if session is None:
                continue
            batch = made.get(groups)
            if batch is None:
                view = frame.views.get(groups[0]) if groups else None
                try:
                    batch = MessageBatch(groups, frame.sender, frame.level, view, frame.payload)
                except MalformedPacket:
                    self.counters["unreadable_frames"] += 1
                    return
                made[groups] = batch
            self._touched[number] = session
            session.add_event(batch)
