"""Model versions, their evaluations, and which one is golden."""
