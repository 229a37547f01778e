"""The report of a loop: what was measured, what stood out, what the loop did about it; as JSON and as one HTML file."""
