"""Coverage-guided fuzzing of whatever reads bytes of others; ``python -m tests.fuzz.run`` runs it."""
