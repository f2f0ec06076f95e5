"""The daemon: ``twistd groupcomm`` options, settings, and the Perspective Broker service of a node."""
