"""Tests of groupcomm.testing."""
