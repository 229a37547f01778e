"""The part of the Common Expression Language (CEL) that pipelines use: conditions of tasks and selectors of values.

An expression is parsed into a tree and the tree is evaluated; nothing is ever handed to Python's own evaluator. There
are literals, lists, maps, names, members and indices, arithmetic, comparison, `in`, logic, `? :`, the functions `int`,
`uint`, `double`, `string`, `bool`, `size`, `has` and `parseJson`, and the methods `contains`, `startsWith`, `endsWith`
and `size`. What could take long on small input is left out: macros over collections, and patterns.

Two rules are CEL's own and differ from Python: values of different kinds are never equal and cannot be ordered (numbers
among each other can), and `&&` and `||` do not mind an error on one side when the other side decides. Numbers in
documents are doubles, as they are in a pipeline's specification: `/` on them does not round.

Reference: the language definition of CEL (github.com/google/cel-spec).
"""

from goldenloop.standards.expressions.evaluation import check_expression, evaluate

__all__ = ["check_expression", "evaluate"]
