"""Moving traffic to a challenger on evidence."""
