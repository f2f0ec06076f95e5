"""Every run of a node has a greater incarnation than the runs before it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import EnvironmentFault
from groupcomm.net.incarnation import MAX_INCARNATION, next_incarnation


class IncarnationTests(SynchronousTestCase):
    """Wall clock, or more than what is stored."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "below"

    def test_without_directory(self) -> None:
        """It is the wall clock in milliseconds."""
        self.assertEqual(next_incarnation("n", 12.3456, None), 12345)

    def test_grows_when_the_clock_goes_back(self) -> None:
        """With a directory it grows whatever the clock does, for each name by itself."""
        self.assertEqual(next_incarnation("n", 12.0, self.directory), 12000)
        self.assertEqual(next_incarnation("n", 11.0, self.directory), 12001)
        self.assertEqual(next_incarnation("n", 11.0, self.directory), 12002)
        self.assertEqual(next_incarnation("../n", 11.0, self.directory), 11000)
        self.assertEqual(next_incarnation("n", 13.0, self.directory), 13000)
        self.assertEqual(sorted(path.parent for path in self.directory.iterdir()), [self.directory] * 2)

    def test_not_a_number(self) -> None:
        """A file that holds something else is never guessed at."""
        next_incarnation("n", 12.0, self.directory)
        path = self.directory / "incarnation-n"
        for content in ("", "x", "-1", str(MAX_INCARNATION)):
            path.write_text(content)
            fault = self.assertRaises(EnvironmentFault, next_incarnation, "n", 12.0, self.directory)
            self.assertIn(str(path), str(fault))
        path.write_text(str(MAX_INCARNATION - 1))
        self.assertEqual(next_incarnation("n", 12.0, self.directory), MAX_INCARNATION)

    def test_directory_cannot_be_used(self) -> None:
        """A directory that is a file is a fault that names it."""
        self.directory.parent.mkdir()
        self.directory.write_text("")
        self.assertIn(
            str(self.directory), str(self.assertRaises(EnvironmentFault, next_incarnation, "n", 1.0, self.directory))
        )
