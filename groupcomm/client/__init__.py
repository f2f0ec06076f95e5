"""What an application on a daemon's host imports: ``connect`` and the connection it gives."""
