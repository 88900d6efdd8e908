"""report.html: what became of every file, for a person to read; report.json holds the same for a program."""

import html
import os
from pathlib import Path

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2024}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #dfe3e6;vertical-align:top}
th{font-weight:600;background:#f4f6f7;position:sticky;top:0}td.n{text-align:right;font-variant-numeric:tabular-nums}
.fate{border-radius:.3rem;padding:.05rem .45rem;background:#fde8e0;color:#8a2c0d;white-space:nowrap}
.kept{background:#e0f3e6;color:#14572b}.ignored{background:#eceff1;color:#4a5257}
.note{color:#5b656b}td{overflow-wrap:anywhere}td:first-child{min-width:12rem}.splits{width:auto}
"""


def write_html(path: Path, report: dict) -> None:
    """Write the page: counts, splits, then every file, those left out first."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page(report), encoding="utf-8")
    os.replace(partial, path)


def page(report: dict) -> str:
    """The page as one self-contained text."""
    order = {"kept": 2, "ignored": 1}
    files = sorted(report["files"], key=lambda entry: (order.get(entry["fate"], 0), entry["name"]))
    counts = ", ".join(f"{count} {fate}" for fate, count in sorted(report["fates"].items()))
    splits = "".join(
        f"<tr><td>{split}</td>"
        + "".join(f'<td class="n">{part[key]}</td>' for key in ("files", "clips", "hours"))
        + "</tr>"
        for split, part in report["splits"].items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>prepare: report</title>'
        f"<style>{STYLE}</style><h1>What became of {_safe(report['source'])}</h1>"
        f"<p>{len(report['files'])} files: {_safe(counts)}.</p>"
        + "".join(f"<p>{_safe(note)}</p>" for note in report["notes"])
        + '<table class="splits"><tr><th>split</th><th>files</th><th>clips</th><th>hours</th></tr>'
        f"{splits}</table>"
        "<table><tr><th>file</th><th>fate</th><th>why, and what was noticed</th><th>seconds</th><th>clips</th>"
        "<th>LUFS</th><th>labelled clips: tempo, bar, key</th><th>caption</th></tr>"
        + "".join(_row(entry) for entry in files)
        + "</table></html>\n"
    )


def _row(entry: dict) -> str:
    fate = entry["fate"]
    why = [_safe(entry["reason"])] if entry.get("reason") else []
    why += [f'<span class="note">{_safe(note)}</span>' for note in entry["notes"]]
    counts = entry.get("labelled")
    labelled = f"{counts['bpm']}, {counts['downbeat_s']}, {counts['key']}" if counts and fate == "kept" else ""
    numbers = [_number(entry.get("duration_s"), 1), _number(entry.get("clips"), 0), _number(entry.get("lufs"), 1)]
    caption = (entry.get("captions") or [""])[0][:120]
    kind = fate if fate in ("kept", "ignored") else ""
    return (
        f'<tr><td>{_safe(entry["name"])}</td><td><span class="fate {kind}">{_safe(fate)}</span></td>'
        f"<td>{'<br>'.join(why)}</td>"
        + "".join(f'<td class="n">{number}</td>' for number in [*numbers, labelled])
        + f"<td>{_safe(caption)}</td></tr>"
    )


def _safe(text: str) -> str:
    return html.escape(str(text).encode("utf-8", "replace").decode())


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
