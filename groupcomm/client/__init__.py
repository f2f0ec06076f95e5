"""What an application on a daemon's host imports: ``connect`` and the connection it gives."""

from groupcomm.client.connection import Connection, connect

__all__ = ["Connection", "connect"]
