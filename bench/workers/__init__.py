"""What runs on the hosts: one worker for each system, all with the same commands (``conversation``)."""
