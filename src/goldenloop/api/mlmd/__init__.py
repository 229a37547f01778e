"""ML Metadata's gRPC service on the lineage graph: unmodified `ml_metadata` clients read and write it.

door         the server's methods: threads, transactions, errors
calls        what a call is: its messages, and what answers it
conversion   messages ↔ records of the graph
types        the calls about types
nodes        the calls about artifacts, executions and contexts
links        the calls about events, members and parents of contexts
batches      the calls that write several of these at once
lineage      the calls that walk the graph
"""
