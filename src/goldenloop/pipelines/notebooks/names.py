"""Which names a piece of Python takes from before it, and which it leaves behind, by reading it.

A name that may be bound, as in one branch of an `if`, is taken if there is something to take. Names in a function's body are taken when
it is called; it counts as called wherever it is there. Names inside comprehensions, classes and functions that are their own stay there.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom


@dataclass(slots=True)
class Names:
    """`required` must come from before; `wanted` may (bound on some paths only, or read by a function). `bound` are left behind,
    unless deleted, `sure` on every path; `changed` are bound or surely altered in place; `touched` are all that are mentioned.
    """

    required: dict[str, int] = field(default_factory=dict)  # with the line where it is first read
    wanted: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    sure: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    annotated: set[str] = field(default_factory=set)  # `x: int = 1`, which cannot be declared global

    @property
    def left(self) -> set[str]:
        """What is there at the end."""
        return self.bound - self.deleted


def names_of(statements: Sequence[ast.stmt]) -> Names:
    """The names of statements that follow each other at the top level of a module."""
    flow = _Flow()
    flow.found.sure = flow.block(statements, set())
    flow.found.wanted -= set(flow.found.required)
    return flow.found


def definitions_of(statements: Iterable[ast.stmt]) -> dict[str, ast.stmt]:
    """Functions, classes, imports and lambdas by their names, where nothing else is bound to the name after: what is carried as
    source because it cannot be kept as a value.
    """
    found: dict[str, ast.stmt] = {}
    for statement in statements:
        for name in names_of([statement]).bound:
            found.pop(name, None)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                found[alias.asname or alias.name.partition(".")[0]] = statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Lambda):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = statement
    return found


def packages_of(statements: Iterable[ast.stmt]) -> set[str]:
    """The first words of the modules that are imported anywhere in the statements."""
    found: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found


class _Flow:
    """Walks statements in the order in which they run. `bound` is what is surely bound at a place."""

    def __init__(self) -> None:
        self.found = Names()

    def block(self, statements: Sequence[ast.stmt], bound: set[str]) -> set[str]:
        """Walk a block; return what is surely bound after it."""
        for statement in statements:
            bound = self._statement(statement, bound)
        return bound

    def _statement(self, node: ast.stmt, bound: set[str]) -> set[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self._reads([*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)], bound)
            self._later(node, bound | {node.name})
            return self._bind({node.name}, bound)
        if isinstance(node, ast.ClassDef):
            self._reads([*node.decorator_list, *node.bases, *(word.value for word in node.keywords)], bound)
            self._class(node, bound)
            return self._bind({node.name}, bound)
        if isinstance(node, ast.Import | ast.ImportFrom):
            return self._bind({alias.asname or alias.name.partition(".")[0] for alias in node.names}, bound)
        if isinstance(node, ast.Assign):
            return self._targets(node.targets, self._reads([node.value], bound))
        if isinstance(node, ast.AnnAssign):
            if isinstance(node.target, ast.Name):
                self.found.annotated.add(node.target.id)
            self._reads([node.annotation], bound)
            return self._targets([node.target], self._reads([node.value], bound)) if node.value else bound
        if isinstance(node, ast.AugAssign):
            if isinstance(node.target, ast.Name):
                self._read(node.target.id, node.lineno, bound)
            return self._targets([node.target], self._reads([node.value], bound))
        if isinstance(node, ast.Delete):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            self._reads(node.targets, bound)
            self._alter(node.targets)
            self.found.deleted |= names
            return bound - names
        if isinstance(node, ast.For | ast.AsyncFor):
            bound = self._reads([node.iter], bound)
            self.block(node.body, self._targets([node.target], set(bound)))
            return self.block(node.orelse, bound)
        if isinstance(node, ast.While):
            bound = self._reads([node.test], bound)
            self.block(node.body, set(bound))
            return self.block(node.orelse, bound)
        if isinstance(node, ast.If):
            bound = self._reads([node.test], bound)
            return self.block(node.body, set(bound)) & self.block(node.orelse, set(bound))
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                bound = self._reads([item.context_expr], bound)
                bound = self._targets([item.optional_vars], bound) if item.optional_vars else bound
            self.block(node.body, set(bound))  # which `suppress` and its like may leave at any point
            return bound
        if isinstance(node, ast.Try | ast.TryStar):
            return self._attempt(node, bound)
        if isinstance(node, ast.Match):
            bound = self._reads([node.subject], bound)
            for case in node.cases:
                self._case(case, set(bound))
            return bound
        return self._reads(ast.iter_child_nodes(node), bound)

    def _class(self, node: ast.ClassDef, bound: set[str]) -> None:
        """The body runs at once, with names of its own that its methods do not see."""
        inside = _Flow()
        inside.block(node.body, set())
        for name, line in inside.found.required.items():
            self._read(name, line, bound)
        self.found.touched |= inside.found.touched
        self.found.wanted |= inside.found.wanted - bound - {node.name}

    def _attempt(self, node: ast.Try | ast.TryStar, bound: set[str]) -> set[str]:
        ends = [self.block(node.orelse, self.block(node.body, set(bound)))]
        for handler in node.handlers:
            inside = self._reads([handler.type] if handler.type else [], set(bound))
            if handler.name:
                self.found.touched.add(handler.name)
                inside = inside | {handler.name}
            ends.append(self.block(handler.body, inside))
        return self.block(node.finalbody, set.intersection(*ends))

    def _case(self, case: ast.match_case, bound: set[str]) -> None:
        names = {
            name
            for node in ast.walk(case.pattern)
            for name in [getattr(node, "name", None) or getattr(node, "rest", None)]
            if isinstance(name, str)
        }
        values = [node.value for node in ast.walk(case.pattern) if isinstance(node, ast.MatchValue)]
        bound = self._bind(names, self._reads(values, bound))
        self.block(case.body, self._reads([case.guard], bound) if case.guard else bound)

    def _reads(self, nodes: Iterable[ast.AST], bound: set[str]) -> set[str]:
        """Walk expressions; return what is bound after them, which `:=` may add to."""
        for node in nodes:
            bound = self._expression(node, bound)
        return bound

    def _expression(self, node: ast.AST, bound: set[str]) -> set[str]:
        if isinstance(node, ast.Name):
            self._read(node.id, node.lineno, bound)
            return bound
        if isinstance(node, ast.Lambda):
            self._reads([*node.args.defaults, *(each for each in node.args.kw_defaults if each)], bound)
            self._later(node, bound)
            return bound
        if isinstance(node, ast.NamedExpr):
            return self._bind({node.target.id}, self._expression(node.value, bound))
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            inside = set(bound)
            for generator in node.generators:
                inside = self._reads([generator.iter], inside)
                inside |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
                inside = self._reads(generator.ifs, inside)
            self._reads([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inside)
            return bound
        return self._reads(ast.iter_child_nodes(node), bound)

    def _read(self, name: str, line: int, bound: set[str]) -> None:
        self.found.touched.add(name)
        if name in bound:
            return
        if name in self.found.bound:
            self.found.wanted.add(name)
        else:
            self.found.required.setdefault(name, line)

    def _later(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, bound: set[str]) -> None:
        """What a function takes from around it when it is called, which may be at once."""
        source = ast.unparse(node)
        for name in _globals_of(symtable.symtable(source, "cell", "exec"), is_top=True):
            self.found.touched.add(name)
            if name not in bound:
                self.found.wanted.add(name)

    def _targets(self, targets: Iterable[ast.expr], bound: set[str]) -> set[str]:
        for target in targets:
            if isinstance(target, ast.Name):
                bound = self._bind({target.id}, bound)
            elif isinstance(target, ast.Tuple | ast.List):
                bound = self._targets(target.elts, bound)
            elif isinstance(target, ast.Starred):
                bound = self._targets([target.value], bound)
            else:  # x[…] = or x.y =, which alters x
                bound = self._reads([target], bound)
                self._alter([target])
        return bound

    def _alter(self, targets: Iterable[ast.expr]) -> None:
        for target in targets:
            root: ast.expr = target
            while isinstance(root, ast.Subscript | ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name):
                self.found.changed.add(root.id)

    def _bind(self, names: set[str], bound: set[str]) -> set[str]:
        self.found.bound |= names
        self.found.changed |= names
        self.found.touched |= names
        self.found.deleted -= names
        return bound | names


def _globals_of(table: symtable.SymbolTable, *, is_top: bool) -> set[str]:
    """The names that the functions of a table, and theirs, take from the module."""
    found = set()
    if not is_top:
        found = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        found |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_declared_global()}
    for child in table.get_children():
        found |= _globals_of(child, is_top=False)
    return found
