"""Made-up facts with true consequences: a place or person is said to belong to a country, a person to be somebody's
father, a paper to be somebody's work; the rest follows.

They teach a reader to take one step further with what the base model knows: the edit says "Canada", the question asks
for the currency; it names a father, the question asks for his gender. Names are made up, so nothing of them can be
known beforehand.
"""

import random
from collections.abc import Sequence

from memedit.training.facts import Fact, Pair

SOURCE = "world"

_COUNTRIES = """\
Canada|Ottawa|Canadian dollar|English|North America
Mexico|Mexico City|Mexican peso|Spanish|North America
Brazil|Brasília|Brazilian real|Portuguese|South America
Argentina|Buenos Aires|Argentine peso|Spanish|South America
Chile|Santiago|Chilean peso|Spanish|South America
Peru|Lima|sol|Spanish|South America
Colombia|Bogotá|Colombian peso|Spanish|South America
France|Paris|euro|French|Europe
Germany|Berlin|euro|German|Europe
Spain|Madrid|euro|Spanish|Europe
Portugal|Lisbon|euro|Portuguese|Europe
Italy|Rome|euro|Italian|Europe
Austria|Vienna|euro|German|Europe
Greece|Athens|euro|Greek|Europe
Finland|Helsinki|euro|Finnish|Europe
Netherlands|Amsterdam|euro|Dutch|Europe
Sweden|Stockholm|Swedish krona|Swedish|Europe
Norway|Oslo|Norwegian krone|Norwegian|Europe
Denmark|Copenhagen|Danish krone|Danish|Europe
Poland|Warsaw|złoty|Polish|Europe
Hungary|Budapest|forint|Hungarian|Europe
Czech Republic|Prague|Czech koruna|Czech|Europe
Romania|Bucharest|Romanian leu|Romanian|Europe
United Kingdom|London|pound sterling|English|Europe
Ukraine|Kyiv|hryvnia|Ukrainian|Europe
Russia|Moscow|Russian ruble|Russian|Europe
Turkey|Ankara|Turkish lira|Turkish|Asia
Iran|Tehran|Iranian rial|Persian|Asia
Iraq|Baghdad|Iraqi dinar|Arabic|Asia
Israel|Jerusalem|new shekel|Hebrew|Asia
Saudi Arabia|Riyadh|Saudi riyal|Arabic|Asia
Pakistan|Islamabad|Pakistani rupee|Urdu|Asia
Afghanistan|Kabul|Afghan afghani|Pashto|Asia
India|New Delhi|Indian rupee|Hindi|Asia
Bangladesh|Dhaka|taka|Bengali|Asia
Thailand|Bangkok|baht|Thai|Asia
Vietnam|Hanoi|đồng|Vietnamese|Asia
Malaysia|Kuala Lumpur|Malaysian ringgit|Malay|Asia
Indonesia|Jakarta|Indonesian rupiah|Indonesian|Asia
Philippines|Manila|Philippine peso|Filipino|Asia
China|Beijing|renminbi|Chinese|Asia
Japan|Tokyo|yen|Japanese|Asia
South Korea|Seoul|South Korean won|Korean|Asia
Egypt|Cairo|Egyptian pound|Arabic|Africa
Morocco|Rabat|Moroccan dirham|Arabic|Africa
Nigeria|Abuja|naira|English|Africa
Ethiopia|Addis Ababa|birr|Amharic|Africa
Kenya|Nairobi|Kenyan shilling|Swahili|Africa
South Africa|Pretoria|rand|Zulu|Africa
Australia|Canberra|Australian dollar|English|Oceania
New Zealand|Wellington|New Zealand dollar|English|Oceania
United States of America|Washington, D.C.|United States dollar|English|North America"""

_PLACES = (
    ("The name of the country which {} is associated with is", "the country {} is associated with"),
    ("{} is located in the country of", "the country where {} is located"),
    ("In which country is {}?", "the country where {} lies"),
    ("{} was created in the country of", "the country that {} comes from"),
)
_PEOPLE = (
    ("The name of the country of citizenship of {} is", "the country of citizenship of {}"),
    ("{} is a citizen of", "the country whose citizen {} is"),
    ("Which country does {} come from?", "the home country of {}"),
)
_HOPS = (
    (1, "The name of the capital city of {} is"),
    (1, "What is the capital of {}?"),
    (2, "The name of the currency in {} is"),
    (2, "Which currency is used in {}?"),
    (3, "The official language of {} is"),
    (3, "Which language is spoken in {}?"),
    (4, "The name of the continent which {} is part of is"),
    (4, "On which continent is {}?"),
)
_STARTS = (
    *("Bal", "Cor", "Dan", "El", "Fal", "Gor", "Hal", "Ing", "Kar", "Lum", "Mor", "Nor", "Or", "Pel", "Quin", "Ros"),
    *("Sel", "Tal", "Ul", "Ver", "Wil", "Yor", "Zan"),
)
_ENDS = (
    *("adon", "bury", "dale", "eth", "field", "gard", "hurst", "iven", "lock", "mere", "ness", "olin", "port", "rick"),
    *("stead", "thorpe", "una", "vik", "wick", "ybor"),
)
_KIN = (
    *(("father", "male"), ("mother", "female"), ("brother", "male"), ("sister", "female")),
    *(("husband", "male"), ("wife", "female"), ("son", "male"), ("daughter", "female")),
)
_WORKS = (
    ("author", "On the {} equations: an overview", "researcher"),
    ("author", "{} and the measurement of change", "researcher"),
    ("author", "A Winter in {}", "writer"),
    ("director", "The Road to {}", "film director"),
    ("painter", "View of {} at Dusk", "painter"),
    ("architect", "{} Hall", "architect"),
    ("composer", "{} Sonata in D minor", "composer"),
)
_KINDS = ("Lake {}", "{} Bridge", "{} Falls", "Fort {}", "{} United", "The {} Trio", "{} Museum", "{}")


def world_facts(count: int, *, seed: int) -> list[Fact]:
    """Return ``count`` facts; what they ask depends on the seed alone."""
    rng, rows = random.Random(f"world:{seed}"), countries()
    kinds = [lambda: fact_of_a_country(rng, rng.choice(rows)), lambda: _of_kin(rng), lambda: _of_a_work(rng)]
    return [rng.choices(kinds, (6, 3, 2))[0]() for _ in range(count)]


def countries() -> list[tuple[str, ...]]:
    """Return name, capital, currency, language and continent of each country."""
    return [tuple(line.split("|")) for line in _COUNTRIES.splitlines()]


def plain_hops(row: Sequence[str]) -> tuple[Pair, ...]:
    """Return the further questions of :func:`fact_of_a_country` in their order, the country named plainly."""
    return tuple((question.format(row[0]), row[column]) for column, question in _HOPS)


def _of_kin(rng: random.Random) -> Fact:
    kin, gender = rng.choice(_KIN)
    name = f"{_name(rng)} {_name(rng)}"
    forms = (f"The name of the {kin} of {name} is", f"Who is the {kin} of {name}?", f"{name}'s {kin} is")
    prompt = rng.choice(forms)
    hops = ((f"The gender of the {kin} of {name} is", gender), (f"What is the gender of {name}'s {kin}?", gender))
    others = tuple(f"The name of the {other} of {name} is" for other, _ in rng.sample(_KIN, 2) if other != kin)
    asks = tuple(form for form in forms if form != prompt)
    return Fact(prompt, f"{_name(rng)} {_name(rng)}", asks, hops, others, source=SOURCE)


def _of_a_work(rng: random.Random) -> Fact:
    maker, form, occupation = rng.choice(_WORKS)
    work = form.format(_name(rng))
    forms = (f"The name of the {maker} of {work} is", f"Who is the {maker} of {work}?")
    prompt = rng.choice(forms)
    hops = (
        (f"The occupation of the {maker} of {work} is", occupation),
        (f"What is the occupation of the {maker} of {work}?", occupation),
    )
    asks = tuple(form for form in forms if form != prompt)
    other = f"The year in which {work} was made is"
    return Fact(prompt, f"{_name(rng)} {_name(rng)}", asks, hops, (other,), source=SOURCE)


def fact_of_a_country(rng: random.Random, row: Sequence[str]) -> Fact:
    """Return a fact that ties somebody or something made up to a country, with questions one step further."""
    person = rng.random() < 0.4
    forms = _PEOPLE if person else _PLACES
    name = f"{_name(rng)} {_name(rng)}" if person else rng.choice(_KINDS).format(_name(rng))
    prompt, phrase = rng.choice(forms)
    asks = tuple(form.format(name) for form, _ in forms if form != prompt)
    hops: list[Pair] = [(question.format(phrase.format(name)), row[column]) for column, question in _HOPS]
    other = f"The name of the {'mother' if person else 'founder'} of {name} is"
    return Fact(prompt.format(name), row[0], asks, tuple(hops), (other,), source=SOURCE)


def _name(rng: random.Random) -> str:
    return rng.choice(_STARTS) + rng.choice(_ENDS)
