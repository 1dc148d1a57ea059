"""The rooms of `fncells.ingest`: what the lab hands in, its pictures converted one by one, the archive as a whole."""
