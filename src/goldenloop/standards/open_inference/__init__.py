"""The Open Inference Protocol: tensors, records, REST, and rows of a table."""
