"""Zeroconf (DNS-SD over multicast DNS): nodes announce ``_groupcomm._udp.local.`` and look for it.

The library runs on asyncio: it lives in one thread with a loop of its own, and what it finds crosses into the reactor's
thread by ``callFromThread``. Browsing begins at once; registering, which probes for about a second, goes on beside it.
Only the chosen interface is used and announced. What is announced by other clusters is ignored; addresses are hints.

Trouble (no multicast DNS port, no permission) is logged once; the node goes on without this source.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf
from zope.interface import implementer

from groupcomm.discovery.hints import MAX_HINTS, Announcement, Found, HintBook
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address

SERVICE_TYPE: Final = "_groupcomm._udp.local."
"""The service all nodes announce and look for."""

TXT_VERSION: Final = b"1"
"""The version of the announcement's properties."""

LOOK_UP_MILLISECONDS: Final = 3000
"""How long one announcement's details are asked for."""

MAX_LOOK_UPS: Final = 8
"""Announcements asked about at once; the rest wait."""

OFFER_SECONDS: Final = 10.0
"""How often everything known is offered again: this is what finds the others after a partition without beacons."""

CLOSE_SECONDS: Final = 2.0
"""How long taking back the announcement may take."""

_MAX_PROPERTY_BYTES: Final = 200


def cluster_property(cluster: str) -> bytes:
    """The cluster's name as announced: itself, or its digest when it is too long for a property."""
    name = cluster.encode()
    if len(name) <= _MAX_PROPERTY_BYTES and not name.startswith(b"sha256:"):
        return name
    return b"sha256:" + hashlib.sha256(name).hexdigest().encode()


def instance_label(announcement: Announcement) -> str:
    """A label unique to this run of this node, at most 63 bytes: what the service instance is called."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", announcement.node.name).strip("-")[:32] or "node"
    digest = hashlib.sha256(f"{announcement.cluster}\0{announcement.node.name}".encode()).hexdigest()[:8]
    return f"{readable}-{digest}-{announcement.node.incarnation:x}"


def service_info(announcement: Announcement, port: int) -> ServiceInfo:
    """What is announced."""
    label = instance_label(announcement)
    return ServiceInfo(
        SERVICE_TYPE,
        f"{label}.{SERVICE_TYPE}",
        port=port,
        addresses=[socket.inet_aton(announcement.interface_address)],
        server=f"{label}.local.",
        properties={
            b"cluster": cluster_property(announcement.cluster),
            b"node": announcement.node.name.encode(),
            b"version": TXT_VERSION,
        },
    )


def addresses_of(
    properties: Mapping[bytes, bytes | None], addresses: list[str], port: int | None, cluster: str
) -> tuple[Address, ...]:
    """The hints in one announcement: none if it is another cluster's, or makes no sense."""
    if properties.get(b"cluster") != cluster_property(cluster) or properties.get(b"version") != TXT_VERSION:
        return ()
    if not port or not 0 < port < 65_536:
        return ()
    return tuple((address, port) for address in addresses[:4])


@implementer(IDiscovery)
class ZeroconfDiscovery:
    """Announces this node and gives hints of others by multicast DNS."""

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, announcement: Announcement) -> None:
        """Announce nothing before ``start``.

        Args:
            reactor: in whose thread hints are given.
            announcement: what to announce.
        """
        self._reactor = reactor
        self._announcement = announcement
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._found: Found | None = None
        self._started: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Begin to look and to announce; fires when looking has begun, or has failed."""
        self._found = found
        started: Deferred[None] = Deferred()
        self._started = started
        self._ended = Deferred()
        self._thread = threading.Thread(
            target=self._run, args=(port,), name=f"zeroconf-{self._announcement.node.name}", daemon=True
        )
        self._thread.start()
        return started

    def stop(self) -> Deferred[None]:
        """Take the announcement back; fires when the thread has ended."""
        self._found = None
        if self._ended is None:
            return succeed(None)
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            loop.call_soon_threadsafe(end.set)
        return self._ended

    def _run(self, port: int) -> None:
        """The thread: one asyncio loop from here to its end."""
        try:
            asyncio.run(self._serve(port))
        except Exception as error:
            self._reactor.callFromThread(self._trouble, f"{type(error).__name__}: {error}")
        finally:
            self._reactor.callFromThread(self._thread_ended)

    async def _serve(self, port: int) -> None:
        """Browse at once, register beside it, until told to end."""
        end = asyncio.Event()
        self._reactor.callFromThread(self._loop_running, asyncio.get_running_loop(), end)
        zeroconf = AsyncZeroconf(interfaces=[self._announcement.interface_address], ip_version=IPVersion.V4Only)
        browsing = _Browsing(self, zeroconf.zeroconf, self._announcement, port)
        registering = asyncio.create_task(self._register(zeroconf, port))
        try:
            await browsing.begin()
            self._reactor.callFromThread(self._browsing)
            while not end.is_set():
                try:
                    await asyncio.wait_for(end.wait(), OFFER_SECONDS)
                except TimeoutError:
                    browsing.offer()
        finally:
            registering.cancel()
            await browsing.end()
            await asyncio.wait_for(zeroconf.async_close(), CLOSE_SECONDS)

    async def _register(self, zeroconf: AsyncZeroconf, port: int) -> None:
        """Announce this node; trouble with that ends nothing else."""
        try:
            await (await zeroconf.async_register_service(service_info(self._announcement, port)))
        except Exception as error:
            self._reactor.callFromThread(self._trouble, f"cannot announce: {type(error).__name__}: {error}")

    def give(self, addresses: tuple[Address, ...]) -> None:
        """Hand hints to the reactor's thread."""
        if addresses:
            self._reactor.callFromThread(self._give, addresses)

    def _give(self, addresses: tuple[Address, ...]) -> None:
        """Hand out hints, in the reactor's thread."""
        for address in addresses:
            if self._found is not None:
                self._found(address)

    def _loop_running(self, loop: asyncio.AbstractEventLoop, end: asyncio.Event) -> None:
        """The thread can be told to end from now on; if that was wanted before, tell it."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._loop, self._end = loop, end
        if self._found is None:
            loop.call_soon_threadsafe(end.set)

    def _browsing(self) -> None:
        """Looking has begun."""
        if self._started is not None and not self._started.called:
            self._started.callback(None)

    def _trouble(self, why: str) -> None:
        """Say once why this source gives nothing."""
        self._log.warn("zeroconf on {address}: {why}", address=self._announcement.interface_address, why=why)

    def _thread_ended(self) -> None:
        """The thread is over."""
        thread, self._thread = self._thread, None
        self._loop = self._end = None
        if thread is not None:
            thread.join()
        self._browsing()
        if self._ended is not None and not self._ended.called:
            self._ended.callback(None)


class _Browsing:
    """What is seen of others, inside the asyncio thread."""

    def __init__(self, owner: ZeroconfDiscovery, zeroconf: Zeroconf, announcement: Announcement, port: int) -> None:
        self._owner = owner
        self._zeroconf = zeroconf
        self._announcement = announcement
        self._own_name = f"{instance_label(announcement)}.{SERVICE_TYPE}"
        self._book = HintBook(asyncio.get_running_loop().time, (announcement.interface_address, port))
        self._browser: AsyncServiceBrowser | None = None
        self._gate = asyncio.Semaphore(MAX_LOOK_UPS)
        self._look_ups: dict[str, asyncio.Task[None]] = {}

    async def begin(self) -> None:
        """Ask for the service, and go on listening for it."""
        await self._zeroconf.async_wait_for_start()
        self._browser = AsyncServiceBrowser(self._zeroconf, SERVICE_TYPE, handlers=[self._changed])

    async def end(self) -> None:
        """Listen no more."""
        for look_up in list(self._look_ups.values()):
            look_up.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()

    def offer(self) -> None:
        """Give everything known again."""
        self._owner.give(self._book.offer())

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """An announcement came, changed or went."""
        if name == self._own_name:
            return
        if state_change is ServiceStateChange.Removed:
            self._book.forget(name)
        elif name not in self._look_ups and len(self._look_ups) < MAX_HINTS:
            look_up = asyncio.ensure_future(self._look_up(name))
            self._look_ups[name] = look_up
            look_up.add_done_callback(lambda done: self._looked_up(name, done))

    def _looked_up(self, name: str, done: asyncio.Task[None]) -> None:
        """One look-up is over. An announcement that makes no sense gives no hint, and no line in a log."""
        self._look_ups.pop(name, None)
        if not done.cancelled():
            done.exception()

    async def _look_up(self, name: str) -> None:
        """Ask for the details of one announcement."""
        async with self._gate:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if not await info.async_request(self._zeroconf, LOOK_UP_MILLISECONDS):
                return
        hosts = info.parsed_addresses(IPVersion.V4Only)
        self._owner.give(
            self._book.learn(name, addresses_of(info.properties, hosts, info.port, self._announcement.cluster))
        )
