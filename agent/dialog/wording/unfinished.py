"""Decides whether words so far end where no sentence ends: after "the", "what time does", a comma. Pure; says False when in doubt.

A wrong True keeps a customer waiting who has finished, so words that can end a question are left out ("Can I check in?"), and so are
short questions that can be all ("How much?"). How it sounds, the end-of-turn model judges better.
"""

import re
import unicodedata

OPEN_MARKS = (",", ";", ":", "-", "–", "—", "...", "…", "，", "、", "；", "：")
"""Marks a recogniser writes where it expects more."""

FILLERS = r"(?:(?:excuse\ me|sorry|hello|hi|hey|please|and|so|okay|well|um|uh|good\ morning|good\ evening|do\ you\ know|tell\ me)\ )*"
ASKING = r"(?:what|where|when|who|why|how|which)"
BE = r"(?:is|are|am|was|were)"
AUXILIARY = r"(?:do|does|did|can|could|will|would|shall|should|may|might|must)"
SUBJECT = r"(?:i|you|we|they|he|she|it|there|this|that)"

THE = r"(?:(?:the|my|your|our|this|that|any)\ )?"
NEEDS_MORE = r"(?:have|get|find|buy|bring|use|make|give|tell|show|put|rent|borrow|send|need|want|sell|take|call)"

ENGLISH = re.compile(
    rf"""
    \b(?:a|an|the|my|your|our|their|every|and|or|but|nor|because|if|unless|until|although|whether|than|um|uh|erm|hmm|very
        |i'm|we're|you're|they're|i'd|we'd|i'll|we'll|i've|we've|(?:have|need|want|going)\ to|(?:there|have|need|sell)\ any)$
    | \b(?<!am\ )i$ | \b(?<!are\ )(?:we|they)$
    | ^(?:(?!\b{ASKING}\b).)*\b(?:of|to|from|with|without|at|about|for|by|into|near|between)$    # but "where are you from"
    | ^{FILLERS}{ASKING}(?:\ \w+){{0,2}}(?<!\ i)(?<!\ you)(?<!\ we)(?<!\ they)(?<!\ he)(?<!\ she)(?<!\ it)
        (?<!\ there)(?<!\ this)(?<!\ that)(?<!\ to)\ (?:{BE}|{AUXILIARY})$                          # "what time is"
    | ^(?!.*\b{ASKING}\b.*\bthere$){FILLERS}(?:{ASKING}(?:\ \w+){{0,2}}\ )?(?:{BE}|{AUXILIARY})\ {SUBJECT}(?<!\ it)(?<!\ this)(?<!\ that)
        (?<!am\ i)(?<!are\ you)(?<!are\ we)(?<!are\ they)$                                          # "where can I"
    | ^{FILLERS}{BE}\ {THE}(?!(?:it|this|that|i|you|we|they|he|she|ok|okay|right|true)$)\w+$         # "is the pool"
    | ^{FILLERS}{AUXILIARY}\ {THE}(?!(?:so|it|this|that|please)$)\w+$                               # "can somebody"
    | ^{FILLERS}(?:(?:where|when|how|why)\ )?{AUXILIARY}\ {THE}\w+\ {NEEDS_MORE}$                   # "do you have"
    | ^{FILLERS}{ASKING}'s$
    | ^{FILLERS}(?:i|we)(?:'d|\ would)?\ (?:want|need|like)$ | ^{FILLERS}(?:i\ am|i'm|we\ are|we're)\ looking(?:\ for)?$
    | ^{FILLERS}(?:tell|show|give|bring)\ (?:me|us)$
    | ^(?:excuse\ me\ )?(?:can|could|would)\ you\ (?:please|tell\ me|show\ me|help\ me\ with)$
    """,
    re.VERBOSE,
)

INDONESIAN = re.compile(
    r"\b(?:yang|di|ke|dari|dengan|untuk|pada|oleh|tentang|dan|atau|tetapi|tapi|karena|jika|kalau|agar|supaya|adalah|akan|sangat|terlalu"
    r"|para|sebuah|seorang|apakah|bisakah|bolehkah|tolong|eh|em|hmm)$"
    r"|\b(?:saya|kami) (?:ingin|mau|butuh|perlu|sedang mencari)$"
    r"|\b(?:apakah|bisa|bisakah|boleh|bolehkah|di mana|bagaimana) (?:saya|kami|anda|ada)$|\bberapa harga$|\bjam berapa saya$"
)

CHINESE = re.compile(
    r"(?:和|跟|与|或者|还是|因为|如果|要是|但是|可是|以及|从|把|被|往|(?<![不现还])在|请问|我想要?|我要|我们想要?|(?:我|你|请问)(?:能不能|可不可以|想知道)|帮我|麻烦你?"
    r"|告诉我|我在找|嗯|呃)$"
)

ENDINGS = {"en": ENGLISH, "id": INDONESIAN, "zh": CHINESE}
"""Where no sentence ends, by language: of text in small letters, without marks, its words one space apart."""


def unfinished(text: str, language: str) -> bool:
    """True where the words of a partial transcript can't be all; of a language nobody knows here, only marks tell."""
    text = unicodedata.normalize("NFKC", text).strip().lower()
    if not text or text.endswith(OPEN_MARKS):
        return bool(text)
    if language not in ENDINGS:
        return False
    words = " ".join(re.sub(r"[^\w' ]+", " ", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split())
    return ENDINGS[language].search(words) is not None
