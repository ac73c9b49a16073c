"""Figures as Markdown tables."""


def table(nodes, columns=(), form=""):
    """Lines of a table.

    nodes: {name of the file: dictionary of dictionaries of figures, nested as deep as one likes}. Each dictionary that holds
    figures is a row, named by the keys that lead to it; dictionaries without any that surround it are no rows. columns: only
    these. form: a format for all numbers, such as '.1f'.
    """
    rows = {}  # {row: {(column, file): figure}}
    for file, node in nodes.items():
        for row, figures in rows_of(node):
            for column, figure in figures.items():
                rows.setdefault(row, {})[column, file] = figure
    if list(rows) == [""]:  # figures without a row of their own are a column
        alone, rows = rows[""], {}
        for (row, file), figure in alone.items():
            rows.setdefault(row, {})["", file] = figure
    wanted = columns or dict.fromkeys(column for figures in rows.values() for column, _ in figures)
    first = next(iter(nodes), None)
    head = ["", *(", ".join(filter(None, (column, file if len(nodes) > 1 else ""))) for column in wanted for file in nodes)]
    lines = [head, ["---", *("---:" for _ in head[1:])]]
    for row, figures in rows.items():
        lines.append([row, *(_cell(figures.get((column, file)), None if file == first else figures.get((column, first)), form)
                             for column in wanted for file in nodes)])
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def rows_of(node, keys=()):
    figures = {key: value for key, value in node.items() if not isinstance(value, dict)}
    if figures:
        yield ", ".join(keys), figures
    for key, value in node.items():
        if isinstance(value, dict):
            yield from rows_of(value, (*keys, key))


def _cell(figure, compared, form):
    shown = text(figure, form)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in (figure, compared)) and compared:
        shown += f" ({figure / compared:.2f})"
    return shown


def text(figure, form=""):
    """A figure as it is shown: three digits of a fraction, all of a whole number."""
    if figure is None:
        return ""
    if isinstance(figure, list):
        return ", ".join(text(item) for item in figure)
    if isinstance(figure, bool | str):
        return str(figure)
    if form:
        return format(figure, form)
    if isinstance(figure, int) or abs(figure) >= 1000:
        return f"{figure:,.0f}"
    return f"{figure:.3g}"
