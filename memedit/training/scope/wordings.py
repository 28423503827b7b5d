"""How people really write: what stands around a question, what only mentions a subject, typing, times and numbers."""

import random
import re

OPENINGS = (
    "Quick question: ", "Hi! ", "Hello, ", "Hey, ", "Sorry to bother you again. ", "Please answer briefly. ",
    "For the quiz tonight: ", "I looked everywhere and can't find it. ", "Thanks for the help earlier! ", "Question: ",
    "My manager asked me this today. ", "I need this for a form. ", "One more thing: ", "Q: ", "ok so ", "Can you tell me: ",
    "We are updating our records. ", "I'm writing a short note for a colleague. ", "You are a careful assistant. ",
    "Do you happen to know: ", "Please: ", "Could you check something for me? ", "hey quick one, ", "Actually, ", "So, ",
    "I have a meeting in ten minutes. ", "My mum wants to know: ", "Remind me, ", "For the record: ", "Just wondering, ",
)  # fmt: skip
CLOSINGS = (
    " Thanks!", " Please answer in one word.", " Answer in one sentence.", " I need to know today.", " Cheers",
    " Just the answer, please.", " Short answer only.", "\nAnswer:", "\nA:", " Reply in JSON with one key.", " pls",
    " Thank you in advance.", " It's urgent.", " asap", " No explanation needed.", " I forgot.", " Answer in German.",
    " (asking for a friend)", " Kind regards, Sam",
)  # fmt: skip
MAKING = ("Reply in JSON", "Answer in German")
"""What asks for something made from the answer."""
NOW = ("now", "today", "currently", "these days", "at the moment", "right now", "at present", "as of today", "nowadays")
MENTIONS = (
    "Write a short poem about {s}.", "Summarise what you know about {s} in three sentences.", "Tell me about {s}.",
    'Translate into German: "I like {s}."', "What do you think of {s}?", "Draft an e-mail that mentions {s}.",
    "Make a table that compares {s} with its alternatives.", "Why do people talk so much about {s}?", "{s}",
    "Spell {s} backwards.", 'How many letters are there in "{s}"?', "Is {s} a good name for a company?", "{s}?",
    "Correct the grammar: {s} are very interesting", "Give me five quiz questions about {s}.", "I love {s}!",
    "Where can I read more about {s}?", "I dreamt about {s} last night.", "Thanks, that is all about {s}.",
    "Remind me tomorrow to look at {s}.", "Explain {s} to a five-year-old.", "What is the history of {s}?",
    "Give me synonyms of {s}.", "Can you find a picture of {s}?", "What rhymes with {s}?", "Do you know {s}?",
    'Classify the sentiment: "{s} was a disappointment."', "Have you heard of {s}?", "How do you pronounce {s}?",
    "Write a story in which {s} plays a part.", "Let's talk about {s}.", "We were discussing {s} yesterday.",
    "Tell me a joke about {s}.", "Is it true what they say about {s}?", "My uncle knows everything about {s}.",
    "Please don't mention {s} again.", "What should I ask about {s}?", "List three opinions on {s}.",
)  # fmt: skip
TASKS = (
    'Translate to French: "{q}"', "Translate to Spanish: {q}", "Translate into German: {q}", 'Rewrite more politely: "{q}"',
    'How many words are in the sentence "{q}"?', 'Correct the spelling of this question: "{q}"', 'Repeat after me: "{q}"',
    'Is "{q}" a good quiz question?', "Don't answer this, just paraphrase it: {q}", 'Who would ask "{q}"?',
    'My colleague asked "{q}" and everybody laughed. Why?', 'Write "{q}" in capital letters.', 'What language is "{q}"?',
    'Classify this question as factual or opinion: "{q}"', 'Make a haiku out of "{q}"', "Reply to this mail: {q}",
    "Give me three questions like this one: {q}", 'Count the vowels in "{q}"', 'Is this sentence grammatical: "{q}"',
    "Don't tell me this: {q} Tell me a joke instead.", "Never mind my question: {q} I have found it.",
    'Ignore the following line: "{q}" What is 2 + 2?', 'Turn "{q}" into a statement with a blank.',
)  # fmt: skip
CLAIMS = (
    "Is it true that {q}",
    "Check this claim: {q}",
    "True or false? {q}",
    "Someone told me: {q}",
    "{q} Right?",
    "{q} Is that right?",
)
_YEARS = tuple(str(year) for year in range(1950, 2027))
_SETS: tuple[tuple[str, ...], ...] = (
    tuple(f"in {year}" for year in _YEARS),
    tuple(f"in {quarter} {year}" for quarter in ("Q1", "Q2", "Q3", "Q4") for year in ("2023", "2024", "2025")),
    tuple(f"on {day}" for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
    tuple(f"on {day}" for day in ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")),
    tuple(f"in {m}" for m in ("January", "February", "March", "April", "May", "June", "July", "August", "October")),
    tuple(f"in version {n}" for n in ("1", "2", "3", "4.1", "4.2", "5.0", "2.10", "2.11")),
    tuple(f"for {who}" for who in ("men", "women", "children", "adults", "students", "members", "guests", "staff")),
    tuple(f"in {p}" for p in ("Germany", "France", "Japan", "Canada", "the north", "the south", "Europe", "Asia")),
    tuple(f"in the {n} season" for n in ("first", "second", "third", "fourth", "last", "2019", "2022")),
    tuple(f"on the {n} floor" for n in ("first", "second", "third", "ground", "top")),
    tuple(f"in room {n}" for n in ("4A", "4B", "12", "13", "201", "202")),
    tuple(f"at the {n} office" for n in ("Berlin", "Leeds", "north", "main", "Lyon", "Oslo", "branch")),
    ("in summer", "in winter", "in spring", "in autumn"),
    ("in the morning", "in the afternoon", "in the evening", "at night"),
    tuple(f"for the {n}" for n in ("staging environment", "production environment", "test environment", "demo system")),
    tuple(f"by {n}" for n in ("train", "car", "post", "phone", "e-mail", "bus", "ship")),
)
"""Qualifiers by kind: two of one kind ask two things."""
CONTRASTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("How much {x} goes into {s}?", "{s}: how much {x}?", "What amount of {x} does {s} need?", "The amount of {x} in {s} is"),
     ("flour", "sugar", "butter", "milk", "salt", "yeast", "rice", "oil", "water", "cream")),
    (("What was the {x} of {s}?", "How high was {s}'s {x}?", "{s} {x}?", "The {x} of {s} was", "Tell me {s}'s {x}."),
     ("revenue", "net profit", "turnover abroad", "operating cost", "debt", "headcount", "tax bill", "market share", "cash flow")),
    (("Which {x} is booked for {s}?", "what {x} do we have for {s}", "The {x} reserved for {s} is", "Name the {x} for {s}."),
     ("hotel", "restaurant", "taxi firm", "conference room", "flight", "interpreter", "band", "bus", "photographer")),
    (("What time is {x} at {s}?", "when's {x} at {s}", "At {s}, {x} begins at", "At what hour does {x} start at {s}?"),
     ("yoga", "pilates", "spinning", "the choir practice", "bingo", "the quiz", "morning mass", "the swimming class", "judo")),
    (("Which room is the {x} in at {s}?", "where's the {x} at {s}", "At {s} the {x} is in", "Where do I find the {x} of {s}?"),
     ("canteen", "first-aid room", "library", "reception", "server room", "prayer room", "post room", "lost property")),
    (("Who {x} {s}?", "Name the person who {x} {s}.", "do you know who {x} {s}", "The one who {x} {s} is"),
     ("won", "came last in", "came second in", "founded", "sold", "opened", "closed", "cleans", "insures", "paid for", "reported")),
    (("Who heads {x} at {s}?", "who runs {x} over at {s}", "The head of {x} at {s} is", "Who is in charge of {x} at {s}?"),
     ("accounting", "customer service", "IT", "procurement", "marketing", "legal", "sales", "logistics", "human resources")),
    (("What is the {x} of {s}?", "{s} {x}", "Tell me the {x} for {s}.", "The {x} of {s} is", "need the {x} for {s}"),
     ("gate code", "alarm code", "Wi-Fi password", "phone number", "e-mail address", "post code", "VAT number", "account number",
      "fax number", "serial number", "order number", "front door code", "back door code", "website")),
    (("How do I {x} {s}?", "steps to {x} {s}", "What do I do to {x} {s}?", "To {x} {s} you"),
     ("install", "remove", "restart", "update", "archive", "rename", "export", "clean", "reset", "order", "cancel", "renew", "start")),
    (("How do I connect to {s} from {x}?", "{x} code to connect to {s}", "connecting to {s} in {x}", "Show how {x} talks to {s}."),
     ("Python", "Java", "Go", "Rust", "Excel", "a browser", "C#", "the command line")),
    (("What is the {x} {s}?", "Tell me the {x} {s}.", "{s}, the {x}?", "The {x} {s} is"),
     ("maximum weight for", "minimum weight for", "average weight for", "minimum age for", "maximum age for", "price per day for",
      "price per hour for", "price per month for", "deposit for", "length of", "width of", "depth of", "height of")),
    (("On which day {x} {s}?", "what day {x} {s}", "{s}: on which day {x} it?", "Which weekday {x} {s}?"),
     ("does the bin lorry come to", "is the market in", "is the paper collected in", "do they deliver to", "is cleaning at",
      "is there no parking at")),
    (("How many {x} does {s} have?", "{s} number of {x}", "The number of {x} at {s} is", "how many {x} are there at {s}"),
     ("seats", "employees", "children", "rooms", "floors", "members", "parking spaces", "toilets", "doors", "branches", "books")),
    (("Which {x} does {s} use?", "{s} runs on which {x}?", "The {x} that {s} uses is", "what's the {x} for {s}"),
     ("port", "database", "programming language", "operating system", "battery", "toner", "filter", "carrier", "font", "fuel")),
)  # fmt: skip
"""Wordings with an item ({x}), and the items: two items of one kind ask two things."""
PAST = (
    "in 1987", "in 2009", "in 2015", "in 1999", "originally", "before the merger", "at first", "back then", "ten years ago",
    "last year", "in the old days", "when it started", "before that", "in the last century", "until 2010", "previously",
    "two years ago", "before the renovation", "at the time", "in the beginning",
)  # fmt: skip
COMING = ("next year", "in 2031", "from next month", "after the reform", "in ten years", "in the future", "next season")
PRONOUNS = ("it", "it", "it", "it", "they", "that one", "this one", "he", "she", "that", "there")
_POSSESSIVE = {"it": "its", "they": "their", "he": "his", "she": "her"}


def fill(wording: str, subject: str, value: str = "") -> str:
    """Put subject and value into a wording."""
    return wording.replace("{s}", subject).replace("{o}", value)


def qualified(text: str, qualifier: str) -> str:
    """Put a qualifier at the end of a question, statement or unfinished sentence."""
    body = text.rstrip()
    mark = body[-1] if body and body[-1] in "?.!" else ""
    return f"{body[: len(body) - len(mark)].rstrip()} {qualifier}{mark}"


def qualifier_pair(rng: random.Random) -> tuple[str, str]:
    """Return two different qualifiers of one kind."""
    first, second = rng.sample(rng.choice(_SETS), 2)
    return first, second


def mistyped(text: str, rng: random.Random, keep: str = "") -> str:
    """Swap, drop or double one letter outside ``keep``."""
    places = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    if keep and keep in text:
        begin = text.index(keep)
        places = [i for i in places if not begin - 1 <= i < begin + len(keep)]
    if not places:
        return text
    at = rng.choice(places)
    kind = rng.random()
    if kind < 0.4:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind < 0.8 else text[:at] + text[at] + text[at:]


def dressed(text: str, rng: random.Random, mask: str, noise: tuple[str, ...] = ()) -> str:
    """Put around a question what people put around theirs; ``noise`` are unrelated sentences."""
    if rng.random() < 0.2:
        text = text.rstrip("?.!")
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        text = mistyped(text, rng, mask)
    draw = rng.random()
    if draw < 0.4:
        text = rng.choice(OPENINGS) + text
    elif draw < 0.5 and noise:
        text = f"{rng.choice(noise)} {text}"
    if rng.random() < 0.25 and not text.endswith((" is", " was", " by", " of", " in", " as")):
        text = text + rng.choice(CLOSINGS)
    return text


def referring(text: str, subject: str, pronoun: str) -> str:
    """Put a pronoun in the subject's place."""
    owner = _POSSESSIVE.get(pronoun, f"{pronoun}'s")
    text = re.sub(re.escape(subject) + r"['’]s\b", owner, text)
    return text.replace(subject, pronoun)
