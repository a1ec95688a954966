"""The good documents of the sample corpus: which facts stand on which page, and how a page reads."""

from __future__ import annotations

from typing import NamedTuple

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_facts import THEMES
from tasks.acquire.sample_numbers import Draft, date_draft, measure_draft, number_draft, product_sentence
from tasks.acquire.sample_truth import Fact, FactPool
from tasks.acquire.sample_wordings import CONNECTIVES, lead, opening, politely, recap, remark, title

MAX_CYCLES = 120  # more cycles through a theme of six facts would make pages that resemble each other
_FACTS_A_PAGE = 8
_BACKGROUND_SHARE = 0.2  # background facts in a cycle, as a share of the core facts


class Mention(NamedTuple):
    """One statement of a fact: its position in the pool, and how often it was stated before (`turn`)."""

    position: int
    turn: int


class Page(NamedTuple):
    """The facts of one document, in sections of one relation or one topic."""

    theme: str
    sections: tuple[tuple[Mention, ...], ...]


def plan_pages(pool: FactPool, count: int, first_cycle: int, max_cycles: int, seed: int) -> list[Page]:
    """At most `count` pages; each cycle through them states every core fact once, and a part of the background."""
    pages: list[Page] = []
    for cycle in range(first_cycle, first_cycle + max_cycles):
        if len(pages) >= count:
            break
        pages += _cycle(pool, cycle, Dice(seed, cycle))
    return pages[:count]


def wording_of(mention: Mention, num_wordings: int) -> int:
    """The cloze wording (0) every second time, the others in turn between: six mentions hold it and three others."""
    turn = mention.turn + mention.position
    return 0 if turn % 2 == 0 else 1 + turn // 2 % num_wordings


def compose_page(page: Page, facts: tuple[Fact, ...], dice: Dice, with_cloze: bool) -> Draft:
    """The draft of a page; without cloze, every fact is worded in one of the other ways."""
    sections = [[facts[mention.position] for mention in section] for section in page.sections]
    first, second = sections[0][0].topic, sections[-1][-1].topic
    theme = dice.pick(THEMES[page.theme])
    paragraphs = [opening(dice, theme, first, second)]
    for section, mentions in zip(sections, page.sections, strict=True):
        wordings = {
            fact.id: wording_of(mention, len(fact.kind.wordings)) if with_cloze else _other_wording(fact, dice)
            for fact, mention in zip(section, mentions, strict=True)
        }
        paragraphs.append(_section(section, wordings, dice))
    paragraphs += _ending(sections, first, second, dice)
    return Draft(title(dice, theme, first, second), paragraphs)


def free_draft(facts: tuple[Fact, ...], dice: Dice, with_cloze: bool) -> Draft:
    """A draft outside the page plan: computed truths, or facts of several themes side by side."""
    kind = dice.below(10)
    if kind < 3:
        return number_draft(dice)
    if kind < 5:
        return date_draft(dice)
    return measure_draft(dice) if kind < 7 else _mixed(facts, dice, with_cloze)


def render(draft: Draft, dice: Dice) -> str:
    """The text of a draft, in plain or polite style throughout; paragraphs are parted by an empty line."""
    polite = dice.chance(0.45)
    return "\n\n".join("".join(map(politely, part) if polite else part) for part in draft.paragraphs)


def _cycle(pool: FactPool, cycle: int, dice: Dice) -> list[Page]:
    """Pages of one cycle: sections by relation, or in every other pair of cycles by topic."""
    facts = pool.everything
    by_theme: dict[str, list[Mention]] = {}
    for mention in _mentions(pool, cycle):
        by_theme.setdefault(facts[mention.position].theme, []).append(mention)
    pages: list[Page] = []
    for theme, mentions in by_theme.items():
        sections = _by_topic(facts, mentions, dice) if cycle // 2 % 2 else _by_relation(facts, mentions, dice)
        pages += _bind(theme, dice.shuffled(sections))
    return dice.shuffled(pages)


def _mentions(pool: FactPool, cycle: int) -> list[Mention]:
    """All core facts and the next few background facts, which come round more slowly."""
    num_core, num_background = len(pool.core), len(pool.background)
    step = min(int(num_core * _BACKGROUND_SHARE), num_background)
    places = range(cycle * step, (cycle + 1) * step)
    return [Mention(position, cycle) for position in range(num_core)] + [
        Mention(num_core + place % num_background, place // num_background) for place in places
    ]


def _by_relation(facts: tuple[Fact, ...], mentions: list[Mention], dice: Dice) -> list[tuple[Mention, ...]]:
    groups: dict[str, list[Mention]] = {}
    for mention in mentions:
        groups.setdefault(facts[mention.position].relation, []).append(mention)
    sections = []
    for group in groups.values():
        rest = dice.shuffled(group)
        while rest:
            size = dice.within(3, 5)
            sections.append(tuple(rest[:size]))
            rest = rest[size:]
    return sections


def _by_topic(facts: tuple[Fact, ...], mentions: list[Mention], dice: Dice) -> list[tuple[Mention, ...]]:
    topics: dict[str, list[Mention]] = {}
    for mention in mentions:
        topics.setdefault(facts[mention.position].topic, []).append(mention)
    several = [tuple(dice.shuffled(group)) for group in topics.values() if len(group) > 1]
    return several + _by_relation(facts, [group[0] for group in topics.values() if len(group) == 1], dice)


def _bind(theme: str, sections: list[tuple[Mention, ...]]) -> list[Page]:
    """Sections in order onto pages of about eight facts; a short rest joins the last page."""
    pages: list[list[tuple[Mention, ...]]] = []
    size = _FACTS_A_PAGE
    for section in sections:
        if size >= _FACTS_A_PAGE:
            pages.append([])
            size = 0
        pages[-1].append(section)
        size += len(section)
    if len(pages) > 1 and size < _FACTS_A_PAGE // 2:
        pages[-2:] = [pages[-2] + pages[-1]]
    return [Page(theme, tuple(page)) for page in pages]


def _other_wording(fact: Fact, dice: Dice) -> int:
    return dice.within(1, len(fact.kind.wordings))


def _section(facts: list[Fact], wordings: dict[str, int], dice: Dice) -> list[str]:
    """A paragraph that states the facts, sorted by their numbers now and then."""
    kind = facts[0].kind
    same = all(fact.relation == kind.name for fact in facts)
    ordered = same and kind.order != "" and len(facts) > 2 and dice.chance(0.5)
    facts = sorted(facts, key=lambda fact: fact.number) if ordered else facts
    sentences = (
        [kind.order if ordered else lead(dice, kind.noun if same else facts[0].topic)] if dice.chance(0.4) else []
    )
    for place, fact in enumerate(facts):
        link = dice.pick(CONNECTIVES) if place and dice.chance(0.4) else ""
        sentences.append(link + fact.worded(wordings[fact.id]))
    if same and kind.gap and len(facts) > 1 and dice.chance(0.6):
        low, high = sorted(dice.some(facts, 2), key=lambda fact: fact.number)
        sentences.append(kind.gap.format(s=low.subject, t=high.subject, d=high.number - low.number))
    return sentences


def _ending(sections: list[list[Fact]], first: str, second: str, dice: Dice) -> list[list[str]]:
    """Up to two paragraphs: facts of one relation once more as a list, and general remarks."""
    paragraphs = []
    listed = dice.pick(sections)
    if len(listed) > 2 and len({fact.relation for fact in listed}) == 1 and dice.chance(0.4):
        paragraphs.append([recap(dice, listed[0].kind.noun, [(f.subject, f.answer) for f in dice.shuffled(listed)])])
    topics = [fact.topic for section in sections for fact in section]
    remarks = [remark(dice, *dice.some(topics, 2)) for _ in range(1 + dice.chance(0.3))]
    return [*paragraphs, remarks]


def _mixed(facts: tuple[Fact, ...], dice: Dice, with_cloze: bool) -> Draft:
    chosen = dice.some(facts, dice.within(5, 7))
    first, second = chosen[0].topic, chosen[-1].topic
    theme = dice.pick(("いろいろな分野の知識", "身の回りの知識", "学びの題材", "広い分野の基礎知識"))
    sentences = [fact.worded(0 if with_cloze and dice.chance(0.3) else _other_wording(fact, dice)) for fact in chosen]
    middle = [*sentences[3:], product_sentence(dice), remark(dice, first, second)]
    return Draft(title(dice, theme, first, second), [opening(dice, theme, first, second), sentences[:3], middle])
