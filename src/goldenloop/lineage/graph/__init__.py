"""The lineage graph: artifacts, executions and contexts, each of a type, the events between them, and what belongs to which context.

    records    what is kept, and its bounds
    types      types, and how they may change
    nodes      artifacts, executions and contexts: put and read
    links      events, members of contexts, parents of contexts
    filters    a condition of a filter → SQL
    listing    pages of nodes
    walking    upstream, downstream, both

Rules. Whoever writes has a transaction of `Database.write`, which has the write lock: ids are drawn in it without a sequence, so that many
rows go in with one statement, and all of a request is kept or nothing. Nothing is ever deleted. ML Metadata's clients see the graph
through `api.mlmd`.
"""
