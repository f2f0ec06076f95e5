"""Every cap of the Perspective Broker side in one table: how large, why, and what happens at it.

The node's own caps are in ``groupcomm.limits``. Sizes are in bytes, counts from one, times in seconds.
"""

from __future__ import annotations

from typing import Final

from groupcomm.limits import (
    CLIENT_QUEUE_EVENTS,
    MAX_MESSAGE_BYTES,
    MAX_SESSIONS,
    PAYLOAD_HEAD_BYTES,
    SESSION_QUEUE_BYTES,
)

LOGIN_SECONDS: Final = 5.0
"""A connection that has not logged in by then is closed: an idle stranger holds nothing."""

MAX_CONNECTIONS: Final = 4096 + 1024
"""Connections of one control endpoint; one more is closed at once. Above the sessions a node takes, so that the
refusal a client reads is the login's, with words."""

MAX_UNAUTHENTICATED: Final = 1024
"""Connections that have not logged in yet, each for ``LOGIN_SECONDS`` at most; one more is closed at once. All clients
of a host that come back after a restart of the daemon fit; each holds a few KiB."""

MAX_HANDSHAKES: Final = 512
"""Connections of one TLS endpoint in their handshake, each for ``LOGIN_SECONDS`` at most; one more is closed at once.
Each holds some 30 KiB."""

HANDSHAKES_PER_SECOND: Final = 100
"""TLS connections of one endpoint that are accepted in a second, and as many at once after a pause; the others wait in
the kernel's queue. The first message of a stranger costs about 1 ms, a whole handshake about 3: so strangers take a
tenth of a processor and no more."""

MAX_PRINCIPAL_CONNECTIONS: Final = 256
"""Control connections of one principal, and as many to the data channel: so no certificate, and no user of the host but
the daemon's own, takes all there are. One more is closed at once."""

MAX_LOGIN_CALL_BYTES: Final = 4096
"""One call before login: a name of 255 bytes and the rest of the login fit well."""

MAX_LOGIN_ELEMENTS: Final = 64
"""Values in one call before login."""

MAX_LOGIN_BYTES: Final = 16 * 1024
"""All bytes before login: more end the connection. A login takes some 300, ``MAX_ATTEMPTS`` of the longest 5,000."""

MAX_ATTEMPTS: Final = 8
"""Logins one connection may try: one more is refused, and it is closed by its deadline at the latest."""

LOGINS_PER_SECOND: Final = 500
"""Logins at one daemon, beyond ``LOGIN_BURST``: one more is refused. A session costs the node a few hundred
microseconds to open and to close."""

LOGIN_BURST: Final = MAX_SESSIONS
"""Logins at once: all clients come back when a daemon is started again."""

MAX_METHOD_BYTES: Final = 64
"""The name of a method: a longer one ends the connection."""

MAX_NUMBER: Final = 2**63 - 1
"""The number of a call or of an object of the client's: beyond it ends the connection. Their sizes are their sender's
choice, and they are sent back."""

MAX_CALL_BYTES: Final = 1024 * 1024
"""One call after login, all its strings together: larger ends the connection. Twice ``MAX_INLINE_BYTES``."""

MAX_CALL_ELEMENTS: Final = 16_384
"""Values in one call after login: more end the connection."""

MAX_DEPTH: Final = 16
"""Nesting of one call: deeper ends the connection, before a recursive reader could exhaust the stack."""

CALL_SECONDS: Final = 60.0
"""A call of which not all has come by then ends the connection: what has come of it holds memory."""

TURN_SECONDS: Final = 0.02
"""Processor time that calls and requests of all clients take in a row. After it what has come waits for the next
turn of the reactor, so that sockets and timers of the node are served in between: a node counts as silent after a
second."""

DECODE_SHARE: Final = 0.4
"""Processor time a second that reading the calls of one connection may take, without what the calls do: beyond it the
connection is not read until it has waited off what it owes. A client that sends small messages as fast as it can takes
0.2."""

DECODE_SHARE_OF_ALL: Final = 0.6
"""The same for all connections of a daemon together. When sending clients have it busy reading takes 0.3."""

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""What the client library takes from its daemon in one call or answer."""

MAX_ANSWER_ELEMENTS: Final = 1_000_000
"""Values in one call or answer to the client library."""

MAX_INLINE_BYTES: Final = 512 * 1024
"""A message up to this size goes in one call; Perspective Broker itself ends at 640 KiB for a string. Larger ones go in
parts of at most this size, both ways."""

MAX_MESSAGES_PER_CALL: Final = 4096
"""Messages in one ``send_many``."""

MAX_UPLOADS: Final = 2
"""Messages in parts one session may have begun: one more is refused until one is committed or has timed out."""

MAX_UPLOAD_TOTAL_BYTES: Final = 8 * MAX_MESSAGE_BYTES
"""Announced sizes of all messages in parts of all sessions: one more waits in ``begin`` until there is room."""

UPLOAD_SECONDS: Final = 30.0
"""A message in parts that gets no part for so long is dropped; its number is unknown from then on."""

MAX_PENDING_CALLS: Final = 1024
"""Unanswered calls of one connection: at the cap the daemon stops reading from it until some are answered."""

MAX_PENDING_BYTES: Final = 2 * 1024 * 1024
"""Payload of the unanswered sends of one connection, half of what its session lets wait; one larger message always may.
Beyond the cap the daemon stops reading from it."""

BATCH_BYTES: Final = 128 * 1024
"""Events are handed to a client in batches; a batch ends with the event that reaches this size."""

BATCH_EVENTS: Final = 512
"""Events in one batch."""

SMALL_BATCHES_IN_FLIGHT: Final = 2
"""Batches handed over and not acknowledged, as long as what waits would not fill one: then it waits, so that a client
busy with the last ones gets more at once. A call costs far more than an event in it."""

BATCHES_IN_FLIGHT: Final = 8
"""The same for full batches."""

IN_FLIGHT_BYTES: Final = 1024 * 1024
"""Bytes handed over and not acknowledged: no further batch leaves at the cap, so that the transport's buffer holds no
more than this and one batch. What waits beyond is the client's queue."""

CLIENT_PATIENCE_SECONDS: Final = 3.0
"""A client over its queue limit that has acknowledged nothing for so long is too slow and disconnected. Not less, since
a host with more to do than processors lets a process wait for a second now and then."""

CLIENT_HARD_BYTES: Final = 64 * 1024 * 1024
"""A client whose queue holds this much is disconnected however it reads: memory never grows beyond it and one event.

About what comes in a second in which the client's process is not run; what several clients get is held once."""

CLIENT_HARD_EVENTS: Final = 4 * CLIENT_QUEUE_EVENTS
"""The same in events: a burst that a view change releases at once may exceed the limit for a moment."""

THROTTLE_FRACTION: Final = 4
"""A client's own sends are answered only while its event queue is below this fraction of its limit: who sends reads."""

FAREWELL_SECONDS: Final = 2.0
"""How long a client that was told its session is over may take to read it before the connection is cut."""

LOG_INTERVAL_SECONDS: Final = 60.0
"""A client's misdeeds are logged at most once in so long, with how many there were."""

STATUS_PAGE_GROUPS: Final = 250
"""Groups named in one answer of ``groups``."""

STATUS_PAGE_BYTES: Final = 1024 * 1024
"""An answer of ``groups`` ends with the group that reaches this size."""

STATUS_PAGE_SECONDS: Final = 2.0
"""How old the list of groups may be of which a further page is asked for."""

MAX_UNIX_PATH_BYTES: Final = 107
"""What the kernel takes as the path of a UNIX socket."""

OPEN_FILES: Final = 2 * MAX_CONNECTIONS + 256
"""Descriptors asked of the system: two connections for each client, and the node's own. With fewer, clients do without
a data channel at first, then without a connection."""

TICKET_BYTES: Final = 32
"""A ticket for a data channel: random, not to be guessed."""

TICKET_SECONDS: Final = 5.0
"""How long a ticket is good; also how long a connection to the channel's socket may take to show one."""

MAX_STRANGER_CHANNELS: Final = MAX_UNAUTHENTICATED
"""Connections to the channel's socket that have shown no ticket; one more is closed at once."""

MAX_HEAD_BYTES: Final = 8192
"""The head of one record of a client: all names of a destination fit twice. Larger ends the connection."""

DESTINATIONS_BYTES: Final = 128 * 1024
"""What one channel may keep of the destinations it has read, so that a head that comes again is not read again: four
hundred with one usual name, ten of the longest. When it would be more all are forgotten, which costs time only. It is
counted in bytes because 4,096 clients may do their worst: half a GiB, while 400 heads of 4 KiB for each would be 16."""

DESTINATION_BYTES: Final = 256
"""What a destination that is kept counts beside its head, which is held twice, as bytes and as names."""

DESTINATION_NAME_BYTES: Final = 64
"""What each name of it counts beside its text."""

MAX_PAYLOAD_BYTES: Final = MAX_MESSAGE_BYTES + PAYLOAD_HEAD_BYTES
"""The payload of one record: the largest message with its length. Larger ends the connection."""

READ_BYTES: Final = 256 * 1024
"""One read of a channel, at most, into a buffer that all connections share."""

LARGE_RECORD_BYTES: Final = 128 * 1024
"""A larger payload is taken in as it comes, and counts against ``MAX_UPLOAD_TOTAL_BYTES`` meanwhile. Up to this much of
an unfinished smaller record is kept for each connection."""

CHANNEL_WINDOW_BYTES: Final = SESSION_QUEUE_BYTES
"""Requests of one channel that may be unanswered, or one that is larger; more ends the connection. What a session lets
wait, so that none is ever refused for want of room."""

REQUEST_BYTES: Final = 512
"""What a request counts beside its payload: 8,192 of the smallest may be unanswered."""

CHANNEL_CREDIT_BYTES: Final = 4 * 1024 * 1024
"""Events on their way over a channel that the client has not given credit for; one that is larger goes when less than
``CREDIT_STEP_BYTES`` are."""

CREDIT_STEP_BYTES: Final = 512 * 1024
"""A client gives credit at the latest when it is done with so much."""

ANSWER_BACKLOG_BYTES: Final = 64 * 1024
"""While the kernel has not taken more than this of what was written to a channel, its requests are not answered."""

ANSWER_SECONDS: Final = 0.002
"""A send of which the client gets a copy itself is answered with the next events for it, or after so long: one wake-up
less for each message. Others are answered at the end of the turn."""

IO_BUFFER_BYTES: Final = 2 * 1024 * 1024
"""Asked of the kernel for each socket of a channel; it gives what it allows."""
