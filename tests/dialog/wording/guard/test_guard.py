"""What must not be said does not get out, whole or in pieces, plain or disguised; what may be said does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.guard import Guard
from agent.dialog.wording.guard.folding import fold
from agent.dialog.wording.lists import Language, read

GUARDS: dict[Language, Guard] = {language: Guard(language, ("rivalhotel", "Rival Hotel", "竞争酒店")) for language in ("en", "zh", "id")}

SECRETS = [
    ("en", "fuck", "word"),
    ("en", "son of a bitch", "word"),
    ("en", "rivalhotel", "word"),
    ("en", "john.doe@example.com", "email"),
    ("en", "+1 415 555 2671", "phone"),
    ("en", "(415) 555-2671", "phone"),
    ("en", "4111 1111 1111 1111", "card"),
    ("en", "GB29 NWBK 6016 1331 9268 19", "iban"),
    ("en", "0812, 3456, 7890", "phone"),
    ("en", "+62, 812, 3456, 7890", "phone"),
    ("en", "4111, 1111, 1111, 1111", "card"),
    ("en", "415–555–2671", "phone"),
    ("en", "138, 1234-5678", "phone"),
    ("en", "4 1 5, 5 5 5, 2 6 7 1", "phone"),
    ("en", "zero eight one two three four five six seven eight nine zero", "phone"),
    ("en", "oh eight one two, three four five six, seven eight nine oh", "phone"),
    ("en", "john at gmail.com", "email"),
    ("en", "john dot smith at gmail dot com", "email"),
    ("zh", "傻逼", "word"),
    ("zh", "竞争酒店", "word"),
    ("zh", "13812345678", "phone"),
    ("zh", "一三八一二三四五六七八", "phone"),
    ("zh", "一三八，一二三四，五六七八", "phone"),
    ("zh", "138、1234、5678", "phone"),
    ("zh", "138_1234_5678", "phone"),
    ("zh", "138·1234·5678", "phone"),
    ("zh", "11010519491231002X", "identity"),
    ("id", "bangsat", "word"),
    ("id", "0812-3456-7890", "phone"),
    ("id", "+62 812 3456 7890", "phone"),
    ("id", "nol delapan satu dua tiga empat lima enam tujuh delapan sembilan nol", "phone"),
    ("id", "kosong delapan satu dua tiga empat lima enam tujuh delapan sembilan kosong", "phone"),
    ("id", "3171234506900123", "identity"),
]

AROUND: dict[str, tuple[str, str]] = {"en": ("Well, that is ", ", I think."), "zh": ("这是", "，好吗？"), "id": ("Ini ", " ya.")}


@pytest.mark.parametrize(("language", "secret", "kind"), SECRETS)
def test_each_kind_is_found_and_told_by_its_place_only(language: Language, secret: str, kind: str) -> None:
    before, after = AROUND[language]
    kept, findings = GUARDS[language].redact(before + secret + after, "kept")
    assert kept == f"{before}[{kind}]{after}"
    assert [(one.kind, one.start, one.end) for one in findings] == [(kind, len(before), len(before + secret))]
    spoken, _ = GUARDS[language].redact(before + secret + after, "spoken")
    assert spoken == before + read("guard", language)["instead"][kind] + after


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Scunthorpe, Dickens, a cocktail, a shiitake and the assassin's class."),
        ("en", "It is 6:30-10:00 on 5/12/2026, room 415, $20, 1,000,000 people, years 2025 2026 2027, 2026-11-27."),
        ("en", "The password is bluewave24. I'm O.K., e.g. a b c."),
        ("en", "meet me @ noon, a@b"),
        ("zh", "早餐每天早上六点半到十点在二楼花园餐厅供应，每人30元，傻。逼近了。"),
        ("id", "Sarapan pukul 6.30 sampai 10.00, Rp 200.000 atau 10.000.000 rupiah."),
        ("id", "Nomor pesanan 3171231313900123."),
        ("en", "Rival's hotel, rivalhotels, rivalhotel'sx and shitake's, kontolmu."),
        ("id", "Pakainya begitulah, taimu."),
        ("en", "Look at booking.com, at gmail they work, or meet me at ten."),
        ("en", "It costs 1,250,000 or $1,250.00 or $2,125,551,234 or 850, 1,250, 3,500 in all; at 7, 8, 9 or 10."),
        ("en", "Rooms 101, 102 and 103; 812, 813, 814; 2021, 2022, 2023, 2024, 2025; floors 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11."),
        ("en", "Rooms 4021, 4115, 4220, 4330; the bus leaves at 815, 915, 1015, 1115."),
        ("en", "On 28/12/2026, 20 people; 13-12-2026, 100 guests; open 8-12, 13-17, 18-22; at 8, 9, 10, 11, 12, 1."),
        ("en", "One of two, from nine to five, seven, eight, nine or ten, one two three."),
        ("en", "$10,081,234,567 and $4,081,234,567,890 in all."),
        ("en", "Prices of 210, 305, 412, 118, 227 dollars."),
        ("zh", "周一、三、五，101、102、103、104房间。"),
        ("id", "Pukul 8.30, 9.15, 10.45. Rp 850.000, Rp 850.000.000."),
    ],
)
def test_what_is_harmless_stays_as_it_is(language: Language, text: str) -> None:
    assert GUARDS[language].redact(text, "kept") == (text, ())


@pytest.mark.parametrize(
    ("language", "text", "kept"),
    [
        ("en", "f u c k you", "[word] you"),
        ("en", "F.U.C.K you", "[word] you"),
        ("en", "a fu\u200bck", "a [word]"),
        ("en", "ｆｕｃｋ and fúck and fuсk", "[word] and [word] and [word]"),
        ("en", "fu-ck off", "[word] off"),
        ("en", "+１ (４１５) 555\u200b2671!", "[phone]!"),
        ("zh", "你这个傻 * 逼", "你这个[word]"),
        ("en", "fuck, 4155552671", "[word], [phone]"),
        ("en", "0812 3456 7890, 7 pm", "[phone], 7 pm"),
        ("en", "RivalHotel's pool, Rival Hotel’s", "[word]'s pool, [word]’s"),
        ("en", "Rivalʼhotel`s, RIVALHOTEL'S.", "[word]`s, [word]'S."),
        ("en", "Rival Hotel'\u200bs\u200b pool", "[word]'\u200bs\u200b pool"),
        ("en", "f'uck", "[word]"),
        ("id", "kontolmu, memeknya ngentotlah! Rival Hotelnya", "[word], [word] [word]! [word]"),
        ("zh", "他媽的，王八蛋，賤人", "[word]，[word]，[word]"),
        ("en", "nine eight, 0812, 3456, 7890", "[phone]"),
        ("en", "zero eight one two thr\u200bee four five six seven eight nine o\u200bh", "[phone]"),
    ],
)
def test_disguises_are_seen_through(language: Language, text: str, kept: str) -> None:
    assert GUARDS[language].redact(text, "kept")[0] == kept


def test_the_sites_own_numbers_and_addresses_are_no_secret() -> None:
    entry = "Call +62 21 555 0100 or 1800 555 010, or write to desk@harbor.example."
    guard = Guard("en", (), (entry,))
    assert guard.redact(entry, "spoken") == (entry, ())
    assert guard.redact("Not +62 21 555 0101.", "kept")[0] == "Not [phone]."
    listed = Guard("en", (), ("Call 4155552671, 4155552672 or write to harbor@gmail.com from room 415, please.",))
    assert listed.redact("415-555-2672; harbor at gmail dot com", "kept")[1] == ()
    assert listed.redact("415, 555, 2673", "kept")[0] == "[phone]"
    assert Guard("en").redact(entry, "kept")[0] == "Call [phone] or 1800 555 010, or write to [email]."


def test_a_number_does_not_wait_for_the_sentence_behind_it() -> None:
    stream = GUARDS["id"].stream("kept")
    number = "\u200b".join("nol delapan satu dua tiga empat lima enam tujuh delapan sembilan nol")
    assert stream.add(number + "。no") == "[phone]"
    assert stream.add("\u200bl" + number[5:]) + stream.finish() == "。[phone]"


def test_an_owner_is_held_until_it_is_known() -> None:
    for text in ("the rivalhotel'", "the rivalhotel's", "the Rival Hotel'", "the Rival Hotel's\u200b"):
        stream = GUARDS["en"].stream("kept")
        assert stream.add(text) == "the "
        assert stream.add("x") + stream.finish() == text[4:] + "x"


def test_digits_without_an_end_are_a_number_and_are_not_held_for_ever() -> None:
    stream = GUARDS["en"].stream("kept")
    out = stream.add("7" * 2000)
    assert len(out) > 10
    assert set(out + stream.finish()) <= set("[number]" + "[card]" + "7")
    assert (out + stream.finish()).count("7") < 256


def test_what_is_clean_goes_on_at_once() -> None:
    stream = GUARDS["en"].stream("spoken")
    assert stream.add("The answer is clear. He is the son") == "The answer is clear. He is "
    assert stream.add(" of a") == "the "
    assert stream.add(" friend. And") == "son of a friend."
    assert stream.finish() == " And"


PIECES = st.sampled_from(
    [secret for _, secret, _ in SECRETS]
    + [
        "hello",
        " ",
        ", ",
        "room 415",
        "7",
        "-",
        "+",
        "@",
        ".",
        "son of a ",
        "傻",
        "逼",
        "早餐",
        "六点半",
        "f",
        "u c k",
        "x",
        "\u200b",
        "GB29 ",
        "。",
        "de",
        "a@b.",
        "、",
        "，",
        "–",
        "three",
        "thr",
        "oh ",
        "nol ",
        "0812",
        "3456, ",
        " at ",
        " at gmail",
        " dot ",
        ".com",
        "1,250,000",
        "Rival ",
        "Hotel",
        "'",
        "’s",
        "'s ",
        "s",
        "nya",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.integers(1, 9), st.sampled_from(["en", "zh", "id"]))
def test_however_it_is_cut_the_same_comes_out(text: str, size: int, language: Language) -> None:
    stream = GUARDS[language].stream("kept")
    out = "".join(stream.add(text[at : at + size]) for at in range(0, len(text), size)) + stream.finish()
    assert (out, stream.findings) == GUARDS[language].redact(text, "kept")


def disguised(secret: str, way: int) -> str:
    if way == 1:
        return "\u200b".join(secret)
    if way == 2:
        return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in secret)
    return secret.upper() if way == 3 else secret


@given(
    st.lists(
        st.tuples(st.sampled_from(SECRETS), st.integers(0, 3), st.sampled_from([" and ", ", well ", "。", "\n"])), min_size=1, max_size=4
    ),
    st.integers(1, 30),
)
def test_no_secret_gets_out_in_any_disguise_or_cut(told: list[tuple[tuple[str, str, str], int, str]], size: int) -> None:
    guard = Guard("en", [word for (_, word, kind), _, _ in told if kind == "word"])
    text = "".join(between + disguised(secret, way) for (_, secret, _), way, between in told)
    stream = guard.stream("kept")
    out = "".join(stream.add(text[at : at + size]) for at in range(0, len(text), size)) + stream.finish()
    assert len(stream.findings) == len(told)
    assert not [secret for (_, secret, _), _, _ in told if fold(secret).text in fold(out).text]
    assert guard.redact(out, "kept") == (out, ())
