"""The contact sheet: HTML pages that show every picture of a run with what it was made from."""
import html
import itertools
from collections.abc import Iterator
from pathlib import Path

from bulk.jobs.plan import Plan
from bulk.results.ledger import NAME, Standing, lines
from bulk.results.pictures import RESULTS
from bulk.results.pictures import write as write_file

PICTURES_A_PAGE = 500
MOST_BAD = 1000     # jobs listed that ended badly
STYLE = """body{font:14px system-ui,sans-serif;margin:2em;background:#fafafa;color:#222}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:1em}
figure{margin:0;background:#fff;border:1px solid #ddd;padding:8px}img{width:100%;height:auto}
figcaption{font-size:12px;overflow-wrap:anywhere}b{color:#06c}nav a{margin-right:.6em}li{margin:.3em 0}"""


def write(output: Path, standing: Standing, plan: Plan) -> Path:
    """Writes the pages of a plan's jobs from the ledger in `output`; returns the first page."""
    pages = max(1, -(-len(standing.done) // PICTURES_A_PAGE))
    figures = _figures(output, standing)
    for page in range(1, pages + 1):
        links = " ".join(f'<a href="{_name(n)}">{n}</a>' for n in range(1, pages + 1)) if pages > 1 else ""
        head = (f'<!doctype html><meta charset="utf-8"><title>Contact sheet {page}</title><style>{STYLE}</style>'
                f"<h1>{len(standing.done)} pictures</h1><nav>{links}</nav><main>")
        bad = _bad(standing, plan) if page == pages and standing.ended_badly else ""
        text = "\n".join([head, *itertools.islice(figures, PICTURES_A_PAGE), "</main>", bad])
        write_file(output / _name(page), text.encode())
    return output / _name(1)


def _name(page: int) -> str:
    return "contact_sheet.html" if page == 1 else f"contact_sheet_{page}.html"


def _figures(output: Path, standing: Standing) -> Iterator[str]:
    left = set(standing.done)       # a picture that was deleted and made again has two lines
    for line in lines(output / NAME):
        if line["event"] != "done" or line["id"] not in left:
            continue
        left.remove(line["id"])
        likeness = f"<br><b>likeness {line['likeness']:.3f}</b>" if "likeness" in line else ""
        values = "<br>".join(f"{html.escape(str(name))}: {html.escape(str(value))}"
                             for name, value in (line.get("values") or {}).items())
        seconds = f"{line['seconds']:.1f} s on " if line.get("seconds") is not None else ""
        files = [f"{RESULTS}/{html.escape(name)}" for name in line.get("files") or [f"{line['id']}.png"]]
        pictures = "".join(f'<a href="{file}"><img loading="lazy" src="{file}"></a>' for file in files)
        yield (f"<figure>{pictures}<figcaption>{values}{likeness}<br>{seconds}{html.escape(str(line.get('server', '')))}"
               "</figcaption></figure>")


def _bad(standing: Standing, plan: Plan) -> str:
    items = [f"<li>{event}: {html.escape(plan.describe(job))}: {html.escape(message)}</li>"
             for job, event, message in standing.without_picture[:MOST_BAD]]
    return f"<h2>{len(standing.ended_badly)} jobs without a picture</h2><ul>\n" + "\n".join(items) + "\n</ul>\n"
