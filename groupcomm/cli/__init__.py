"""The ``groupcomm`` command: listen, send, chat and status, for people and for scripts."""
