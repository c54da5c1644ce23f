"""Text that XML can hold."""

from __future__ import annotations

import re

# XML 1.0, section 2.2: control characters and lone surrogates are no characters, not even escaped.
_NONE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Return `text` with what no XML can hold replaced by U+FFFD; escaping is the writer's."""
    return _NONE.sub("\N{REPLACEMENT CHARACTER}", text)
