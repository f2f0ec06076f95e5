"""Every cap in one table: how large, why, and what happens at it.

A cap without a number here does not exist. Sizes are in bytes, counts from one.
"""

from __future__ import annotations

from typing import Final

MAX_NODES: Final = 512
"""Nodes in one view: a member set is a map of 64 bytes. More are left waiting at the gate."""

MAX_LINKS: Final = 8
"""Interfaces, or addresses of them, that one node uses at once. More are refused to whoever sets it up."""

MAX_NODE_NAME_BYTES: Final = 64
"""A node name: so that a list of ``MAX_NODES`` fits a membership message, at the longest names too."""

MAX_NAME_BYTES: Final = 255
"""A group, client or cluster name: the length is one byte on the wire. Longer is refused to the caller."""

MAX_DESTINATION_GROUPS: Final = 64
"""Groups one message may be addressed to."""

MAX_DESTINATION_BYTES: Final = 4096
"""All group names of one message together."""

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""One message at any level but UNRELIABLE. Larger is refused to the caller."""

MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES + 8192
"""A message with its destinations, lengths and dependencies: what a receiver reassembles at most."""

PAYLOAD_HEAD_BYTES: Final = 16
"""What stands before the largest message in a payload: its length, with room to spare."""

LARGE_FRAME_BYTES: Final = 2 * 1024 * 1024
"""From here on a frame asks the sequencer for a slot before it leaves (its bytes count against the slot)."""

COALESCED_FRAME_BYTES: Final = 60 * 1024
"""Messages of one reactor turn with one destination and level share a frame up to this size: it leaves at once."""

MAX_FRAME_MESSAGES: Final = 16_384
"""Messages in one frame, however small."""

DEFAULT_MTU_BYTES: Final = 1400
"""The largest datagram: IP and UDP headers and the coming seal fit an Ethernet frame of 1500 beside it."""

MAX_MTU_BYTES: Final = 8_940
"""The largest datagram that is searched for: jumbo frames of 9,000 bytes, without headers and seal."""

LEAST_PATH_BYTES: Final = 1232
"""A UDP payload that every path takes: IPv6 passes packets of 1,280 bytes (RFC 8200, section 5), 48 are its headers."""

MAX_DATAGRAM_BYTES: Final = 65_507
"""No UDP payload is larger on IPv4."""

MAX_BEACON_ADDRESSES: Final = 32
"""Addresses of others that one beacon passes on."""

MIN_BUDGET_BYTES: Final = 64 * 1024 * 1024
"""The least byte budget of a node: below it one 16 MiB message could not be held by sender and receiver."""

DEFAULT_BUDGET_BYTES: Final = 128 * 1024 * 1024
"""The byte budget of a node: half for received and not yet delivered data, shared among the senders of the view."""

PACKET_OVERHEAD_BYTES: Final = 200
"""What holding a packet costs beside its bytes: counted by the windows, so that small packets are bounded too."""

MAX_DIRECTORY_BYTES: Final = 8 * 1024 * 1024
"""The group names of all sessions of one node together, which go out in one frame; one more join is refused."""

MAX_MEMBERSHIPS: Final = 128 * 1024
"""Sessions of one node in groups, counted once for each group; one more join is refused. Every node of the view keeps
them all, and each costs it about a KiB, however short the name."""

MIN_WINDOW_BYTES: Final = 64 * 1024
"""The send window never falls below this, whatever the loss."""

SESSION_QUEUE_BYTES: Final = 4 * 1024 * 1024
"""What one session may have accepted and not yet sent: at the limit its producer is paused, never its neighbours."""

MAX_BATCH_BYTES: Final = SESSION_QUEUE_BYTES
"""The messages of one call of ``send_many``, each counted with 64 bytes more: what a session may have waiting. More is
refused to the caller, who makes several calls; a single message may be as large as any."""

CLIENT_QUEUE_BYTES: Final = 8 * 1024 * 1024
"""Undelivered events of one client, in bytes; at the limit the client is disconnected as too slow."""

CLIENT_QUEUE_EVENTS: Final = 10_000
"""Undelivered events of one client, in events; at the limit the client is disconnected as too slow."""

MAX_SESSIONS: Final = 4096
"""Client sessions of one node; one more is refused at login."""

MAX_GROUPS_PER_SESSION: Final = 16_384
"""Groups one session may be in; one more is refused at join."""

UNRELIABLE_QUEUE_BYTES: Final = 256 * 1024
"""Unreliable frames waiting for the wire: the oldest is dropped and counted when full."""

CONTROL_QUEUE_BYTES: Final = 256 * 1024
"""What a node itself has waiting for the wire when it makes no more answers to private messages that found nobody: the
answer is dropped and counted. Clients of other nodes ask for these, as fast as they may send."""

MAX_RANGES: Final = 32
"""Ranges of packets above the contiguous ones that a node reports of one stream."""

MAX_NACK_RANGES: Final = 64
"""Ranges one NACK may name; the rest follow in the next."""

MAX_REPAIR_PACKETS: Final = 256
"""Packets one NACK may pull: the asker asks again as it advances, so a forged one costs a bounded burst."""

MAX_MISSING: Final = 8192
"""Missing packets of one stream that are tracked; those beyond wait until earlier ones have come."""

MAX_STREAM_PACKETS: Final = 65_536
"""How far ahead of the contiguous number a packet may be; farther is dropped and counted."""

MAX_UNREAD_STAMPS: Final = 1 << 20
"""Runs of stamps from nodes that may be the next sequencer: more than all grants let come before the hand-over does."""

MAX_ASKS: Final = 16
"""Asks of one node for slots that are remembered; the oldest is forgotten when full."""

MAX_CONTROL_PARTS: Final = 128
"""Datagrams one membership message may be cut into."""

MAX_CONTROL_BYTES: Final = 256 * 1024
"""One membership message: more than its parts carry at the usual size. Larger is malformed, since what is read of it
costs many times as much memory."""

MAX_CONTROL_ASSEMBLIES: Final = 2 * MAX_NODES
"""Membership messages half received, the answers of a whole view among them: the oldest is dropped when full."""

MAX_CONTROL_ASSEMBLY_BYTES: Final = 16 * 1024 * 1024
"""Their bytes together: the oldest is dropped when full."""

MAX_STRANGERS: Final = MAX_NODES
"""Nodes outside the view that are remembered from their beacons: the longest silent is forgotten when full."""

MAX_ANSWERS_PER_SECOND: Final = 2 * MAX_NODES
"""Answers to those who are not in the view: whoever gets none asks again, so a flood of questions under false addresses
cannot become a flood of answers."""

MAX_KEPT_OUT: Final = 64
"""Names that are remembered after an eviction, and notes on slow receivers in one beacon."""

MAX_FLAPPING: Final = 64
"""Names that are remembered for having come and gone."""

MAX_REFUSALS: Final = 16
"""Senders of packets that are not let in, of which a node remembers when it told of them."""

MAX_VIEW_CHANGES: Final = 32
"""The last changes of its view that a node remembers."""

MAX_RELAYED_ROWS: Final = 8
"""Rows of others that a JOIN passes on: those that do not hear everybody."""

MAX_JOIN_RECORDS: Final = 8
"""What one node tells in its JOIN of what led to a change."""

MAX_PLAN_RECORDS: Final = 48
"""What the PLAN tells of it: what all together have found."""

MAX_SLOW_SECONDS: Final = 3600
"""How long a receiver may be told to hold the others up before it counts as slow."""

DEFAULT_TRACE_BYTES: Final = 256 * 1024 * 1024
"""One trace file, if one is asked for: at the limit the recorder says so in it and stops; nothing else changes."""

MAX_EPOCH: Final = 1 << 48
"""Up to here an epoch is believed at once: clocks bring it there in the year 2156. Beyond it counts ``MAX_STEP``."""

MAX_STEP: Final = 1 << 24
"""By so much one packet can raise the number of an attempt, and an epoch beyond ``MAX_EPOCH``: what says more is
refused, and who is behind comes nearer by as much. A bad node that sends 100,000 packets a second needs four months to
end the number space."""

MAX_ACQUAINTANCES: Final = 2 * MAX_NODES
"""Nodes whose packets are opened: the longest silent outside the view is forgotten when full, and asked again."""

MAX_QUESTIONS: Final = MAX_NODES
"""Nodes that have been asked to prove that they live: the oldest question is dropped when full, and asked again."""

MAX_GREETINGS_PER_SECOND: Final = 2000
"""Questions and answers sent to nodes that are not known yet: what a replay of their packets can pull at most."""

MAX_CERTIFICATE_BYTES: Final = 768
"""The certificate of a node, in DER: with it a passport must fit one datagram."""

MAX_PASSPORT_BYTES: Final = 1200
"""A passport as it is sent, with all that it may ask for: what the smallest datagrams allowed can hold."""

MAX_PASSPORT_ASKS: Final = 16
"""Marks of unknown nodes that one passport asks for: those beyond are asked for when they are heard again."""

MAX_PASSPORTS: Final = 4 * MAX_NODES
"""Passports of others that were found good: the longest unheard is forgotten when full, and verified again."""

MAX_EXPELLED: Final = 12
"""Names of expelled nodes that are remembered, and told to each node that is met: the earliest goes when full."""

MAX_PASSPORTS_PER_SECOND: Final = 100
"""Passports verified in a second: those beyond are dropped, and come again."""

REPLAY_WINDOW: Final = 4096
"""How far behind the newest packet of a sender an older one may come, in packets; what is older counts as seen."""

MAX_SEALED_PACKETS: Final = 1 << 23
"""Packets sealed under one epoch before a node asks for the next (AES-GCM, RFC 9001, B.1)."""

MAX_KEY_EPOCHS: Final = 3
"""Epochs whose packets are opened at one time: the one before, the present one, and the one to come."""
