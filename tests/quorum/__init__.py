"""Tests of ``groupcomm.quorum``."""
