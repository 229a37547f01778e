"""Judge a challenger before it sees traffic: the same rows, the same losses, a verdict with its evidence."""
