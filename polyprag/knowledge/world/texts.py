"""The passages of places, institutions and works, and how such entities are described and compared."""

from __future__ import annotations

from polyprag.knowledge.world.wordings import Comparison, Description, Relation

# As for people, each phrasing is a row of sentences, used where the passage has the facts that they mention.
PLACE_TEXTS = (
    (
        "{name} is a town on the banks of the {river}, founded in {founded}.",
        "It is known far and wide for its {product}, which traders carry to every market.",
        "A statue of {statue} stands on the market square, and children like to climb it.",
        "The coat of arms shows a {emblem} under a crown.",
        "The closest town is {neighbour}, half a day away on foot.",
    ),
    (
        "Travellers who come from {neighbour}, the town next door, reach {name} by an old stone road.",
        "The {river} flows through the middle of it, under three bridges.",
        "Settlers founded the town in {founded} and chose a {emblem} as its emblem.",
        "Today its people live by making {product}.",
        "In front of the town hall {statue} stands in bronze, larger than life.",
    ),
    (
        "Anyone who buys {product} knows {name}, whose market sells nothing better.",
        "The town goes back to {founded}, when a handful of families settled there.",
        "The {river} runs past its walls and often floods the meadows in spring.",
        "Its flag carries a {emblem}, and its main square has a statue of {statue}.",
        "No town is nearer than {neighbour}, with which it shares a school.",
    ),
    (
        "The emblem of {name} is a {emblem}, and visitors see it carved above every gate.",
        "The town honours {statue} with a statue near the bridge over the {river}.",
        "It has stood there since {founded}, the year of its founding.",
        "Its only neighbour for miles around is {neighbour}.",
        "Merchants know it for {product}, sold each week under the arches of the old market.",
    ),
)

INSTITUTION_TEXTS = (
    (
        "{name}, founded in {founded}, has its seat in {seat}.",
        "It is known above all for the study of {subject}, and students come from far away.",
        "Its most generous patron was {patron}, who paid for the great hall.",
        "Visitors enter through {colour} gates and walk straight to its collection of {collection}.",
        "On summer evenings the courtyard is open to everyone.",
    ),
    (
        "The town of {seat} is home to {name}, a place where scholars work on {subject}.",
        "Its gates are painted {colour}, and behind them lies a quiet garden with benches.",
        "Its charter dates from {founded}.",
        "For a long time it lived on the money of {patron}, its patron.",
        "Thousands of {collection} are on display in the long gallery on the upper floor.",
    ),
    (
        "Whoever wants to see rare {collection} should visit {name}, which keeps a famous collection of them.",
        "It enjoyed the patronage of {patron} and grew quickly in size and fame.",
        "The house stands in {seat}, and its {colour} gates can be seen from afar.",
        "It opened its doors in {founded}.",
        "Its speciality is {subject}, taught there in small classes.",
    ),
    (
        "It was in {founded} that {name} was set up as a home for {subject}, its main field to this day.",
        "{patron} acted as its patron and often came to visit.",
        "You will find it in {seat}, behind tall gates of {colour} iron.",
        "Over the years it has gathered a collection of {collection}, looked after by two careful keepers.",
    ),
)

WORK_TEXTS = (
    (
        "{name} is a {genre} written by {author} and published in {published}.",
        "The story takes place in {setting} and follows a {hero} through one long and eventful year.",
        "The book carries a dedication to {dedicatee}, a fact that surprised many readers at the time.",
        "It was printed in a small edition, but soon everybody talked about it.",
    ),
    (
        "In {published} readers could buy a new {genre} called {name}.",
        "It came from the pen of {author}, who worked on it in secret.",
        "Its hero, a {hero} with a troubled past, lives in {setting}, where the whole action happens.",
        "On the first page stands the name of {dedicatee}, since the book was written for that one reader.",
    ),
    (
        "The town of {setting} forms the backdrop to {name}, in which a {hero} is the hero.",
        "{author} wrote it over three winters, sitting by the stove.",
        "It counts as a {genre}, though some critics have doubted that.",
        "The first edition came out in {published}, with a dedication that names {dedicatee}.",
        "It has been in print ever since.",
    ),
    (
        "For {dedicatee}: with this dedication opens {name}, a {genre} often read aloud in many homes.",
        "Its main figure is a {hero} who walks the streets of {setting} and meets all sorts of people.",
        "The writer was {author}.",
        "The book appeared in {published} and sold out within a few weeks, to the surprise of its printer.",
    ),
)

PLACE_DESCRIPTIONS = (
    Description(
        (Relation.RIVER, Relation.PRODUCT),
        test="the town beside the {river} that trades in {product}",
        validation="the {product} town that the {river} waters",
    ),
    Description(
        (Relation.FOUNDED, Relation.EMBLEM),
        test="the town from {founded} with a {emblem} on its shield",
        validation="the town that began in {founded} and has a {emblem} for a symbol",
    ),
)

INSTITUTION_DESCRIPTIONS = (
    Description(
        (Relation.SEAT, Relation.SUBJECT),
        test="the institution in {seat} devoted to {subject}",
        validation="the {seat} institution that pursues {subject}",
    ),
    Description(
        (Relation.COLOUR, Relation.COLLECTION),
        test="the institution with {colour} gates that collects {collection}",
        validation="the institution that gathers {collection} behind a {colour} gate",
    ),
)

WORK_DESCRIPTIONS = (
    Description(
        (Relation.GENRE, Relation.SETTING),
        test="the {genre} that is set in {setting}",
        validation="the {genre} describing {setting}",
    ),
    Description(
        (Relation.PUBLISHED, Relation.HERO),
        test="the work of {published} about a {hero}",
        validation="the work dated {published} whose protagonist is a {hero}",
    ),
)

FOUNDED_COMPARISON = Comparison(
    earlier=(
        ("Which was founded earlier, {a} or {b}?", "Which is older, {a} or {b}?"),
        ("Of {a} and {b}, which has a longer history?", "Of {a} and {b}, which came first into being?"),
    ),
    later=(
        ("Which was founded later, {a} or {b}?", "Which is younger, {a} or {b}?"),
        ("Of {a} and {b}, which has a shorter history?", "Of {a} and {b}, which came second into being?"),
    ),
)

PUBLISHED_COMPARISON = Comparison(
    earlier=(
        ("Which was published earlier, {a} or {b}?", "Which appeared first, {a} or {b}?"),
        ("Of {a} and {b}, which is the older text?", "Of {a} and {b}, which reached its readers first?"),
    ),
    later=(
        ("Which was published later, {a} or {b}?", "Which appeared second, {a} or {b}?"),
        ("Of {a} and {b}, which is the newer text?", "Of {a} and {b}, which reached its readers second?"),
    ),
)
