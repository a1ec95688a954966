"""What the cleaning of Wikipedia articles leaves behind in them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.curation.filters.base import Edit


class WikipediaLeftovers(Edit):
    """Takes footnote marks, emptied parentheses and wiki markup out of texts; each field switches one kind.

    What is shown to a reader stays: the label of a link, bold words. What may be something else stays too: `[1]` at the
    beginning of a line, after a space or as an index, `( )` as a blank to fill in, `f()`, `[[ -f x ]]`, an unclosed
    comment. Lines that are blank thereby go. Editing an edited text changes nothing; a text that has not settled after
    ten rounds is left as it was. Default: all kinds. Source: Wikipedia's help on markup, and the leftovers named in the
    description of LLM-JP corpus v3's ja_wiki (footnotes, empty parentheses).
    """

    filter: Literal["wikipedia_leftovers"] = "wikipedia_leftovers"
    comments: bool = Field(default=True, description="HTML comments.")
    references: bool = Field(default=True, description="<ref> elements with their content, <references/>.")
    templates: bool = Field(default=True, description="{{templates}} and {{{parameters}}}, nested ones too.")
    tables: bool = Field(default=True, description="Lines of table markup between {| and |}.")
    categories: bool = Field(default=True, description="Lines of categories and of links to other languages.")
    links: bool = Field(
        default=True, description="Brackets and pages of [[page|label]] and [https://… label]; pictures."
    )
    emphasis: bool = Field(default=True, description="Apostrophes around '''bold''' and ''italic'' words.")
    footnotes: bool = Field(default=True, description="Footnote marks: [1], [注 2], [要出典], [いつ?].")
    parentheses: bool = Field(
        default=True, description="Parentheses that hold separators or nothing, and separators at their ends."
    )
    link_sections: bool = Field(
        default=True,
        description="Sections at the end with links or nothing below 脚注, 外部リンク, 関連項目 and the like.",
    )

    def edit(self, text: str) -> tuple[str, list[str]]:
        from tasks.curation.wikitext import KINDS, clean

        return clean(text, {kind for kind in KINDS if getattr(self, kind)})
