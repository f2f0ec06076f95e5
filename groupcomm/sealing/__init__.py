"""Who may be heard: sealing and opening packets, proving that a node is alive, and the rotation of keys."""
