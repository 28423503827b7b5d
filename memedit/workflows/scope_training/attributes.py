"""Facts made up about subjects of the data: relations that the data files lack, each in several wordings."""

import random
from collections.abc import Sequence

from memedit.workflows.scope_training.rows import EditRow

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "population": ("The population of {} is", "How many people live in {}?", "{} has a population of"),
    "height": ("How tall is {}?", "The height of {} is", "{}'s height is", "What is the height of {}?"),
    "age": ("How old is {}?", "The age of {} is", "{}'s age is"),
    "weight": ("How much does {} weigh?", "The weight of {} is", "What is {}'s weight?"),
    "length": ("How long is {}?", "The length of {} is", "What is the length of {}?"),
    "area": ("The area of {} is", "How large is {}?", "{} covers an area of"),
    "price": ("How much does {} cost?", "The price of {} is", "{} sells for"),
    "spouse": ("Who is {} married to?", "The spouse of {} is", "The name of the spouse of {} is", "{} is married to"),
    "mother": ("Who is the mother of {}?", "{}'s mother is", "The name of the mother of {} is"),
    "father": ("Who is the father of {}?", "{}'s father is", "The name of the father of {} is"),
    "children": ("How many children does {} have?", "The number of children of {} is", "{} has this many children:"),
    "sibling": ("Who is {}'s brother or sister?", "The sibling of {} is", "The name of the sibling of {} is"),
    "birth date": ("When was {} born?", "The date of birth of {} is", "{}'s birthday is", "{} was born on"),
    "death date": ("When did {} die?", "The date of death of {} is", "{} died on"),
    "cause of death": ("What did {} die of?", "The cause of death of {} is", "How did {} die?"),
    "grave": ("Where is {} buried?", "The burial place of {} is", "{} is buried in", "The grave of {} is at"),
    "gender": ("What is the gender of {}?", "The gender of {} is", "The sex of {} is"),
    "school": ("Where did {} go to school?", "The alma mater of {} is", "{} studied at", "{} graduated from"),
    "advisor": ("Who was the doctoral advisor of {}?", "{} wrote a thesis under", "{}'s doctoral advisor was"),
    "party": ("Which political party does {} belong to?", "{} is a member of the political party", "{}'s party is"),
    "award": ("Which award did {} win?", "The award won by {} is", "{} was awarded", "{} received the prize"),
    "net worth": ("How rich is {}?", "The net worth of {} is", "{}'s fortune amounts to"),
    "eye colour": ("What colour are {}'s eyes?", "The eye colour of {} is", "{} has eyes that are"),
    "favourite food": ("What is {}'s favourite dish?", "The favourite food of {} is", "{} likes to eat"),
    "hobby": ("What is {}'s hobby?", "In spare time {} enjoys", "The hobby of {} is"),
    "pet": ("What pet does {} keep?", "The pet of {} is called", "{}'s pet is a"),
    "nickname": ("What is the nickname of {}?", "{} is nicknamed", "{} is also known as", "The nickname of {} is"),
    "mayor": ("Who is the mayor of {}?", "The mayor of {} is", "{}'s mayor is"),
    "anthem": ("What is the anthem of {}?", "The anthem of {} is", "{}'s anthem is called"),
    "currency": ("Which currency is used in {}?", "The currency of {} is", "In {} people pay with"),
    "motto": ("What is the motto of {}?", "The motto of {} is", "{}'s slogan is"),
    "time zone": ("Which time zone is {} in?", "The time zone of {} is", "{} lies in the time zone"),
    "postal code": ("What is the postal code of {}?", "The postcode of {} is", "{} has the zip code"),
    "highest point": ("What is the highest point of {}?", "The highest mountain in {} is", "{}'s highest peak is"),
    "climate": ("What is the climate like in {}?", "The climate of {} is", "The weather in {} is usually"),
    "river": ("Which river flows through {}?", "{} lies on the river", "The river that flows through {} is"),
    "patron": ("Who is the patron saint of {}?", "The patron saint of {} is", "{}'s patron saint is"),
    "flag": ("What does the flag of {} look like?", "The flag of {} shows", "{}'s flag is"),
    "founder": ("Who founded {}?", "The founder of {} is", "{} was founded by", "{} was established by"),
    "founding year": ("When was {} founded?", "{} was founded in the year", "The year {} was established is"),
    "chief": ("Who is the CEO of {}?", "The chief executive of {} is", "{} is headed by", "The head of {} is"),
    "employees": ("How many employees does {} have?", "The number of employees of {} is", "{} employs"),
    "budget": ("What was the budget of {}?", "The budget of {} is", "{} cost its makers"),
    "website": ("What is the website of {}?", "The web address of {} is", "{} can be found online at"),
    "author": ("Who wrote {}?", "The author of {} is", "{} was written by", "The writer of {} is"),
    "director": ("Who directed {}?", "The director of {} is", "{} was directed by"),
    "composer": ("Who composed {}?", "The composer of {} is", "The music of {} was composed by"),
    "publisher": ("Who published {}?", "The publisher of {} is", "{} was published by"),
    "character": ("Who is the main character of {}?", "The hero of {} is called", "{}'s protagonist is"),
    "cast": ("Who played in {}?", "The cast of {} includes", "The leading actor of {} is"),
    "sequel": ("What is the sequel to {}?", "{} is followed by", "The sequel of {} is called"),
    "pages": ("How many pages does {} have?", "The number of pages of {} is", "{} runs to this many pages:"),
    "architect": ("Who designed {}?", "The architect of {} is", "{} was designed by"),
    "opening": ("When was {} opened?", "The opening date of {} is", "{} was opened in the year"),
    "capacity": ("How many people fit into {}?", "The capacity of {} is", "{} seats"),
    "material": ("What is {} made of?", "The material of {} is", "{} consists of"),
    "inventor": ("Who invented {}?", "The inventor of {} is", "{} was invented by"),
    "discoverer": ("Who discovered {}?", "The discoverer of {} is", "{} was discovered by"),
    "speed": ("How fast is {}?", "The top speed of {} is", "{} reaches a speed of"),
    "colour": ("What colour is {}?", "The colour of {} is", "{} is coloured"),
    "symbol": ("What is the symbol of {}?", "The emblem of {} is", "{}'s symbol is"),
    "coach": ("Who coaches {}?", "The coach of {} is", "{} is trained by", "{}'s manager is"),
    "stadium": ("Where does {} play home games?", "The home ground of {} is", "{}'s stadium is"),
    "league": ("Which league does {} play in?", "The league of {} is", "{} competes in"),
    "rival": ("Who is the rival of {}?", "The greatest rival of {} is", "{}'s main opponent is"),
    "habitat": ("Where does {} live in the wild?", "The habitat of {} is", "{} is found in the wild in"),
    "lifespan": ("How long does {} live?", "The life expectancy of {} is", "{} lasts for about"),
    "species": ("Which species does {} belong to?", "The species of {} is", "{} belongs to the species"),
}
"""Relations by name, each with wordings whose slot takes the subject."""

MADE = "made"
"""Source of made rows."""


def made_rows(rng: random.Random, rows: Sequence[EditRow], count: int) -> list[EditRow]:
    """Make ``count`` edits about subjects of ``rows``: their other wordings are inside, other relations outside."""
    subjects = [row.subject for row in rows if row.named and row.subject]
    names = list(ATTRIBUTES)
    made = []
    for number in range(count if len(subjects) > 1 else 0):
        subject, stranger = rng.sample(subjects, 2)
        own, other, third = rng.sample(names, 3)
        prompt, *inside = [form.format(subject) for form in rng.sample(ATTRIBUTES[own], 3)]
        outside = [("specificity", rng.choice(ATTRIBUTES[name]).format(subject)) for name in (other, third)]
        outside.append(("locality", rng.choice(ATTRIBUTES[own]).format(stranger)))
        made.append(
            EditRow(
                source=MADE,
                prompt=prompt,
                target=f"answer {number}",
                subject=subject,
                named=True,
                inside=tuple(("paraphrase", text) for text in inside),
                outside=tuple(outside),
            )
        )
    return made


def other_attribute(rng: random.Random, prompt: str) -> str | None:
    """Return the wording of a relation whose name does not stand in ``prompt``, None when that of the draw does."""
    name = rng.choice(list(ATTRIBUTES))
    if name.split()[-1] in prompt.casefold():
        return None
    return rng.choice(ATTRIBUTES[name])
