"""Logging in over a control connection, as ``pb.PBClientFactory.login`` does it: a name, a challenge, a response.

Who is at the other end was decided when the connection was opened; the password that Perspective Broker asks for is not
looked at. A certificate says under which names its holder may log in; without one any free name will do. There is no
anonymous login, and one login per connection.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from attrs import frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.spread import pb
from zope.interface import implementer

from groupcomm.daemon import caps
from groupcomm.daemon.errors import LoginRefused
from groupcomm.daemon.principal import Principal
from groupcomm.daemon.schema import DeclaredMethods, Method, Parameter, client_name, optional_reference, short_bytes
from groupcomm.errors import AccessDenied

if TYPE_CHECKING:
    from groupcomm.daemon.connection import ServerBroker


class IClaimedName(ICredentials):
    """A name claimed over a connection whose other end is known."""


@implementer(IClaimedName)
@frozen
class ClaimedName:
    """A name, and who claims it."""

    name: str
    principal: Principal


@implementer(ICredentialsChecker)
class NameChecker:
    """Accepts a name that its claimant may have."""

    credentialInterfaces = (IClaimedName,)

    def requestAvatarId(self, credentials: ClaimedName) -> Deferred[bytes | tuple[()]]:
        """The name is the avatar's id.

        Raises:
            AccessDenied: the claimant's certificate is of another name; through the Deferred.
        """
        own = credentials.principal.client_name
        if own is None or credentials.name == own or credentials.name.startswith(f"{own}+"):
            return succeed(credentials.name.encode("utf-8"))
        return fail(AccessDenied(f"the certificate is of {own!r}: log in as {own!r}, or as {own + '+'!r} and more"))


@frozen
class Mind:
    """What the realm is told of the client beside its name.

    Attributes:
        broker: its connection.
        client: its object for events; None if it wants none.
    """

    broker: ServerBroker
    client: pb.RemoteReference | None


def _avatar(result: tuple[object, object, object]) -> pb.Referenceable:
    avatar = result[1]
    assert isinstance(avatar, pb.Referenceable)
    return avatar


class Challenger(DeclaredMethods):
    """The second step of a login."""

    def __init__(self, root: LoginRoot, name: str) -> None:
        self._root = root
        self._name = name

    def respond(self, response: bytes, mind: pb.RemoteReference | None) -> Deferred[pb.Referenceable]:
        """The client's answer to the challenge, which is not looked at, and its object for events."""
        return self._root.finish(self._name, mind)

    methods: ClassVar[Mapping[str, Method]] = {
        "respond": Method(respond, (Parameter("response", short_bytes), Parameter("mind", optional_reference, None)))
    }


class LoginRoot(DeclaredMethods):
    """What a connection can call before login: ``login`` and nothing else."""

    def __init__(self, portal: Portal, broker: ServerBroker) -> None:
        self._portal = portal
        self._broker = broker
        self._attempts = 0

    def login(self, name: str) -> tuple[bytes, Challenger]:
        """Begin a login: a challenge and who takes the response."""
        self._attempts += 1
        if self._broker.authenticated:
            raise LoginRefused("this connection is logged in already: open another")
        if self._attempts > caps.MAX_ATTEMPTS:
            raise LoginRefused("too many attempts on this connection")
        if not self._broker.factory.admits_login():
            raise LoginRefused("too many logins at this daemon: try again in a second")
        return secrets.token_bytes(16), Challenger(self, name)

    def login_anonymous(self, mind: object) -> None:
        """Refused, in words."""
        raise LoginRefused("there is no anonymous login: log in with a name and an empty password")

    def finish(self, name: str, client: pb.RemoteReference | None) -> Deferred[pb.Referenceable]:
        """Log in; fires with the avatar."""
        if self._broker.authenticated:
            raise LoginRefused("this connection is logged in already: open another")
        login = self._portal.login(
            ClaimedName(name, self._broker.principal), Mind(self._broker, client), pb.IPerspective
        )
        return login.addCallback(_avatar)

    methods: ClassVar[Mapping[str, Method]] = {
        "login": Method(login, (Parameter("name", client_name),)),
        "loginAnonymous": Method(login_anonymous, (Parameter("mind", optional_reference, None),)),
    }
