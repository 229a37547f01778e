"""Turning windows of payloads and labels into measurements."""
