"""Who is in the view: suspicion, gather, recovery and installation, and the groups inside."""
