"""Process groups for Twisted: ordered, reliable multicast with views."""
