"""The database and the artifact folder; no other package opens them."""
