"""ML Metadata's wire format: the messages of its gRPC service, and the language of its filters. Bytes ↔ messages, no I/O.

entities       what is kept
requests       what is asked and answered
messages       both as one file of messages, and the fields of them that are looked at
filter_query   the text of a filter → a tree
"""
