"""Ray: sessions, actors, training, commits. The only package that imports ray."""
