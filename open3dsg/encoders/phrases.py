"""What a caption model is asked about a pair, and what it said between the two names: text only.

Prompt and reading follow Open3DSG (Koch et al., CVPR 2024; `sgpn.py`, `blip_predict_relationship`), but for
what is said at `phrase_between`.
"""

from __future__ import annotations

import re

_DETERMINERS = re.compile(r"(?:\s*\b(?:a|an|the|another|other))+\s*$", re.IGNORECASE)
_THE = re.compile(r"\bthe\s+", re.IGNORECASE)


def relation_prompt(subject_label: str, object_label: str) -> str:
    """Ask how one thing relates to another, in the published words; a second of the same name is 'other'."""
    other = "other " if subject_label == object_label else ""
    return (
        f"Describe the relationship between the {subject_label} and the {other}{object_label}. "
        f"Start the response with: the {subject_label}"
    )


def full_caption(subject_label: str, generated: str) -> str:
    """Join the start that `relation_prompt` gave away with the first sentence of what the model wrote.

    As published, it ends before the first '.' or line break; a model that begins with line breaks has said
    something all the same. Control characters, which no text of the store may hold, become spaces.
    """
    said = re.split(r"[.\n]", generated.strip(), maxsplit=1)[0]
    return " ".join(["the", subject_label, *re.sub(r"[\x00-\x1f\x7f]", " ", said).split()])


def phrase_between(caption: str, subject_label: str, object_label: str) -> str | None:
    """Return what `caption` says between the two names, such as 'standing on', or None for nothing.

    As published: from the first mention of the subject to the object, each 'the' left out, and None where one
    of them is missing.
    Otherwise than published: names are taken literally (a published name is a regular expression), in any
    case, as whole words that may have a plural ending ('arm chair' and 'armchair' do not mention an 'arm');
    the phrase ends at the first mention of the object, not at the last, which may belong to another clause;
    a subject that the model says again ('the chair the chair is ...') counts once; an article or 'other' left
    at the end belongs to the object's name; 'the ' inside another word ('bathe ') stays.
    """
    start, end = _mention(subject_label), _mention(object_label)
    # At least one word between: 'the table lamp is on the lamp' of table and lamp says 'lamp is on'. What is
    # said again is not given back (*+): a model that says nothing else would be searched for minutes.
    pattern = rf"{start}(?:\W++(?:the\s+)?{start})*+(?P<phrase>\W*+\w.*?){end}"
    found = re.search(pattern, caption, re.IGNORECASE | re.DOTALL)
    if found is None:
        return None
    phrase = _DETERMINERS.sub("", found["phrase"])
    return _THE.sub("", phrase).strip(" \t\n,;:-") or None


def _mention(label: str) -> str:
    return rf"(?<!\w){re.escape(label)}(?:s|es)?(?!\w)"
