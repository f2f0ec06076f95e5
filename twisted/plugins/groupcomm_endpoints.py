"""``groupcomm-tls:`` in the endpoint descriptions of any Twisted program, for servers and for clients.

Every program that reads an endpoint description loads this file, so it imports nothing of its own before it is asked.
"""

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class TlsEndpointParser:
    """Reads ``groupcomm-tls:PORT:...`` (server) and ``groupcomm-tls:HOST:PORT:...`` (client)."""

    prefix = "groupcomm-tls"

    def parseStreamServer(  # type: ignore[override]  # the interface names the reactor twice
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamServerEndpoint:
        """The endpoint that such a description means; a ``ValueError`` if it is none."""
        from groupcomm.daemon.control import parse_tls
        from groupcomm.daemon.tls import TlsServerEndpoint
        from groupcomm.errors import UsageError

        try:
            return TlsServerEndpoint(reactor, parse_tls(args, kwargs))
        except UsageError as error:
            raise ValueError(str(error)) from None

    def parseStreamClient(  # type: ignore[override]
        self, reactor: Any, *args: str, **kwargs: str
    ) -> IStreamClientEndpoint:
        """The endpoint that such a description means; a ``ValueError`` if it is none."""
        from groupcomm.client.tls import TlsClientEndpoint, destination
        from groupcomm.errors import UsageError

        try:
            return TlsClientEndpoint(reactor, destination(*args, **kwargs))
        except UsageError as error:
            raise ValueError(str(error)) from None


groupcomm_tls = TlsEndpointParser()
