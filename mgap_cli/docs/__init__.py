"""The pages of the documentation, which ship with the program."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

from mgap_cli.errors import UsageError, did_you_mean

# The order in which `mgap docs` lists the pages; a page that is not here comes after them, by its name.
_ORDER = (
    *("data", "clusters", "analysis", "methods", "evaluation", "comparison", "results", "performance"),
    *("extending", "contributing", "reference"),
)
_LINK = re.compile(r"\[([^\]]+)\]\(([\w-]*)(?:\.md)?(?:#[\w-]*)?\)")


@dataclass(frozen=True)
class Page:
    """One page. topic: its file's name. summary: the first sentence below its title. text: Markdown."""

    topic: str
    text: str

    @property
    def summary(self) -> str:
        sentence, stop, _ = " ".join(self.text.split("\n\n")[1].split()).partition(". ")
        return sentence + stop.strip()

    def terminal_text(self) -> str:
        """Return the page with each link to another page replaced by the command that shows that page."""
        return _LINK.sub(lambda link: f"{link[1]} (`mgap docs {link[2]}`)" if link[2] else link[1], self.text)


def pages() -> list[Page]:
    """Return every page in the order of the list."""
    files = [f for f in (resources.files("mgap_cli") / "docs").iterdir() if f.name.endswith(".md")]
    all_pages = [Page(file.name.removesuffix(".md"), file.read_text(encoding="utf-8")) for file in files]
    rank = {topic: position for position, topic in enumerate(_ORDER)}
    return sorted(all_pages, key=lambda page: (rank.get(page.topic, len(rank)), page.topic))


def page(topic: str) -> Page:
    """Return the page about `topic`. Raises UsageError, with a suggestion, if there is none."""
    by_topic = {page.topic: page for page in pages()}
    if topic not in by_topic:
        hint = did_you_mean(topic, by_topic, f"Pages: {', '.join(by_topic)}.", "`mgap docs {}`")
        raise UsageError(f"docs: there is no page {topic!r}.", hint)
    return by_topic[topic]
