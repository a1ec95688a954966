"""Facts to complete and questions to answer: what a model can learn from the sample corpus, with the right answers."""

from __future__ import annotations

from typing import NamedTuple

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_facts import RELATIONS, Relation

INSTRUCTION = "次の質問に答えてください。"
NUM_CHOICES = 3
_RELATION = {relation.name: relation for relation in RELATIONS}
_SMALLEST_RELATION = 6  # core facts a relation should have, so that each has wrong choices among the others
_HELD_OUT_SHARE = 1 / 5


class Fact(NamedTuple):
    """A truth stated in the training documents; `prompt + answer` is the cloze wording, found there verbatim."""

    id: str
    relation: str
    theme: str
    subject: str
    answer: str
    prompt: str  # text that ends right before the answer
    choices: tuple[str, ...]  # wrong answers, all right for other subjects of the same relation
    question: str
    sentence: str  # the answer as a sentence

    @property
    def topic(self) -> str:
        """What an article that states this fact would be named after."""
        return self.subject if _RELATION[self.relation].topic == "s" else self.answer

    @property
    def number(self) -> int:
        """The digits of the answer as one integer, for relations whose answers are numbers."""
        return int("".join(filter(str.isdigit, self.answer)))

    @property
    def kind(self) -> Relation:
        """The relation with its wordings."""
        return _RELATION[self.relation]

    def worded(self, wording: int) -> str:
        """The fact as a plain sentence: wording 0 is the cloze wording, others count from 1."""
        pattern = self.kind.cloze + "{a}である。" if wording == 0 else self.kind.wordings[wording - 1]
        return _fill(pattern, self.subject, self.answer)


class Question(NamedTuple):
    """An instruction pair; a held-out one asks for a fact that no training pair asks for."""

    instruction: str
    input: str
    output: str
    held_out: bool
    relation: str
    fact: str  # id of the fact


class FactPool(NamedTuple):
    """All facts of a corpus: the core ones are asked for and stated often, the background ones just add variety."""

    core: tuple[Fact, ...]
    background: tuple[Fact, ...]

    @property
    def everything(self) -> tuple[Fact, ...]:
        """Core, then background."""
        return self.core + self.background


def draw_facts(num_core: int, dice: Dice) -> FactPool:
    """About `num_core` core facts, in equal parts from as many relations as they can fill; others of their themes."""
    relations = RELATIONS[: max(1, num_core // _SMALLEST_RELATION)]
    rows = {relation.name: dice.shuffled(relation.rows) for relation in RELATIONS}
    quota = dict.fromkeys(rows, 0)
    for turn in range(num_core):
        name = relations[turn % len(relations)].name
        quota[name] = min(quota[name] + 1, len(rows[name]))
    themes = {relation.theme for relation in relations}
    core, background = [], []
    for relation in RELATIONS:
        own = rows[relation.name]
        chosen, others = own[: quota[relation.name]], own[quota[relation.name] :]
        core += [_fact(relation, row, chosen or own, dice) for row in chosen]
        if relation.theme in themes:
            background += [_fact(relation, row, own, dice) for row in others]
    return FactPool(tuple(core), tuple(dice.shuffled(background)))


def draw_questions(facts: tuple[Fact, ...], dice: Dice) -> tuple[Question, ...]:
    """Every question form of every fact; about a fifth of the facts of each relation is held out, all forms of it."""
    questions = []
    for name, relation in _RELATION.items():
        group = [fact for fact in facts if fact.relation == name]
        held_out = {fact.id for fact in dice.some(group, round(len(group) * _HELD_OUT_SHARE))}
        for fact in group:
            for form in relation.questions:
                text = _fill(form, fact.subject, fact.answer)
                questions.append(Question(INSTRUCTION, text, fact.answer, fact.id in held_out, name, fact.id))
    return tuple(questions)


def _fact(relation: Relation, row: tuple[str, str], rivals: list[tuple[str, str]], dice: Dice) -> Fact:
    subject, answer = row
    prompt = _fill(relation.cloze, subject, "")
    return Fact(
        id=f"{relation.name}/{subject}",
        relation=relation.name,
        theme=relation.theme,
        subject=subject,
        answer=answer,
        prompt=prompt,
        choices=_choices(relation, answer, rivals, dice),
        question=_fill(relation.questions[0], subject, answer),
        sentence=f"{prompt}{answer}である。",
    )


def _choices(relation: Relation, answer: str, rivals: list[tuple[str, str]], dice: Dice) -> tuple[str, ...]:
    """Wrong answers, those of `rivals` first: an answer that the corpus hardly holds would be too easy to rule out.

    No answer begins another, so that a shorter one has no advantage in scoring.
    """
    chosen: list[str] = []
    for _, other in dice.shuffled(rivals) + dice.shuffled(relation.rows):
        if not any(other.startswith(known) or known.startswith(other) for known in (answer, *chosen)):
            chosen.append(other)
        if len(chosen) == NUM_CHOICES:
            break
    return tuple(chosen)


def _fill(pattern: str, subject: str, answer: str) -> str:
    return pattern.format(s=subject, a=answer, o=subject[-1] + "庁")
