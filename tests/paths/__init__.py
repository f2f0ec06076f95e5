"""Tests of the paths to other nodes."""
