"""The tests: they mirror groupcomm/; simulation/, hostile/ and lab/ are parts of their own."""
