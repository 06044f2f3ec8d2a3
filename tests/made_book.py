"""A small built book, as files: what the tools that read _build/html are tested on."""

from __future__ import annotations

from pathlib import Path

CONFIG = """title: Small & made
author: Its authors
logo: mark.svg
html: {extra_footer: "Text: CC BY 4.0."}
"""
TOC = """format: jb-book
root: book/intro
parts:
  - caption: First part
    numbered: 1
    chapters: [{file: notebooks/one}, {file: notebooks/two}]
"""
MARK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M0 0h8v8z"/></svg>'
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="../_static/book.css"><script defer src="../_static/book.js"></script></head>
<body><nav><a href="../index.html">Home</a></nav><article class="bd-article">{article}</article></body></html>
"""
INTRO = """<section id="small"><h1>Small<a class="headerlink" href="#small">#</a></h1>
<p>It begins in <a class="reference internal" href="../notebooks/one.html">the first chapter</a>, and
<a href="../notebooks/two.html#deep">deep in the second</a>. Elsewhere: <a href="https://example.org/x">there</a>.</p>
</section>"""
ONE = """<section id="one"><h1><span class="section-number">1. </span>One &lt;first&gt;<a class="headerlink"
href="#one">#</a></h1>
<p>Get the <a class="reference download internal" download="" href="../_downloads/0a/one.py">script</a>. See
<a href="#own">below</a> and <a href="two.html">two</a>.</p>
<div class="cell tag_setup"><details class="hide above-input"><summary>Show code cell source</summary>
<div class="cell_input"><div class="highlight"><pre>import folded_away</pre></div></div></details></div>
<section id="own"><h2>Own section<a class="headerlink" href="#own">#</a></h2>
<p id="term-cache"><strong>1. A question.</strong> How many?</p>
<details><summary>Answer</summary><p>Forty-two.</p></details>
<div class="cell"><div class="cell_input"><div class="highlight"><pre><span></span>\
<span class="k">def</span> <span class="nf">f</span><span class="p">(x):</span>
<span class="w">    </span><span class="sd">\"\"\"words\"\"\"</span>
<span class="w">    </span><span class="k">return</span> x  # LONG


f(1)
</pre></div></div></div>
<div class="tk-figure" data-tk-figure="k"><style>.tk-figure { color: black }</style>
<div class="tk-live"><button>Turn</button></div>
<div class="tk-static"><svg viewBox="0 0 9 9" aria-labelledby="t">
<title id="t">A twin</title><g clip-path="url(#c)"/><clipPath id="c"/></svg></div>
<details class="tk-table"><summary>As a table</summary><table><tr><td>1</td></tr></table></details>
<script type="application/json" class="tk-data">{}</script></div><script>window.alive = true</script>
<img class="only-dark" src="../_images/dark.png" alt="d">
<img class="only-light" src="../_images/light.png" alt="l">
</section></section>""".replace("LONG", "x" * 120)
TWO = """<section id="two"><h1><span class="section-number">2. </span>Two</h1>PARAGRAPHS
<section id="deep"><h2>Deep</h2><p>Back to <a href="one.html#own">a section of one</a>.
A <a class="reference internal" href="one.html#term-cache">cache</a>, <span id="word"></span>of words.</p>
<p><span class="formula"><math display="block"><mi>x</mi><mo>=</mo><mn>1</mn></math></span></p>
<table><tr><td>narrow</td></tr></table>WIDE
</section></section>"""
# Both are wider than the measure until the PDF makes them smaller.
WIDE = (
    f'<table class="wide"><tr>{"<td>TWELVELETTERS</td>" * 6}</tr></table>'
    f'<p><span class="formula"><math display="block">{"<mi>x</mi><mo>+</mo>" * 30}</math></span></p>'
)
TWO = TWO.replace("WIDE", WIDE)
# A picture of one pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63fccff0bf1e000684"
    "02808c5ad7cf0000000049454e44ae426082"
)


def make(root: Path, *, pages_of_two: int = 4) -> Path:
    """Write the book under `root`; returns root/_build/html. Its second chapter fills some pages of paper."""
    html = root / "_build" / "html"
    for folder in ("book", "notebooks", "_static", "_images", "_downloads/0a"):
        (html / folder).mkdir(parents=True)
    for name, text in (("_config.yml", CONFIG), ("_toc.yml", TOC), ("mark.svg", MARK)):
        (root / name).write_text(text, encoding="utf-8")
    (root / "CITATION.cff").write_text('title: "Small: made for a test"\nversion: 1.2.3\n', encoding="utf-8")
    filling = "".join(
        f"<p>Paragraph {i}. {'Words that fill the page. ' * 24}</p>" for i in range(9 * pages_of_two)
    )
    for name, article in (
        ("book/intro", INTRO),
        ("notebooks/one", ONE),
        ("notebooks/two", TWO.replace("PARAGRAPHS", filling)),
    ):
        page = PAGE.format(title=name, article="ARTICLE").replace("ARTICLE", article)
        (html / f"{name}.html").write_text(page, encoding="utf-8")
    (html / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=book/intro.html" />\n')
    (html / "_static" / "book.css").write_text("body { background: url(../_images/light.png) }\n")
    (html / "_static" / "book.js").write_text("document.documentElement.classList.add('js');\n")
    for name in ("dark.png", "light.png"):
        (html / "_images" / name).write_bytes(PIXEL)
    (html / "_downloads" / "0a" / "one.py").write_text("1\n")
    for name in (".buildinfo", "objects.inv"):
        (html / name).write_text("left out\n")
    return html
