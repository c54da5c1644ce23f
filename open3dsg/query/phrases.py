"""Phrases such as "the mug on the desk near the window", split into things and how they relate.

A small grammar, no model: a phrase is a thing, then any number of relations, each with the thing it leads to.
Words of relations are those of `_SPATIAL` and `_COMPARISONS`, behind a verb or alone; the longest counts. A
relation is of the thing before it; behind a comma or "and", of the first thing. What it takes a phrase for is
told, and what it cannot read is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open3dsg.db.terms import check_term
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ANYTHING = "*"  # a thing that may be any

_SPATIAL = """
    on top of, in front of, to the left of, to the right of, to the side of, on the left of, on the right of,
    left of, right of, next to, adjacent to, close to, closest to, nearest to, close by, near to, far from,
    inside of, outside of, on, onto, in, inside, within, outside, under, underneath, beneath, below, above,
    over, behind, beside, by, near, against, around, along, opposite, across from, upon, at
"""
_COMPARISONS = """
    bigger than, larger than, smaller than, higher than, taller than, lower than, shorter than,
    more comfortable than, cleaner than, messier than, fuller than, more closed than, more open than,
    same as, the same as, the same type as, part of, belonging to, supported by, covered by, covering,
    connected to, attached to, built into, build in, mounted on, leaning against, hanging from, facing,
    facing away from
"""
_PARTICIPLES = """
    standing, lying, hanging, hung, sitting, leaning, resting, attached, mounted, built, placed, located,
    situated, kept, put, left
"""
_FINITE = "stands, stand, lies, lie, hangs, hang, sits, sit, leans, lean, rests, rest"  # else night stands
_MEANINGLESS = ("located", "situated", "placed", "kept", "put", "left")  # no more than the word behind them
_ADVERBS = "directly, (?<!the )right, just, immediately, also, very"
_WHATEVER = (ANYTHING, "anything", "something", "thing", "things", "object", "objects", "what", "what's")
_REFUSED = {
    **dict.fromkeys(("not", "no", "nothing", "never", "nor", "without", "except"), "what is not so"),
    "or": "one of several",
    "between": "what is between two things",
}
_LEAD = re.compile(
    r"(?:please )?(?:(?:(?:can|could) you )?(?:please )?"
    r"(?:find|show|look for|get|fetch|bring|search for|give)(?: me)? |"
    r"i (?:want|need) |i(?:'m| am) looking for )?"
    r"(?:where(?: is| are|'s)? |(?:is|are) there |what(?: is| are|'s) (?=the |an? ))?",
    re.IGNORECASE,
)
_ARTICLES = re.compile(
    r"(?:(?:the|an?|some|any|my|your|our|this|these|those|all|every|each|which) (?:of )?)+", re.IGNORECASE
)
_DANGLING_AND = re.compile(r"^and\b|\band$", re.IGNORECASE)
_PURPOSE = re.compile(r"\bto \w+ $")  # "something to sit on" relates it to nothing
# Marks as a comma, quotes away, and the apostrophe of typewriters.
_MARKS = str.maketrans(
    {**dict.fromkeys(";()[]\u2013\u2014", ", "), **dict.fromkeys('"\u201c\u201d\u201e', " "), "\u2019": "'"}
)
_MOST_RELATIONS = 4


def _words(listed: str) -> list[str]:
    return [" ".join(words.split()) for words in listed.split(",")]


def _either(words: Iterable[str]) -> str:
    """Return a pattern of any of the words, the longest first."""
    return "|".join(sorted(words, key=len, reverse=True))


def _pattern() -> re.Pattern[str]:
    """Return what finds the next relation in a phrase."""
    finite = _either(_words(_FINITE))
    verb = rf"(?:{_either(_words(_PARTICIPLES))}|(?:(?<=that )|(?<=which ))(?:{finite}))"
    adverb = rf"(?:(?:{_either(_words(_ADVERBS))}) )?"
    clause = r"(?:(?:(?:that|which|who)(?:'s| is| are| was| were)?|it(?:'s| is)|is|are|was|were) )?"
    comparison, spatial = (_either(_words(listed)) for listed in (_COMPARISONS, _SPATIAL))
    return re.compile(
        rf"(?P<join>, and |, | and )?(?<![\w-]){clause}{adverb}"
        rf"(?:(?P<comparison>{comparison})|(?:(?P<verb>{verb}) )?{adverb}(?P<spatial>{spatial}))(?![\w-])",
        re.IGNORECASE,
    )


_RELATION = _pattern()


@dataclass(frozen=True)
class Reading:
    """A phrase as it was read: things, and triplets (subject, predicate, object) of places among them.

    The first thing is what is looked for; a thing may be `ANYTHING`. `remarks` are what could be read
    otherwise, and what was left out.
    """

    things: tuple[str, ...]
    triplets: tuple[tuple[int, str, int], ...]
    remarks: tuple[str, ...] = ()

    def told(self) -> str:
        """Return the reading in one line: `mug -on-> desk; desk -near-> window`."""
        if not self.triplets:
            return self.things[0]
        return "; ".join(
            f"{self.things[subject]} -{relation}-> {self.things[object_]}"
            for subject, relation, object_ in self.triplets
        )


def read_phrase(phrase: str) -> Reading:
    """Split a phrase into things and relations; of a thing alone there are no relations.

    Raises UserError, naming the words, for negation, alternatives and "between", for a relation without a
    thing on either side, for more than four relations, and for more than 500 characters.
    """
    marked = re.sub(r" *,(?!\d)", ", ", check_term(phrase, "the phrase").translate(_MARKS))
    text, remarks = _without_lead(" ".join(marked.split()).strip(" ,.?!"))
    if not text:
        raise UserError("the phrase is empty: ask for something, such as 'the mug on the desk'")
    _refuse_words(phrase, text)
    found = _relations(text)
    if len(found) > _MOST_RELATIONS:
        raise UserError(f"{phrase!r} has {len(found)} relations; at most {_MOST_RELATIONS} are read")
    things = _things(phrase, text, found)
    triplets = []
    for place, match in enumerate(found):
        is_of_first = bool(match["join"])
        triplets.append((0 if is_of_first else place, _said(match), place + 1))
        if place > 0 and not is_of_first:
            behind = f"{_said(match)} {things[place + 1]}"
            remarks.append(
                f"{behind!r} is read as of {things[place]!r}: put a comma before it if it is of {things[0]!r}"
            )
    remarks += [f"{thing!r} is read as one thing" for thing in things if " and " in thing.lower()]
    return Reading(things, tuple(triplets), tuple(remarks))


def _without_lead(text: str) -> tuple[str, list[str]]:
    lead = _LEAD.match(text)
    if not lead or not lead[0]:
        return text, []
    return text[lead.end() :], [f"{lead[0].strip()!r} is left out"]


def _refuse_words(phrase: str, text: str) -> None:
    for word in re.findall(r"[\w'-]+", text.lower()):
        why = _REFUSED["not"] if word.endswith("n't") else _REFUSED.get(word)
        if why is not None:
            raise UserError(f"{phrase!r}: {word!r} says {why}, which cannot be asked: leave it out")


def _relations(text: str) -> list[re.Match[str]]:
    """Return the relations, without those that end a purpose and so have no second thing: to sit on."""
    found = list(_RELATION.finditer(text))
    ends = [0, *(match.end() for match in found)]
    starts = [*(match.start() for match in found), len(text)]
    return [
        match
        for place, match in enumerate(found)
        if text[match.end() : starts[place + 1]].strip()
        or not _PURPOSE.search(text[ends[place] : match.start()])
    ]


def _things(phrase: str, text: str, found: Sequence[re.Match[str]]) -> tuple[str, ...]:
    """Return what stands before, between and behind the relations; UserError where nothing does."""
    starts = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(text)]
    things = tuple(_thing(text[start:end]) for start, end in zip(starts, ends, strict=True))
    if all(things):
        return things
    missing = things.index("")
    if not found:
        raise UserError(f"{phrase!r} names no thing: ask for something, such as 'the mug on the desk'")
    side = f"behind {_said(found[missing - 1])!r}" if missing else f"before {_said(found[0])!r}"
    raise UserError(f"{phrase!r}: there is no thing {side}")


def _thing(text: str) -> str:
    """Return a thing without its article and the marks around it; `ANYTHING` of words that mean that."""
    text = _DANGLING_AND.sub("", text.strip(" ,'")).strip(" ,'")
    articles = _ARTICLES.match(text + " ")
    bare = text if articles is None else text[articles.end() :].strip()
    return ANYTHING if bare.lower() in _WHATEVER else bare


def _said(match: re.Match[str]) -> str:
    """Return the words of a relation in lower case, without adverbs and verbs that say nothing."""
    if match["comparison"]:
        return match["comparison"].lower()
    verb = (match["verb"] or "").lower()
    where = match["spatial"].lower()
    return where if verb in _MEANINGLESS else f"{verb} {where}".strip()
