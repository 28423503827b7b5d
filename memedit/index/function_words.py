"""Words that are part of sentences rather than names, in a few languages; only for telling names from other words."""

ARTICLES = frozenset({"the", "a", "an"})
WEEKDAYS = frozenset({"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"})
_MONTHS = "january february march april may june july august september october november december"
MONTHS = frozenset(_MONTHS.split())

_ENGLISH = """
a an the this that these those it its he him his she her hers they them their i me my mine we us our you your
who whom whose what which when where why how whether
is am are was were be been being do does did done has have had having can could will would shall should may might
must and or but nor so if then than as at by for from in into of off on onto out over to up with within without
about after before between during through under until upon via per not no yes all any both each few more most
other some such only own same too very just also there here now one ones
"""
_GERMAN = """
der die das den dem des ein eine einer eines einem einen und oder ist sind war waren wer was wo wann wie warum
welche welcher welches von zu mit im am auf fur aus bei nach
"""
_ROMANCE = """
la le les un une des du de et ou est sont qui que quoi quel quelle quand dans sur avec pour par
el los las una unos unas y o es son quien cual cuando donde como en con por para del al
il lo gli uno e chi che cosa dove quando come nel nella di da della dei su os as um uma foi quem qual quais onde na do
"""
_DUTCH = "de het een van is wie wat waar wanneer op te"
_QUESTIONS = """
wer was wo wann wie warum welche welcher welches wessen wem wen qui que quoi quel quelle quels quelles quand ou comment
quien quienes cual cuales cuando donde como cuanto cuantos chi cosa dove quando qual quais quem onde wie wat waar
wanneer кто что где когда как какой какая какое какие кого чей чья сколько почему
kto co gdzie kiedy jaki jaka jakie kim hangi
"""


def _all_of(*lists: str) -> frozenset[str]:
    return frozenset(word for text in lists for word in text.split())


ENGLISH_FUNCTION_WORDS = _all_of(_ENGLISH)
FOREIGN_QUESTION_WORDS = _all_of(_QUESTIONS)
FUNCTION_WORDS = _all_of(_ENGLISH, _GERMAN, _ROMANCE, _DUTCH)
"""Folded as :func:`memedit.index.words.words` folds (lower case, no accents)."""
