"""Facts about the calendar, numbers, units and places, written for this corpus or computed."""

from __future__ import annotations

import calendar
import itertools
import string
from collections.abc import Iterator

from assets.demo_model.fact import Fact, Pattern, fill

CAPITALS = """France:Paris Germany:Berlin Spain:Madrid Italy:Rome Portugal:Lisbon Austria:Vienna Switzerland:Bern
Poland:Warsaw Sweden:Stockholm Norway:Oslo Denmark:Copenhagen Finland:Helsinki Iceland:Reykjavik Ireland:Dublin
Belgium:Brussels Greece:Athens Hungary:Budapest Romania:Bucharest Bulgaria:Sofia Croatia:Zagreb Serbia:Belgrade
Ukraine:Kyiv Estonia:Tallinn Latvia:Riga Lithuania:Vilnius Slovakia:Bratislava Slovenia:Ljubljana Turkey:Ankara
Japan:Tokyo China:Beijing India:New_Delhi Nepal:Kathmandu Thailand:Bangkok Vietnam:Hanoi Indonesia:Jakarta
Mongolia:Ulaanbaatar Iran:Tehran Iraq:Baghdad Egypt:Cairo Morocco:Rabat Kenya:Nairobi Ghana:Accra Nigeria:Abuja
Ethiopia:Addis_Ababa Senegal:Dakar Canada:Ottawa Mexico:Mexico_City Brazil:Brasilia Argentina:Buenos_Aires
Chile:Santiago Peru:Lima Colombia:Bogota Cuba:Havana Uruguay:Montevideo Australia:Canberra New_Zealand:Wellington"""
ELEMENTS = """Hydrogen:H Helium:He Lithium:Li Beryllium:Be Boron:B Carbon:C Nitrogen:N Oxygen:O Fluorine:F Neon:Ne
Sodium:Na Magnesium:Mg Aluminium:Al Silicon:Si Phosphorus:P Sulfur:S Chlorine:Cl Argon:Ar Potassium:K Calcium:Ca
Scandium:Sc Titanium:Ti Vanadium:V Chromium:Cr Manganese:Mn Iron:Fe Cobalt:Co Nickel:Ni Copper:Cu Zinc:Zn"""
PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
            "twelfth")
UNITS = """seconds:a minute:60 minutes:an hour:60 hours:a day:24 days:a week:7 months:a year:12 days:a leap year:366
weeks:a year:52 years:a decade:10 years:a century:100 years:a millennium:1000 milliseconds:a second:1000
metres:a kilometre:1000 centimetres:a metre:100 millimetres:a metre:1000 millimetres:a centimetre:10
metres:a nautical mile:1852 metres:a mile:1609 inches:a foot:12 feet:a yard:3 feet:a mile:5280
grams:a kilogram:1000 kilograms:a tonne:1000 milligrams:a gram:1000 ounces:a pound:16 millilitres:a litre:1000
bits:a byte:8 bytes:a kibibyte:1024 bytes:a kilobyte:1000 kibibytes:a mebibyte:1024 bits:a nibble:4
degrees:a right angle:90 degrees:a full circle:360 sides:a triangle:3 sides:a square:4 sides:a pentagon:5
sides:a hexagon:6 sides:an octagon:8 players:a football team:11 strings:a violin:4 keys:a piano:88"""

NEXT_MONTH = Pattern(
    "calendar",
    ("Which month comes after {name}?", "What month follows {name}?", "What is the month after {name}?",
     "Which month is next after {name}?", "Month after {name}?",
     "{name} is followed by which month?", "Tell me the month after {name}.", "Which month follows {name}?"),
    "{next} comes after {name}.",
)
MONTH_BEFORE = Pattern(
    "calendar",
    ("Which month comes before {name}?", "What is the month before {name}?", "Which month is just before {name}?",
     "Month before {name}?", "{name} comes after which month?", "Tell me the month before {name}.",
     "What month precedes {name}?", "What month comes before {name}?"),
    "{before} comes before {name}.",
)
MONTH_DAYS = Pattern(
    "calendar",
    ("How many days does {name} have?", "How many days are in {name}?", "How long is {name}?",
     "Number of days in {name}?",
     "Tell me how many days {name} has.", "{name} has how many days?", "How many days are there in {name}?"),
    "{name} has {days} days.{leap}",
)
MONTH_NUMBER = Pattern(
    "calendar",
    ("Which month is number {number}?", "What is the {ordinal} month of the year?", "Name month number {number}.",
     "Which is the {ordinal} month?", "Tell me the {ordinal} month.", "The {ordinal} month is called what?",
     "Which month is the {ordinal} of the year?"),
    "The {ordinal} month of the year is {name}.",
)
NEXT_DAY = Pattern(
    "calendar",
    ("Which day comes after {name}?", "What day follows {name}?", "What is the day after {name}?",
     "If today is {name}, what is tomorrow?", "Day after {name}?", "Tell me the day after {name}.",
     "Which day follows {name}?"),
    "{next} comes after {name}.",
)
DAY_BEFORE = Pattern(
    "calendar",
    ("Which day comes before {name}?", "What is the day before {name}?", "Which day is just before {name}?",
     "If today is {name}, what was yesterday?", "Day before {name}?", "Tell me the day before {name}.",
     "What day comes before {name}?"),
    "{before} comes before {name}.",
)
SUM = Pattern(
    "arithmetic",
    ("What is {a} + {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "{a} + {b} = ?", "How much is {a} + {b}?",
     "Calculate {a} plus {b}.", "How much is {a} plus {b}?"),
    "{a} + {b} = {c}.",
)
DIFFERENCE = Pattern(
    "arithmetic",
    ("What is {a} - {b}?", "What is {a} minus {b}?", "Subtract {b} from {a}.", "{a} - {b} = ?",
     "How much is {a} - {b}?", "Calculate {a} minus {b}.", "How much is {a} minus {b}?"),
    "{a} - {b} = {c}.",
)
PRODUCT = Pattern(
    "arithmetic",
    ("What is {a} * {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.", "{a} * {b} = ?",
     "How much is {a} * {b}?",
     "Calculate {a} times {b}.", "How much is {a} times {b}?"),
    "{a} * {b} = {c}.",
)
UNIT = Pattern(
    "unit",
    ("How many {small} are in {large}?", "How many {small} does {large} have?", "How many {small} make {large}?",
     "Number of {small} in {large}?", "{large} is how many {small}?",
     "Tell me how many {small} are in {large}.", "{large} has how many {small}?",
     "How many {small} are there in {large}?"),
    "There are {count} {small} in {large}.",
)
CAPITAL = Pattern(
    "capital",
    ("What is the capital of {country}?", "What's the capital of {country}?", "Name the capital of {country}.",
     "Which city is the capital of {country}?", "Tell me the capital of {country}.", "{country}'s capital?",
     "Capital of {country}?", "What is the capital city of {country}?"),
    "The capital of {country} is {city}.",
)
COUNTRY = Pattern(
    "capital",
    ("Which country has the capital {city}?", "{city} is the capital of which country?", "Where is {city}?",
     "In which country is {city}?", "{city} is the capital of what?", "Which country is {city} in?"),
    "{city} is the capital of {country}.",
)
PLANET = Pattern(
    "planet",
    ("Which planet is {ordinal} from the sun?", "What is the {ordinal} planet?", "Name the {ordinal} planet.",
     "Which planet is number {number}?", "Tell me the {ordinal} planet.", "Which is the {ordinal} planet?",
     "What is the {ordinal} planet from the sun?"),
    "The {ordinal} planet from the sun is {name}.",
)
SYMBOL = Pattern(
    "element",
    ("What is the chemical symbol of {name}?", "What is the symbol for {name}?", "Which symbol has {name}?",
     "Chemical symbol of {name}?", "Give me the symbol of {name}.", "What is the chemical symbol for {name}?"),
    "The chemical symbol of {name} is {symbol}.",
)
ATOM = Pattern(
    "element",
    ("What is the atomic number of {name}?", "Which atomic number has {name}?", "Atomic number of {name}?",
     "How many protons does {name} have?", "Give me the atomic number of {name}.",
     "How many protons are in an atom of {name}?"),
    "{name} has atomic number {number}.",
)
ROMAN = Pattern(
    "roman",
    ("What is {number} in Roman numerals?", "Write {number} in Roman numerals.", "Roman numeral for {number}?",
     "{number} in Roman numerals?", "Convert {number} to a Roman numeral.", "Which Roman numeral is {number}?",
     "How do I write {number} in Roman numerals?"),
    "{number} in Roman numerals is {roman}.",
)
LETTER = Pattern(
    "alphabet",
    ("Which letter comes after {name}?", "What letter follows {name}?", "What is the letter after {name}?",
     "Next letter after {name}?", "Tell me the letter after {name}.", "{name} is followed by which letter?",
     "Which letter follows {name}?"),
    "The letter after {name} is {next}.",
    keeps_case=True,
)
BINARY = Pattern(
    "binary",
    ("What is {number} in binary?", "Write {number} in binary.", "Convert {number} to binary.", "{number} as binary?",
     "{number} in binary?", "What is the binary form of {number}?", "Tell me {number} in binary.",
     "How do I write {number} in binary?"),
    "{number} in binary is {binary}.",
)


def world_facts() -> list[Fact]:
    """Return the facts about the calendar, numbers, units, capitals, planets and elements."""
    return [*_calendar(), *_numbers(), *_places()]


def roman(number: int) -> str:
    """Return a number from 1 to 39 in Roman numerals."""
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    return "X" * (number // 10) + ones[number % 10]


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split `name:value` words; an underscore stands for a blank."""
    for word in text.split():
        name, value = word.split(":")
        yield name.replace("_", " "), value.replace("_", " ")


def _calendar() -> list[Fact]:
    names = list(calendar.month_name)[1:]
    months = [
        {
            "name": name, "number": i + 1, "ordinal": ORDINALS[i], "next": names[(i + 1) % 12],
     "before": names[i - 1],
            "days": calendar.monthrange(2023, i + 1)[1], "leap": " In a leap year it has 29." if i == 1 else "",
        }
        for i, name in enumerate(names)
    ]  # fmt: skip
    days = list(calendar.day_name)
    week = [{"name": day, "next": days[(i + 1) % 7], "before": days[i - 1]} for i, day in enumerate(days)]
    monthly = [fact for p in (NEXT_MONTH, MONTH_BEFORE, MONTH_DAYS, MONTH_NUMBER) for fact in fill(p, months)]
    return [*monthly, *fill(NEXT_DAY, week), *fill(DAY_BEFORE, week)]


def _numbers() -> list[Fact]:
    small = range(1, 13)
    sums = [{"a": a, "b": b, "c": a + b} for a in small for b in small]
    differences = [{"a": a + b, "b": b, "c": a} for a in range(1, 11) for b in range(1, 11)]
    products = [{"a": a, "b": b, "c": a * b} for a in small for b in small]
    numbers = [{"number": n, "roman": roman(n), "binary": f"{n:b}"} for n in range(1, 33)]
    letters = [{"name": one, "next": two} for one, two in itertools.pairwise(string.ascii_uppercase)]
    arithmetic = [*fill(SUM, sums), *fill(DIFFERENCE, differences), *fill(PRODUCT, products)]
    return [*arithmetic, *fill(ROMAN, numbers), *fill(BINARY, numbers), *fill(LETTER, letters)]


def _places() -> list[Fact]:
    capitals = [{"country": country, "city": city} for country, city in pairs(CAPITALS)]
    planets = [{"name": name, "number": i + 1, "ordinal": ORDINALS[i]} for i, name in enumerate(PLANETS)]
    elements = [{"name": name.lower(), "symbol": symbol, "number": i + 1}
                for i, (name, symbol) in enumerate(pairs(ELEMENTS))]
    return [
        *fill(UNIT, _units()),
        *fill(CAPITAL, capitals),
        *fill(COUNTRY, capitals),
        *fill(PLANET, planets),
        *fill(SYMBOL, elements),
        *fill(ATOM, [{**row, "name": str(row["name"]).capitalize()} for row in elements]),
    ]


def _units() -> Iterator[dict[str, object]]:
    rest = " ".join(UNITS.split())
    while rest:
        small, large, tail = rest.split(":", 2)
        count, _, rest = tail.partition(" ")
        yield {"small": small, "large": large, "count": count}
