"""Every packet of a view reaches every node of it, or is known to be lost: windows, gaps, repair, stability, flow.

Nothing here knows of frames or of order; it deals in numbered packets.
"""
