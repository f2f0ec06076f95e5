"""The packet formats, and nothing else: bytes to frozen values and back.

Parsing is total: any bytes give a value or ``MalformedPacket``. The tables are in ``doc/design/wire.md``.
"""
