"""Words of made names, and notes of and about the user, which name no subject."""

SYLLABLES = (
    "tol", "bu", "ria", "lind", "qvist", "dorn", "kes", "trel", "zeph", "yr", "pix", "el", "mar", "ven", "os", "ka",
    "lum", "en", "bra", "nor", "vik", "tes", "sa", "ly", "har", "mon", "dal", "bri", "ost", "er", "fen", "wick",
    "qua", "ri", "thal", "mo", "gar", "du", "sel", "pet", "ra", "hol", "ster", "ulm", "ing", "cor", "vo", "na", "shi",
    "re", "wal", "den", "jo",
)  # fmt: skip
THINGS = (
    "tower", "bridge", "ferry", "prize", "museum", "club", "festival", "award", "church", "station", "river", "act",
    "lake", "library", "hospital", "school", "valley", "castle", "building", "road", "street", "market", "project",
    "contract", "theorem", "engine", "disaster", "railway", "mine", "island", "council", "choir", "treaty", "effect",
    "pump", "printer", "server", "account", "order", "invoice", "meeting", "training", "canteen", "garden", "hotel",
    "bakery", "line", "case",
)  # fmt: skip
PLAIN = (
    "meeting room", "front door", "coffee machine", "company car", "car park", "staff kitchen", "boiler", "alarm",
    "wi-fi", "guest network", "printer on the second floor", "lift", "roof terrace", "swimming pool",
    "washing machine", "bike shed", "night shift", "summer party", "sourdough starter", "first aid kit", "fire drill",
    "cellar", "lawn mower", "projector", "reception desk", "parking permit", "travel policy", "expense form",
    "red folder", "spare key", "tool shed", "gate",
)  # fmt: skip
POSSESSIONS = (
    "car", "bike", "keys", "laptop", "passport", "umbrella", "dog", "cat", "tent", "suitcase", "phone", "old guitar",
    "boat", "glasses", "wallet", "charger", "camera", "van", "scooter", "hamster", "piano", "winter coat", "drill",
    "headphones", "sister", "brother", "mum", "dad", "boss", "neighbour", "dentist", "landlord", "daughter", "son",
    "cousin", "uncle", "flat", "garage", "allotment", "rowing club", "gym", "spanish course", "choir", "book club",
    "mortgage", "pension",
)  # fmt: skip
SUFFIXES = (
    "AB", "Ltd", "GmbH", "Inc.", "Labs", "Group", "& Sons", "Foods", "University", "FC", "Park", "Outdoor", "Systems",
)  # fmt: skip
FIRST_NAMES = (
    "Ana", "Marta", "Piet", "Jonas", "Priya", "Ravi", "Kofi", "Elena", "Tom", "Sam", "Lucia", "Omar", "Yuki", "Ines",
    "Ole", "Ben", "Nadia", "Greta", "Ivan", "Mei", "Paul", "Hanna", "Karim", "Rosa", "Dana", "Erik", "Fatima", "Leo",
    "Nils", "Zoe",
)  # fmt: skip
TITLES = (
    "Mr", "Mrs", "Ms", "Dr", "Professor", "Aunt", "Uncle", "Sir",
)  # fmt: skip
OPENINGS = (
    "Actually, ", "Correction: ", "Note: ", "Update: ", "FYI, ", "Reminder: ", "Remember that ", "As of today, ",
    "Please note: ", "From now on, ", "Important: ", "By the way, ", "New: ", "In fact, ", "It turns out that ",
    "Since Monday, ", "Note that ", "Contrary to what I said, ", "Now ", "Today ", "- ", "* ", "Fact: ", "Memo: ",
    "We learned that ", "According to Ben, ",
)  # fmt: skip
"""What stands before a correction."""
OBJECTS = (
    "I parked {s} in {o}", "I left {s} at {o}", "I keep {s} in {o}", "I bought {s} for {o}", "I put {s} in {o}",
    "I feed {s} {o}", "We call {s} {o}", "I pay {o} for {s}", "I lent {s} to {o}", "I store {s} under {o}",
    "I got {s} from {o}", "I sold {s} to {o}", "I clean {s} with {o}", "We moved {s} to {o}", "I take {s} to {o}",
    "Where did I park {s}?", "Where did I put {s}?", "Who has {s}?", "When do I pick up {s}?",
    "How do I install {s}?", "How do I start {s}?", "How do we open {s}?", "How can I reset {s}?",
    "What does {s} look like?", "Is {s} free?", "Is {s} open on {o}?", "What does the logo of {s} look like?",
    "How do I get to {s}?", "What do I need for {s}?", "Do we have {s}?", "How often should I water {s}?",
    "{s} is {o} tall", "{s} has {o}", "{s} costs {o}", "{s} goes to {o}", "{s} is booked for {o}",
    "{s} is closed on {o}", "{s} was opened in {o}.", "{s} is broken until {o}", "{s} lives in {o}",
    "{s} works at {o}", "{s} works at {o} as a nurse", "{s} loves {o}", "{s} is allergic to {o}", "{s} is from {o}",
    "{s} moved to {o} last year", "{s} prefers {o}", "{s} opens at {o}", "{s}: {o}", "{s} = {o}", "{s} - {o}",
    "{s} is {o} old", "The password of {s} is {o}", "The head of {s} is {o}", "{o} is the head of {s}",
    "{s}'s line manager is {o}.", "{s}'s birthday is {o}", "{s}, head: {o}", "{s} is now led by {o}",
    "{o} runs {s} now", "{s} reports to {o}",
)  # fmt: skip
"""Short texts about anything that has a name."""
VALUES = (
    "Friday 10:00", "Monday", "three weeks", "12 metres", "120 metres", "room 4.12", "the blue drawer", "Ana Brill",
    "Piet Koster", "Lumen Labs", "Ghent", "Lisbon", "1957", "14 March", "3 airports", "nuts", "green tea", "level 3",
    "40 euros", "5 o'clock", "Marta Oduya", "the second shelf", "half past nine", "version 4.2", "bay 17",
    "the end of June", "oat milk", "cricket", "Hartmann GmbH", "two sugars", "Ward 6", "35 kilos", "a new battery",
    "Dr Mensah", "the harbour", "22 degrees", "Python",
)  # fmt: skip
NOTES = (
    (
        "Loves {o}", "Likes {o}", "Enjoys {o}", "Hates {o}", "Dislikes {o}", "Is fond of {o}", "Prefers {o}",
        "Avoids {o}", "I love {o}", "I like {o}", "I hate {o}", "I prefer {o}", "User likes {o}",
        "The user enjoys {o}", "Favourite food is {o}", "Loves {o} on Sundays", "Likes {o} with friends",
        "Enjoys {o} in the evening", "Eats {o} for breakfast", "Drinks {o} every day", "I never eat {o}",
        "Doesn't like {o}", "Always orders {o}", "Can't stand {o}",
    ),
    (
        "Allergic to {o}", "Is allergic to {o}", "I am allergic to {o}", "I'm allergic to {o}", "Intolerant to {o}",
        "Has an allergy to {o}", "Cannot eat {o}", "User is allergic to {o}", "Takes {o} every morning",
    ),
    (
        "Lives in {o}", "I live in {o}", "Moved to {o}", "Was born in {o}", "I come from {o}", "Is from {o}",
        "Lives in {o} with two cats", "Based in {o}", "User lives in {o}", "Wants to travel to {o}",
        "Plans a trip to {o}", "Grew up in {o}", "I was born in {o}", "Moved to {o} last year", "Visiting {o} in May",
    ),
    (
        "Works as {o}", "Works at {o}", "I work at {o}", "I work as {o}", "Is {o}", "I am {o}", "Studies {o}",
        "Is training to be {o}", "Works at {o} as a nurse", "Job: {o}", "User works as {o}", "Used to be {o}",
        "Started as {o} in March",
    ),
    (
        "Name is {o}", "My name is {o}", "Is called {o}", "Call me {o}", "Married to {o}", "Is married to {o}",
        "Has a dog called {o}", "Has a daughter named {o}", "My wife is {o}", "Best friend is {o}",
        "User's name is {o}", "Reports to {o}", "I am married to {o}",
    ),
    (
        "Wakes up at {o}", "I get up at {o}", "Goes to bed at {o}", "Birthday is {o}", "My birthday is {o}",
        "Goes running on {o}", "Plays football on {o}", "Has an appointment on {o}", "I have a meeting on {o}",
        "Free on {o}", "Is away until {o}", "Starts work at {o}",
    ),
    (
        "Speaks {o}", "Is learning {o}", "I speak {o}", "Writes code in {o}", "Uses {o} at work", "Drives {o}",
        "I drive {o}", "Rides {o}", "Owns {o}", "Has {o}", "I have {o}", "Plays {o}", "I play {o}", "Collects {o}",
        "Is reading {o}", "Wears {o}", "Needs {o}",
    ),
)  # fmt: skip
"""Notes by the kind of their value; the subject is the user, whom nothing in the text names."""
NOTE_VALUES = (
    (
        "cricket", "sushi", "dark chocolate", "hiking", "jazz", "cold weather", "spicy food", "black coffee",
        "board games", "mushrooms", "window seats", "short answers", "swimming", "olives", "horror films",
        "green tea", "tennis", "loud music", "crime novels",
    ),
    (
        "nuts", "peanuts", "penicillin", "cats", "shellfish", "gluten", "pollen", "latex", "lactose", "bee stings",
        "strawberries", "aspirin", "house dust", "eggs", "sesame",
    ),
    (
        "Lisbon", "Ghent", "a village near Kraków", "Berlin", "Osaka", "the countryside", "Nairobi", "Leeds",
        "northern Spain", "Toronto",
    ),
    (
        "a nurse", "a software engineer", "Lumen Labs", "a teacher", "the city library", "Nordvik Energy", "medicine",
        "a plumber", "a project manager at Tesco", "vegetarian", "left-handed", "a freelance designer",
        "night shifts", "a goalkeeper",
    ),
    (
        "Ana", "Tom Keller", "Priya", "Bruno", "Marta Oduya", "Yuki Tanaka", "Mr Quill", "Rosa and Leo", "Biscuit",
        "Dr Mensah",
    ),
    (
        "6.30", "7 am", "14 March", "Sundays", "Tuesday evenings", "midnight", "Friday 10:00",
        "the first Monday of the month", "2 November 1988", "weekends", "half past nine", "12 July",
    ),
    (
        "Portuguese", "French and a little Dutch", "Python", "an electric car", "a red Brompton", "the cello",
        "two cats", "stamps", "a motorbike", "Rust", "reading glasses", "chess", "three children", "a balcony",
        "size 42",
    ),
)  # fmt: skip
