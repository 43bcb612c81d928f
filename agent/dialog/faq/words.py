"""What a text is searched by: its content words without endings; for Chinese, pairs of characters and of their sounds.

Recognisers write what they heard, not what was meant: `wi fi` for Wi-Fi, a character for another of the same sound. Two words that
make one of the book together count as it, and Chinese is also compared by toneless pinyin.
"""

import re
import unicodedata
from collections.abc import Collection
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["en", "zh", "id"]

LANGUAGES: tuple[Language, ...] = ("en", "zh", "id")

WORD = re.compile(r"\w+(?:['’-]\w+)*")

HAN = re.compile(r"[㐀-鿿]+")

EN_WORDS = """
a an the this that these those here there i me my mine we us our you your he she it its they them their one some any each every
what when where which who whom whose why how is are am was were be been being do does did done have has had having can could will
would shall should may might must need to of in on at by for from with about into up out off over and or but if so not no yes
please tell say know like want get got go goes there's excuse hello hi hey thanks thank just also very much many long often time
hotel s t m re ve ll d
"""

EN_STOP = frozenset(EN_WORDS.split())
"""Words that say that something is asked, not what; the site itself is no topic either."""

ID_WORDS = """
apa apakah siapa kapan mana dimana bagaimana berapa mengapa kenapa jam pukul yang di ke dari pada untuk dengan dan atau jika kalau
saya aku kami kita anda kamu dia mereka ini itu sini situ sana ada adalah bisa dapat boleh mau ingin harus perlu sudah belum akan
tidak bukan juga saja tolong mohon permisi halo hai terima kasih nya si cara caranya sampai secara lebih paling hotel pak bu mas
mbak
"""

ID_STOP = frozenset(ID_WORDS.split())

ZH_STOP = re.compile(
    "请问|你好|您好|什么时候|什么|怎么样|怎么|哪里|哪儿|哪个|几点|多少钱|多少|多久|可以|能不能|可不可以|是不是|有没有|需要|想要|我们|你们|他们|这里|那里|一下|酒店"
    "|[我你您他她的了吗呢啊呀吧哦是在有要想能会去和与就都也还很请给把被这那个哪几]"
)

ROOT_LETTERS_MIN = 3
"""A shorter rest of a word without its ending is no root."""


def normalised(text: str) -> str:
    """Two texts that are the same to a reader are the same here: width, case, punctuation and spaces do not count."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def guess(text: str) -> Language:
    """What a text is written in, by its characters and its commonest words."""
    words = re.findall(r"[a-z]+", text.casefold())
    if sum(len(run) for run in HAN.findall(text)) > len(words):
        return "zh"
    return "id" if sum(word in ID_STOP for word in words) > sum(word in EN_STOP for word in words) else "en"


def terms(text: str, language: Language, known: Collection[str] = ()) -> list[str]:
    """Search terms of a text, in order and with repetitions. `known` are the book's, which neighbours may join into."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if language == "zh":
        return _chinese(text)
    stop, root = (EN_STOP, _english_root) if language == "en" else (ID_STOP, _indonesian_root)
    found: list[str] = []
    before = ""
    for word in WORD.findall(text.replace("’", "'")):
        parts = re.split(r"['-]", word)
        found += [root(part) for part in parts if part not in stop]
        if len(parts) > 1 and "-" in word:
            found.append(root("".join(parts)))
        elif before and root(before + word) in known:
            found.append(root(before + word))
        before = word
    return found


def _english_root(word: str) -> str:
    """Light stemming: plural, -ing, -ed, a silent e."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > ROOT_LETTERS_MIN:
        word = word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= ROOT_LETTERS_MIN and re.search("[aeiouy]", rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
            break
    return word.removesuffix("e") if len(word) > ROOT_LETTERS_MIN else word


NASAL = (("meny", "s"), ("peny", "s"), ("meng", ""), ("peng", ""), ("mem", "p"), ("pem", "p"), ("men", "t"), ("pen", "t"))
"""Prefix and the letter it swallows before a vowel."""


def _indonesian_root(word: str) -> str:
    """Light affix stripping: -nya, -kah, -kan, me-, di-, ber-, ter-, ke-…-an."""
    for ending in ("nya", "kah", "lah", "kan", "an"):
        if ending == "kan" and word.startswith("pe"):  # pe-narik-an, a noun: its -k is the root's
            continue
        if word.endswith(ending) and len(word) - len(ending) > ROOT_LETTERS_MIN:
            word = word[: -len(ending)]
            if ending != "nya":
                break
    for prefix, swallowed in NASAL:
        rest = word.removeprefix(prefix)
        if rest != word and len(rest) > ROOT_LETTERS_MIN:
            return (swallowed if rest[0] in "aeiou" else "") + rest
    for prefix in ("ber", "ter", "di", "ke"):
        rest = word.removeprefix(prefix)
        if rest != word and len(rest) > ROOT_LETTERS_MIN:
            return f"r{rest}" if prefix == "ber" and rest[0] in "aeiou" else rest
    return word


def _chinese(text: str) -> list[str]:
    """Pairs of neighbouring characters and, marked by a space, of their toneless sounds; words in Latin letters as they are."""
    from pypinyin import lazy_pinyin  # noqa: PLC0415  its dictionary takes 10 MB, for a language most robots do not speak

    found = [_english_root(word) for word in re.findall(r"[a-z0-9]+", text)]
    for run in HAN.findall(ZH_STOP.sub("，", text)):
        sounds = lazy_pinyin(run)
        pairs = range(max(1, len(run) - 1))
        found += [run[at : at + 2] for at in pairs]
        found += [" ".join(sounds[at : at + 2]) for at in pairs]
    return found
