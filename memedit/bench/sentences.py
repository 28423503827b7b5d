"""Sentences for benchmarks: invented people, places, works and companies in the wordings in which edits are written."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedit.errors import InputError

IntArray = NDArray[np.int64]

_GIVEN = """
Aaron Ada Adrian Agnes Ahmed Aiko Alan Alba Alejandra Alice Amara Amir Ana Anders Andrea Anja Anton Aoife Arjun Astrid
Aylin Beatrice Benedikt Bianca Bogdan Bruno Camille Carlos Cecilia Chiara Chidi Claire Clara Cormac Dalia Damien
Daniela Daria David Deepa Diego Dmitri Dorothea Eduardo Eleni Elif Elsa Emil Emma Enzo Erik Esther Ewa Fatima Felix
Fiona Francis Freya Gabriel Gemma George Greta Guido Hana Harald Hassan Helena Henrik Hiroshi Hugo Ibrahim Ida Igor
Ines Ingrid Irina Isaac Ivana Jacob Jana Javier Jelena Joana Johan Jonas Jorge Josef Julia Kaori Karim Katarina Kenji
Kofi Kwame Lars Laura Leila Leon Lina Lorenzo Lucia Ludwig Magnus Malik Marek Margot Maria Marta Mateo Maya Mehmet Mei
Mikhail Milan Mina Mohammed Nadia Naomi Natalia Nikolai Nils Noor Olga Oliver Omar Oscar Otto Paolo Paula Pedro Petra
Pierre Priya Rafael Rania Ravi Renata Robert Rosa Ruth Samir Sandra Sara Sergei Silvia Simon Sofia Stefan Sunita Tariq
Teresa Thandi Theo Tomas Ursula Valeria Vera Victor Viktoria Walter Wei Wilhelm Xenia Yasmin Yuki Yusuf Zara Zoltan
"""
_FAMILY = """
Abernathy Achterberg Adeyemi Aguilar Almeida Andersen Arslan Ashworth Bakker Baptiste Barros Becker Bellamy Bergstrom
Bianchi Blackwood Bondarenko Borges Brennan Bryce Calloway Cardoso Castellano Chandra Chaudhry Christensen Conti
Cortez Cunningham Dahl Danso Delacroix Demir Devereux Dimitrov Dlamini Donnelly Duarte Eberhardt Eklund Ellsworth
Escobar Fairchild Farouk Ferrari Fitzgerald Fontaine Fujimoto Galvan Garrido Gauthier Giordano Goldberg Grabowski
Greenfield Gupta Haddad Halvorsen Hartmann Hashimoto Hawthorne Hernandez Hofmann Horvath Hussein Ibarra Iglesias
Ivanov Iyer Jablonski Jansen Jimenez Johansson Kaminski Karlsson Kavanagh Keller Khalil Kimura Kovacs Kowalczyk Kruger
Laurent Leclerc Lindgren Lombardi MacLeod Magnusson Maier Mancini Marchetti Martinez Mbeki McAllister Mendoza Mitchell
Moreau Morozov Mukherjee Nakamura Navarro Nielsen Novak Nwosu Obrecht Okafor Olsen Ortega Osborne Ozturk Pacheco
Papadopoulos Park Patel Pereira Petrov Pham Pinter Quigley Radcliffe Rahman Ramirez Rasmussen Reinhardt Ricci Rojas
Romano Rousseau Sadler Salazar Sato Schneider Sharma Sinclair Sokolov Sorensen Stavros Steiner Suzuki Szabo Takahashi
Tanaka Thibault Thornton Torres Tremblay Ueda Underwood Valentine Vargas Vasquez Virtanen Vogel Wagner Wallace
Whitaker Wozniak Yamamoto Yilmaz Zhang Zielinski
"""
_PLACE_HEAD = """
Alder Amber Ash Barrow Bel Birch Black Bram Bright Brook Cald Carn Castel Cedar Clay Cold Corn Dal Dun Eagle East Elm
Fair Fal Fern Glen Gold Gran Green Grim Hal Har Haven Hazel High Holm Iron Kel Kings Lang Lark Linden Lock Long Mar
Mill Mon Moor Nord North Oak Old Pem Pine Port Queens Raven Red Ring Rock Rose Rush Saint Sal Sand Silver South Spring
Star Stone Strath Sun Thorn Tor Val Wal Water West White Wil Wind Winter Wood Wolf York
"""
_PLACE_TAIL = """
beck berg borough bourne bridge bury by castle cester cliff combe cot dale den don field fjord ford gate grove ham
haven heim hill holt hurst kirk land leigh ley lund mere minster moor mouth ness port ridge sea shire side stad stead
stoke ston stow thorpe ton vale vik ville wald well wich wick wood worth
"""
_WORK_HEAD = """
Ancient Blue Broken Burning Crimson Distant Empty Endless Eternal Fading Final First Forgotten Frozen Gentle Ghostly
Golden Hidden Hollow Invisible Last Little Lonely Lost Midnight Naked Painted Pale Perfect Quiet Restless Sacred
Scarlet Second Secret Shattered Silent Sleeping Stolen Strange Sudden Twisted Velvet Wandering Wild Winter Wounded
Yellow
"""
_WORK_TAIL = """
Anthem Archipelago Ballad Bells Bride Bridge Carnival Cathedral Chamber Children City Clock Crown Dance Daughter Dawn
Desert Dream Empire Engine Farewell Feast Fire Forest Garden Gate Harbor Heart Highway Horizon Hour House Island
Journey Kingdom Lantern Letter Lighthouse Machine Map Mirror Mountain Ocean Orchard Orchestra Palace Parade Promise
River Road Room Sea Season Shadow Ship Sky Song Stars Station Stranger Summer Theatre Tide Tower Train Valley Violin
Voyage Window
"""

_PERSON = (
    ("The mother tongue of {} is", "What is the native language of {}?"),
    ("{} was born in the city of", "Where was {} born?"),
    ("{} died in", "In which city did {} die?"),
    ("The occupation of {} is", "What does {} do for a living?"),
    ("{} is a citizen of", "What is the country of citizenship of {}?"),
    ("{} plays the", "Which instrument does {} play?"),
    ("{} is employed by", "Who is the employer of {}?"),
    ("The spouse of {} is", "Who is {} married to?"),
    ("The alma mater of {} is", "At which university did {} study?"),
    ("{} plays for the team", "Which sports team is {} a member of?"),
    ("The religion of {} is", "Which religion does {} follow?"),
    ("{} works in the field of", "What is {}'s field of work?"),
    ("The father of {} is", "Who is the male parent of {}?"),
    ("{} received the award", "Which prize did {} win?"),
    ("{} is affiliated with the political party", "What party does {} belong to?"),
    ("The position that {} plays is", "In which position does {} play?"),
)
_PLACE = (
    ("The capital of {} is", "What is the capital city of {}?"),
    ("{} is located in the country of", "In which country is {}?"),
    ("The twin city of {} is", "Which town is twinned with {}?"),
    ("The mayor of {} is", "Who is the head of government of {}?"),
    ("The official language of {} is", "Which language is official in {}?"),
    ("{} lies on the continent of", "On what continent can {} be found?"),
    ("The river that flows through {} is", "Which body of water is next to {}?"),
    ("{} was founded in the year", "When was {} established?"),
    ("The population of {} is", "How many people live in {}?"),
    ("{} belongs to the historic county of", "In which historic county is {} situated?"),
)
_WORK = (
    ("{} was written by", "Who is the author of {}?"),
    ("The director of {} is", "Who directed {}?"),
    ("{} premiered on the network", "Which channel first aired {}?"),
    ("The original language of {} is", "In what language was {} originally made?"),
    ("The main character of {} is", "Who is the protagonist of {}?"),
    ("{} was published by", "What is the publisher of {}?"),
    ("The genre of {} is", "What kind of work is {}?"),
    ("The composer of {} is", "Who wrote the music of {}?"),
)
_COMPANY = (
    ("The headquarters of {} are in", "In which city is {} based?"),
    ("The chief executive of {} is", "Who runs {}?"),
    ("{} was founded by", "Who was the founder of {}?"),
    ("{} is a subsidiary of", "What is the parent company of {}?"),
    ("The main product of {} is", "What does {} manufacture?"),
    ("{} operates in the industry of", "Which industry is {} active in?"),
)
_COMPANY_KINDS = "Motors Airlines Systems Records Pharma Bank Foods Shipping Software Studios Insurance Steel"


_INITIALS = ("", *(f"{letter}. " for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """``prompt`` as an edit would state it, ``question`` asking the same in other words."""

    prompt: str
    question: str


@dataclass(frozen=True, slots=True)
class _Group:
    """A kind of subject: every combination of head, middle and tail is a name."""

    heads: tuple[str, ...]
    middles: tuple[str, ...]
    tails: tuple[str, ...]
    pattern: str
    wordings: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        return len(self.heads) * len(self.middles) * len(self.tails) * len(self.wordings)


def factor_sizes() -> tuple[int, int, int, int]:
    """What sentences are made of: numbers of relations, first parts and last parts of names, and middle initials."""
    groups = _groups()
    return (
        sum(len(group.wordings) for group in groups),
        sum(len(group.heads) for group in groups),
        sum(len(group.tails) for group in groups),
        len(_INITIALS),
    )


def draw(n: int, seed: int = 0) -> IntArray:
    """Draw ``n`` distinct sentences as numbers ``[n, 2]``: group, and which of its combinations.

    Groups are drawn in proportion to their relations as far as they reach; the rest are people, of whom there are
    nearly twelve million (name, relation) pairs. The same seed gives the same draw.

    Raises:
        InputError: more are asked for than there are.
    """
    groups = _groups()
    sizes = np.array([group.size for group in groups])
    if not 0 < n <= sizes.sum() // 2:
        raise InputError(f"{n} sentences asked for; give 1..{sizes.sum() // 2}")
    rng = np.random.default_rng(seed)
    weights = np.array([len(group.wordings) for group in groups])
    quota = np.minimum((n * weights / weights.sum()).astype(int), sizes // 2)
    quota[0] += n - quota.sum()
    rows = [np.stack([np.full(q, g), rng.choice(sizes[g], size=q, replace=False)], axis=1) for g, q in enumerate(quota)]
    drawn = np.concatenate(rows).astype(np.int64)
    rng.shuffle(drawn)
    return drawn


def factors_of(drawn: IntArray) -> IntArray:
    """Factors ``[n, 4]`` of sentences drawn as ``[n, 2]`` (see :func:`factor_sizes`)."""
    factors = np.empty((len(drawn), 4), dtype=np.int64)
    offset = np.zeros(4, dtype=np.int64)
    for number, group in enumerate(_groups()):
        rows = drawn[:, 0] == number
        rest, relation = np.divmod(drawn[rows, 1], len(group.wordings))
        rest, middle = np.divmod(rest, len(group.middles))
        head, tail = np.divmod(rest, len(group.tails))
        factors[rows] = np.stack([relation, head, tail, middle], axis=1) + offset
        offset += [len(group.wordings), len(group.heads), len(group.tails), 0]
    return factors


def write_sentence(group_number: int, combination: int) -> Sentence:
    """Put one drawn sentence into words."""
    group = _groups()[group_number]
    rest, relation = divmod(combination, len(group.wordings))
    rest, middle = divmod(rest, len(group.middles))
    head, tail = divmod(rest, len(group.tails))
    name = group.pattern.format(head=group.heads[head], middle=group.middles[middle], tail=group.tails[tail])
    statement, question = group.wordings[relation]
    return Sentence(statement.format(name), question.format(name))


@functools.cache
def _groups() -> tuple[_Group, ...]:
    given, family = tuple(_GIVEN.split()), tuple(_FAMILY.split())
    return (
        _Group(given, _INITIALS, family, "{head} {middle}{tail}", _PERSON),
        _Group(tuple(_PLACE_HEAD.split()), ("",), tuple(_PLACE_TAIL.split()), "{head}{middle}{tail}", _PLACE),
        _Group(tuple(_WORK_HEAD.split()), ("",), tuple(_WORK_TAIL.split()), "The {head} {middle}{tail}", _WORK),
        _Group(family, ("",), tuple(_COMPANY_KINDS.split()), "{head} {middle}{tail}", _COMPANY),
    )
