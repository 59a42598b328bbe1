"""Penn Treebank tokens of captions, as the Stanford tokenizer of pycocoevalcap.

A Python twin of CoreNLP 3.4.1's ``PTBTokenizer -preserveLines -lowerCase`` for texts
like captions, so that caption scores need no Java. As in the original's lexer the
longest match at a place wins, and the earlier pattern among equals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

#: Tokens that pycocoevalcap removes. Brackets stay: with ``-lowerCase`` they read
#: ``-lrb-``, which this list, in capitals, misses.
PUNCTUATION = frozenset(
    "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split(" ")
)

_APOS = "['\u2019\u0092]"
_LETTER = r"[^\W\d_]"
_ALNUM = r"\w"
_NOT_LAST = r"[^\s\"<>|.!?(){},-]"
_PATH = rf"(?:/[^\s\"<>|()]+{_NOT_LAST})?"
_SHORT = (
    "mr|mrs|ms|dr|drs|prof|sr|jr|st|ste|ave|blvd|rd|mt|ft|vs|etc|inc|co|cos|corp|ltd"
    "|bros|gen|col|sgt|capt|lt|maj|gov|sen|rep|rev|hon|pres|messrs|jan|feb|mar|apr|jun"
    "|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|thurs|fri|dept|est|fig|al|cf"
    "|ph\\.d|assn|adm|bldg|calif|cent|dist|div|esq|ext|invt|pp|prop|seq|univ|vol|v|ed"
)
_SPLIT_WORDS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
# How currency signs and typographic marks are written.
_WRITTEN = {
    **dict.fromkeys("\u2013\u2014\u2015\u0096\u0097", "--"),
    **{"\u2026": "...", "\u20ac": "$", "\u0080": "$", "\u00a3": "#"},
    **{"\u00a2": "cents", "&amp;": "&"},
}
_BRACKETS = dict(
    zip("()[]{}", "-lrb- -rrb- -lsb- -rsb- -lcb- -rcb-".split(), strict=True)
)
_QUOTES = "\"'`\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u2039\u203a\u00ab\u00bb\u0092"

# A verb ends before its "n't", wherever longer words would.
_BEFORE_NOT = re.compile(rf"{_LETTER}+?(?=n{_APOS}t)", re.IGNORECASE)
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Marks of the web.
        r"<[!?]?/?[a-z][a-z0-9]*(?: [^<>\n]*)?/?>",
        rf"(?:https?|ftp)://[^\s\"<>|()]+{_NOT_LAST}",
        rf"www\.(?:[^\s\"<>|.!?(){{}},]+\.)+[a-z]{{2,4}}{_PATH}",
        rf"(?:[^\s\"`'<>|.!?(){{}},_$-]+\.)+(?:com|net|org|edu){_PATH}",
        r"[a-z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}\[\].,;:]+",
        r"[@#][a-z][a-z0-9_]*",
        r"[<>]?[:;=8xX][-o*']?[()DPdpO\\{@|\[\]](?![a-z0-9])",
        # Words; clitics end one.
        r"(?:cannot|gonna|gotta|lemme|gimme|wanna|'tis|'twas)(?![\w'-])",
        rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*",
        rf"(?:[dol]{_APOS}{_ALNUM})?{_ALNUM}+(?:-(?:[dol]{_APOS})?{_ALNUM}+)*",
        r"[a-z0-9]+(?:-[a-z]+){0,2}(?:/[a-z0-9]+(?:-[a-z]+){0,2}){1,2}",
        r"(?-i:[A-Z]+(?:[+&][A-Z]+)+)|c\+\+|[cf]#",
        rf"{_APOS}(?:[msd]|re|ve|ll)(?!{_LETTER})|n{_APOS}t\w*",
        rf"{_APOS}n(?:{_APOS}|(?!{_ALNUM}))|{_APOS}(?:em|till?|cause)(?!{_ALNUM})",
        rf"{_APOS}[2-9]0s|y{_APOS}(?={_LETTER})|ol{_APOS}|[ld]{_APOS}(?={_LETTER})",
        rf"{_LETTER}+[aeiouy]{_APOS}[aeiou]{_LETTER}*|li{_APOS}l|nor{_APOS}easter",
        rf"(?:ma{_APOS}am|o{_APOS}clock|c{_APOS}mon|s{_APOS}mores|e{_APOS}er)",
        # Numbers, dates, fractions and abbreviations.
        r"[-+]?\d*(?:[.:,]\d+)+|[-+]\d+",
        r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}|\d{1,2}/\d{1,2}/\d{2,4}",
        rf"(?:{_SHORT})\.",
        r"(?:[a-z]\.)(?:[a-z]\.)+|nos?\.(?=\s?\d|[:;,]|$)|[a-z]\.(?=\s|$)",
        # Marks.
        r"\.{3}|[?!]+|--+|&amp;|-[lr][rsc]b-",
        r"[^\s]",
    )
]


@lru_cache(maxsize=1 << 16)
def tokenize(text: str) -> str:
    """Return the tokens of a caption in lower case, punctuation left out.

    Line ends of any kind are blanks.

    Returns:
        str: tokens joined by blanks.

    Example:
        >>> tokenize("A cat's paw, on (one) keyboard.")
        "a cat 's paw on -lrb- one -rrb- keyboard"
    """
    place, tokens = 0, []
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        if verb := _BEFORE_NOT.match(text, place):
            found = verb.group()
        else:
            matches = (p.match(text, place) for p in _PATTERNS)
            found = max((m.group() for m in matches if m), key=len)
        place += len(found)
        tokens.extend(_write(found))
    return " ".join(token for token in tokens if token not in PUNCTUATION)


def _write(token: str) -> Sequence[str]:
    """Return a match as the tokenizer prints it, in lower case."""
    token = token.lower().replace("\u2019", "'").replace("\u0092", "'")
    if token in _QUOTES or token.startswith("--"):
        return ()
    if token in _SPLIT_WORDS:
        return _SPLIT_WORDS[token]
    token = _WRITTEN.get(token, token).replace(" ", "\u00a0")
    return ("".join(_BRACKETS.get(letter, letter) for letter in token),)


def tokenize_all(texts: Sequence[str]) -> list[str]:
    """Tokenize captions, see :func:`tokenize`."""
    return [tokenize(text) for text in texts]
