"""The API reference from the source of teachkit: the directive `api`.

The modules are read, not imported, so that a signature stands as it is written, shapes included. A docstring
has paragraphs, `name   description` entries (arguments, and Cost, Raises, Source, Why, Note), indented code
and doctests; `docstring` turns these into nodes. The directive's content names modules in reading order; a
module that it does not name is a warning, which fails the build.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util.docutils import SphinxDirective

from book_lessons import lessons, link_to

WIDTH = 80  # of a signature on one line
SHOWN = ("property", "classmethod", "staticmethod", "contextmanager", "dataclass")  # of the decorators
ENTRY = re.compile(r"(\w+(?:(?:, | \.\.\. )\w+)*) {2,}(\S.*)")  # a name, "a, b" or "first ... last"
ONE_ERROR = re.compile(r"[A-Z]\w+: ")
INLINE = re.compile(
    r"(?P<code>``.+?``|`[^`:]+`)"
    r"|:(?P<role>\w+):`(?P<target>[\w.]+)`"
    r"|(?<!\w)\*(?P<emphasis>\w[^*]*)\*(?!\w)"
    r"|arXiv:(?P<arxiv>\d{4}\.\d{4,5})"
)
Function = ast.FunctionDef
Definition = ast.FunctionDef | ast.ClassDef


def modules(package: Path) -> dict[str, Path]:
    """Every public module: attention, figures, figures.html ...; the package itself as the empty name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if not any(part.startswith("_") for part in name.split(".")):
            found[name] = path
    return found


def reading_order(patterns: list[str], names: set[str]) -> list[str]:
    """The names that match each pattern in turn; each name once.

    >>> reading_order(["model", "figures.html", "figures.*"], {"figures.html", "figures.a", "model"})
    ['model', 'figures.html', 'figures.a']
    """
    order: list[str] = []
    for pattern in patterns:
        matched = [name for name in sorted(names) if fnmatchcase(name, pattern) and name not in order]
        if not matched:
            raise ValueError(f"api: no module is named {pattern}")
        order += matched
    return order


def public(body: list[ast.stmt]) -> list[Definition]:
    """Classes and functions of a module or class whose names are public, in the order of the source."""
    return [
        node
        for node in body
        if isinstance(node, Definition) and (not node.name.startswith("_") or node.name == "__call__")
    ]


def exported(tree: ast.Module) -> list[tuple[str, str]]:
    """(name, where it is defined) of what a package's __init__ offers from its modules."""
    return [
        (alias.asname or alias.name, f"{node.module}.{alias.name}")
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("teachkit")
        for alias in node.names
    ]


def constants(tree: ast.Module) -> dict[str, str]:
    """Public names that a module assigns, type aliases and tables, with the line that does."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return {
        target.id: code(node)
        for node in assigned
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and not target.id.startswith("_")
    }


# Signatures


def code(node: ast.AST) -> str:
    """Source of one piece on one line, strings in double quotes; a long table is left out."""
    text = ast.unparse(node)
    if '"' not in text:
        text = text.replace("'", '"')
    return text if len(text) <= 2 * WIDTH or isinstance(node, ast.arguments) else f"{text.split('=')[0]}= ..."


def signature(function: Function, indent: str = "") -> str:
    """The head of a function as it would be written: on one line, or an argument a line."""
    shown = [f"@{code(d)}\n" for d in function.decorator_list if code(d).startswith(SHOWN)]
    returns = f" -> {code(function.returns)}" if function.returns else ""
    arguments = split_arguments(code(function.args))
    head = f"def {function.name}({', '.join(arguments)}){returns}"
    if len(indent + head) > WIDTH:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        head = f"def {function.name}(\n{lines}){returns}"
    return "\n".join(indent + line for line in ("".join(shown) + head).splitlines())


def split_arguments(text: str) -> list[str]:
    """Arguments one by one, spaced as PEP 8 has it.

    >>> split_arguments('q: Float[Tensor, "B T"], *, causal: bool=False, seed=None')
    ['q: Float[Tensor, "B T"]', '*', 'causal: bool = False', 'seed=None']
    """
    depth, pieces = 0, [""]
    for char in text:
        depth += (char in "[({") - (char in "])}")
        if char == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += char
    return [re.sub(r"^(\w+: [^=]+)=", r"\1 = ", piece.strip()) for piece in pieces if piece]


def class_head(node: ast.ClassDef, source: list[str]) -> str:
    """The class with its fields as the source has them, its constructor, and what needs no words."""
    shown = [f"@{code(d)}" for d in node.decorator_list if code(d).startswith(SHOWN)]
    bases = ", ".join(map(code, node.bases))
    body = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not code(item.target).startswith("_"):
            body.append(source[item.lineno - 1].rstrip())
        elif isinstance(item, Function) and (
            item.name == "__init__" or (item in public(node.body) and not ast.get_docstring(item))
        ):
            body.append(signature(item, "    "))
    head = f"class {node.name}{f'({bases})' if bases else ''}{':' if body else ''}"
    return "\n".join([*shown, head, *body])


# Docstrings


def docstring(text: str, module: str) -> list[nodes.Node]:
    """Nodes of a docstring in the house form."""
    made: list[nodes.Node] = []
    for kind, lines in pieces(inspect.cleandoc(text)):
        if kind == "code":
            language = "pycon" if lines[0].startswith(">>>") else "python"
            made.append(_code_block("\n".join(lines), language))
        elif kind == "text":
            made.append(nodes.paragraph("", "", *inline(" ".join(lines), module)))
        else:
            if not made or not isinstance(made[-1], nodes.definition_list):
                made.append(nodes.definition_list(classes=["api-entries"]))
            made[-1] += _entry(lines, module)
    return made


def pieces(text: str) -> Iterator[tuple[str, list[str]]]:
    """("text" | "entry" | "code", lines) of a docstring; the first line of an entry is its name."""
    for block in re.split(r"\n[ \t]*\n", text):
        lines = block.splitlines()
        if lines[0].startswith(">>>") or all(line.startswith("    ") for line in lines):
            yield "code", inspect.cleandoc("\n" + block).splitlines()
            continue
        current: tuple[str, list[str]] | None = None
        for line in lines:
            if match := ENTRY.fullmatch(line):
                if current:
                    yield current
                current = "entry", [match[1], match[2]]
            elif current and (line.startswith(" ") or current[0] == "text"):
                current[1].append(line.strip())
            else:
                if current:
                    yield current
                current = "text", [line.strip()]
        if current:
            yield current


def _entry(lines: list[str], module: str) -> nodes.definition_list_item:
    name, *rest = lines
    paragraphs: list[str] = []
    for line in rest:  # one kind of error to a paragraph
        if not paragraphs or (name == "Raises" and ONE_ERROR.match(line)):
            paragraphs.append(line)
        else:
            paragraphs[-1] += f" {line}"
    term = nodes.strong("", name) if name[0].isupper() else nodes.literal("", name)
    body = [nodes.paragraph("", "", *inline(paragraph, module)) for paragraph in paragraphs]
    return nodes.definition_list_item("", nodes.term("", "", term), nodes.definition("", *body))


def inline(text: str, module: str) -> list[nodes.Node]:
    """Code spans, emphasis, roles such as :func:`visible`, and arXiv numbers as links."""
    made: list[nodes.Node] = []
    end = 0
    for match in INLINE.finditer(text):
        made.append(nodes.Text(text[end : match.start()]))
        end = match.end()
        if match["code"]:
            made.append(nodes.literal("", match["code"].strip("`")))
        elif match["role"]:
            made.append(_reference(match["target"], module, match["role"]))
        elif match["emphasis"]:
            made.append(nodes.emphasis("", match["emphasis"]))
        else:
            made.append(nodes.reference("", match[0], refuri=f"https://arxiv.org/abs/{match['arxiv']}"))
    return [*made, nodes.Text(text[end:])]


def _reference(target: str, module: str, role: str = "obj", text: str = "") -> nodes.Element:
    """A link to another name of the reference; one that does not exist is a warning."""
    link = addnodes.pending_xref(
        "", refdomain="py", reftype=role, reftarget=target, refspecific=True, refexplicit=False, refwarn=True
    )
    link["py:module"], link["py:class"] = module, None
    link += nodes.literal("", text or target)
    return link


def _code_block(text: str, language: str = "python") -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language)


# The page


class Api(SphinxDirective):
    """One section per module, in the order of the content."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.app.srcdir) / "src" / "teachkit"
        found = modules(source)
        for path in found.values():
            self.env.note_dependency(str(path))
        order = reading_order(" ".join(self.content).split(), set(found) - {""})
        if missing := sorted(set(found) - {""} - set(order)):
            raise self.warning(f"name these modules where they are to be read: {', '.join(missing)}")
        taught = {
            name: [one for one in lessons(self.env.app) if name in one.about["modules"]] for name in order
        }
        sections = [self.module("", found[""], [])]
        return sections + [self.module(name, found[name], taught[name]) for name in order]

    def module(self, name: str, path: Path, taught: list[Any]) -> nodes.section:
        text = path.read_text(encoding="utf-8")
        tree, dotted = ast.parse(text), f"teachkit.{name}".strip(".")
        section = self._section(dotted, dotted, "module")
        section += docstring(ast.get_docstring(tree) or "", dotted)
        if taught:
            links = [link_to(lesson, self.env.docname, lesson.title) for lesson in taught]
            section += nodes.paragraph("", "Taught in ", *_joined(links), nodes.Text("."))
        if path.name == "__init__.py":
            section += self._offered(tree, dotted)
        if assigned := constants(tree):
            section += _code_block("\n".join(assigned.values()))
            for constant in assigned:
                self._note(f"{dotted}.{constant}", "data", section)
        section += [self._definition(node, dotted, text.splitlines()) for node in public(tree.body)]
        return section

    def _offered(self, tree: ast.Module, dotted: str) -> nodes.bullet_list:
        """What a package's __init__ gathers, each a link to where it is described."""
        known = {f"teachkit.{name}" for name in modules(Path(self.env.app.srcdir) / "src" / "teachkit")}
        items = nodes.bullet_list(classes=["api-names"])
        for name, where in exported(tree):
            link = _reference(where, dotted, "mod" if where in known else "obj", name)
            items += nodes.list_item("", nodes.paragraph("", "", link))
        return items

    def _definition(self, node: Definition, dotted: str, source: list[str]) -> nodes.section:
        full, text = f"{dotted}.{node.name}", ast.get_docstring(node) or ""
        if isinstance(node, Function):
            section = self._section(full, node.name, "function")
            section += [_code_block(signature(node)), *docstring(text, dotted)]
            return section
        section = self._section(full, node.name, "class")
        section += [_code_block(class_head(node, source)), *docstring(text, dotted)]
        for item in public(node.body):
            inner = ast.get_docstring(item)
            if isinstance(item, Function) and inner:
                member = nodes.container(classes=["api-member"], ids=[_anchor(f"{full}.{item.name}")])
                member += [_code_block(signature(item)), *docstring(inner, dotted)]
                self._note(f"{full}.{item.name}", "method", member)
                section += member
        return section

    def _section(self, dotted: str, title: str, kind: str) -> nodes.section:
        section = nodes.section("", nodes.title("", "", nodes.literal("", title)), ids=[_anchor(dotted)])
        self.state.document.note_explicit_target(section)
        self._note(dotted, kind, section)
        return section

    def _note(self, dotted: str, kind: str, node: nodes.Element) -> None:
        """Let references, the inventory and the search find a name."""
        domain = self.env.get_domain("py")
        assert isinstance(domain, PythonDomain)
        if kind == "module":
            domain.note_module(dotted, node["ids"][0], "", "", False)
        domain.note_object(dotted, kind, node["ids"][0], location=node)


def _anchor(dotted: str) -> str:
    return dotted.replace(".", "-")


def _joined(links: list[nodes.Element]) -> list[nodes.Node]:
    made: list[nodes.Node] = []
    for place, link in enumerate(links):
        made += [nodes.Text(" and " if place == len(links) - 1 else ", ")] if place else []
        made.append(link)
    return made


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("api", Api)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
