"""The markup of the page: the tables of the terminal are tables, and user text is never markup."""

from __future__ import annotations

from rich.console import Group

from mgap_cli.report.layout import add_numbers, cropped, new_table, titled, verbatim
from mgap_cli.report.page.html import Section, blocks_of, figure_html, page, text_html
from mgap_cli.report.tables.gap import component_table, posterior_table

EVIL = "<script>alert(1)</script>[red]&\"'"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;[red]&amp;&#34;&#39;"


def test_tables_become_tables():
    table = new_table()
    table.add_column("name")
    add_numbers(table, "acc.\n%")
    table.add_row(cropped(EVIL), "1.0\n0.5-1.5")
    table.add_row()
    table.add_row(verbatim(EVIL), "[bold]2[/bold]")
    (markup, note) = blocks_of(titled(f"Title {EVIL}", table, f"note {EVIL}"))
    assert note == f'<p class="note">note {ESCAPED}</p>'
    assert f"<caption>Title {ESCAPED}</caption>" in markup
    assert '<th scope="col">name</th><th scope="col" class="number">acc.<br>%</th>' in markup
    assert f'<th scope="row">{ESCAPED}</th><td class="number">1.0<br>0.5-1.5</td>' in markup
    assert '<td class="number">[bold]2[/bold]</td>' in markup  # brackets are brackets
    assert markup.count("<tr>") == 3  # the head and the rows with text


def test_titles_without_tables_and_groups_of_tables():
    assert list(blocks_of(titled("Skipped clips: none"))) == ["<p><strong>Skipped clips: none</strong></p>"]
    first, second = new_table(), new_table()
    for table in (first, second):
        table.add_column("x")
        table.add_row("1")
    blocks = list(blocks_of(titled("Two", Group(first, second))))
    assert len(blocks) == 2 and "<caption>Two</caption>" in blocks[0]


def test_real_tables_survive(fit, constant_fit):
    for each in (fit, constant_fit):
        for item in (component_table(each, "train"), posterior_table(each, 5)):
            markup = "".join(blocks_of(item))
            assert markup.count("<table>") == 1 and "[/bold]" not in markup
    assert "[red]x[/red]" in "".join(blocks_of(posterior_table(fit, 300)))  # a class that is markup to rich


def test_text():
    assert text_html(f"run `mgap {EVIL}` now") == f"run <code>mgap {ESCAPED}</code> now"
    assert text_html("one ` alone") == "one ` alone"
    assert text_html("two\nlines") == "two\\nlines"
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    assert f'width="640" height="480" alt="{ESCAPED}"' in figure_html(png, EVIL, "")


def test_page_escapes_its_words():
    section = Section("a", EVIL)
    section.say(EVIL, missing=True)
    html = page(EVIL, EVIL, [EVIL], [section])
    assert "<script" not in html and html.count(ESCAPED) == 7
