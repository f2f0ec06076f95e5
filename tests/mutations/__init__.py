"""Seeded bugs: each is put into the product's source in memory, and the random campaign must find it."""
