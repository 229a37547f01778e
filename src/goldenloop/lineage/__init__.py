"""What happened to a loop, in order, and questions across records."""
