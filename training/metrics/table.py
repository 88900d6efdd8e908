"""The figures of an evaluation as lines of text."""


def _cell(summary: dict | None) -> str:
    return "-" if summary is None or summary["mean"] is None else f"{summary['mean']:.3f}"


def figures_table(figures: dict[str, dict[str, dict]], names: dict[str, str], columns: list[str]) -> str:
    """One line a figure, one column a source; the interval and the count are those of the first source that has any.

    Args:
        figures: name -> source -> what `training.metrics.bootstrap.summarise` gives.
        names: name -> words that say what it is; those of which no column has a value are left out.
        columns: sources, in order.
    """
    lines = [["", *columns, "95 % interval", "n"]]
    for name, words in names.items():
        by_source = figures.get(name, {})
        first = next((by_source[c] for c in columns if by_source.get(c) and by_source[c]["n"]), None)
        if first is None:
            continue
        cells = [_cell(by_source.get(column)) for column in columns]
        lines.append([words, *cells, f"{first['low']:.3f} .. {first['high']:.3f}", str(first["n"])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
