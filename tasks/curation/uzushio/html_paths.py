"""Filters by where in the page a paragraph stood: MergeListTag, MarkdownizeHeading, NoContentDOM."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from tasks.curation.uzushio.stage import MarkingStage, RewritingStage, Rewritten

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents

LIST_TAGS = {"li", "option"}
HEADINGS = {f"h{level}": level for level in range(1, 7)}
FRAME_TAGS = {"header", "footer", "aside", "nav", "noscript", "form"}
BLOCK_TAGS = {"div", "p", "ul", "h1"}
FRAME_NAMES = {
    "left-box", "leftBox", "blog-title-inner", "blogTitleInner", "blogtitle", "blog-name", "blogName", "head-block1",
    "headBlock1", "head-blog-name", "headBlogName", "head-introduction", "headIntroduction",
}  # fmt: skip
FRAME_PARTS = (
    "header", "footer", "side", "menu", "nav", "banner", "logo", "pankuzu", "breadcrumb", "widget", "button"
)  # fmt: skip


class PathStep(NamedTuple):
    """One step of a path: its tag, and its classes and id."""

    tag: str
    names: tuple[str, ...]


@lru_cache(maxsize=1 << 16)
def path_steps(path: str) -> tuple[PathStep, ...]:
    """The steps of `tag[.class]*[#id]>...`, outermost first."""
    steps = []
    for step in path.split(">") if path else ():
        head, _, identifier = step.partition("#")
        tag, *classes = head.split(".")
        steps.append(PathStep(tag, (*classes, identifier) if identifier else tuple(classes)))
    return tuple(steps)


def is_list_item(path: str) -> bool:
    return any(step.tag in LIST_TAGS for step in path_steps(path))


def heading_level(path: str) -> int:
    """1 to 6 for the innermost heading of the path, 0 for none."""
    return next((HEADINGS[step.tag] for step in reversed(path_steps(path)) if step.tag in HEADINGS), 0)


def is_frame(path: str) -> bool:
    """Whether a paragraph at that path belongs to the frame of a page and not to its content."""
    return any(
        step.tag in FRAME_TAGS or (step.tag in BLOCK_TAGS and _has_frame_name(step)) for step in path_steps(path)
    )


def _has_frame_name(step: PathStep) -> bool:
    return any(name in FRAME_NAMES or any(part in name.lower() for part in FRAME_PARTS) for name in step.names)


class MergeListTag(RewritingStage):
    """Joins neighbouring paragraphs of the same path with a tag li or option into one, each item after `- `.

    The joined paragraph has the smallest of their frequencies. A removed paragraph between them keeps them apart.
    """

    name: Literal["MergeListTag"] = "MergeListTag"

    def rewrite(self, documents: Documents, alive: np.ndarray) -> Rewritten:
        from tasks.curation.uzushio.rewriting import with_merged_lists

        return with_merged_lists(documents, alive)


class MarkdownizeHeading(RewritingStage):
    """Puts as many `#` and a space before the text as the innermost of h1 to h6 in its path says."""

    name: Literal["MarkdownizeHeading"] = "MarkdownizeHeading"

    def rewrite(self, documents: Documents, alive: np.ndarray) -> Rewritten:
        from tasks.curation.uzushio.rewriting import with_headings

        return with_headings(documents, alive)


class NoContentDOM(MarkingStage):
    """Removes paragraphs of the frame of a page: by tags such as nav, by classes and ids such as sidebar."""

    name: Literal["NoContentDOM"] = "NoContentDOM"

    def marks(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        import numpy as np

        if not documents.has_paths:
            return np.zeros(len(documents.texts), dtype=bool)
        paths = documents.paths.dictionary_encode()
        frames = np.array([is_frame(path) for path in paths.dictionary.to_pylist()], dtype=bool)
        return frames[paths.indices.to_numpy()]
