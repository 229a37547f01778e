"""Wire formats, one module each: bytes to records and back, no input or output."""
