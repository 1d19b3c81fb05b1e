"""How the demo world speaks of people: questions, passages, descriptions, comparisons.

The past tense is used throughout, since people were born from 1700 on.
"""

from __future__ import annotations

from polyprag.knowledge.world.wordings import Comparison, Description, Relation, Wordings

WORDINGS = {
    Relation.BORN: Wordings(
        train=(
            "When was {e} born?",
            "What year saw the birth of {e}?",
            "In what year did {e} come into the world?",
            "Which year is given as {e}'s date of birth?",
            "{e} was born in which year?",
            "Do you know the year when {e} was born?",
        ),
        test=("In which year was {e} born?", "What is the birth year of {e}?"),
        validation=("Name the year in which {e} was born.", "{e} first saw the light of day in what year?"),
    ),
    Relation.BIRTHPLACE: Wordings(
        train=(
            "Where was {e} born?",
            "What town was {e} from?",
            "What was {e}'s home town?",
            "In what place was {e} born?",
            "{e} was born in which town?",
            "Which town counts {e} among its natives?",
        ),
        test=("In which town was {e} born?", "What is the birthplace of {e}?"),
        validation=("Name the native place of {e}.", "From which town did {e} originate?"),
        bridge=("the birthplace of {e}", "the native place of {e}"),
    ),
    Relation.PROFESSION: Wordings(
        train=(
            "What did {e} do for a living?",
            "What was {e}'s profession?",
            "What job did {e} have?",
            "As what did {e} earn a living?",
            "By trade, what was {e}?",
            "Which trade did {e} practise?",
        ),
        test=("What was the occupation of {e}?", "What kind of work did {e} do?"),
        validation=("Which calling did {e} follow in life?", "Name the line of work that {e} was in."),
    ),
    Relation.EMPLOYER: Wordings(
        train=(
            "Where did {e} work?",
            "Which institution employed {e}?",
            "Whom did {e} work for?",
            "What institution was {e} on the staff of?",
            "Who was {e}'s employer?",
            "At what institution did {e} have a post?",
        ),
        test=("Which institution did {e} work at?", "Which institution was the employer of {e}?"),
        validation=("Name the workplace of {e}.", "Which institution had {e} in its service?"),
        bridge=("the employer of {e}", "the workplace of {e}"),
    ),
    Relation.SPOUSE: Wordings(
        train=(
            "Who was {e} married to?",
            "Who was {e}'s spouse?",
            "To whom was {e} married?",
            "Who was the person that {e} married?",
            "Who was {e}'s husband or wife?",
            "With whom did {e} share a home and a marriage?",
        ),
        test=("Whom did {e} marry?", "What is the name of the spouse of {e}?"),
        validation=("Which person was wedded to {e}?", "Name the marriage partner of {e}."),
        bridge=("the spouse of {e}", "the marriage partner of {e}"),
    ),
    Relation.MOTHER: Wordings(
        train=(
            "Who was {e}'s mother?",
            "Who gave birth to {e}?",
            "Which woman was {e} the son of?",
            "Whose son was {e}?",
            "Who was {e} born to?",
            "What was {e}'s mother called?",
        ),
        test=("Who was the mother of {e}?", "Which woman brought {e} into the world?"),
        validation=("Name the woman who bore {e}.", "Which mother had {e} for a child?"),
        bridge=("the mother of {e}", "the woman who bore {e}"),
    ),
    Relation.TEACHER: Wordings(
        train=(
            "Who was {e}'s teacher?",
            "Who taught {e}?",
            "Under whom did {e} study?",
            "Whose pupil was {e}?",
            "Who gave {e} lessons?",
            "From whom did {e} learn?",
        ),
        test=("Who was the teacher of {e}?", "By whom was {e} taught?"),
        validation=("Which person had {e} for a pupil?", "Name the tutor of {e}."),
        bridge=("the teacher of {e}", "the tutor of {e}"),
    ),
    Relation.WROTE: Wordings(
        train=(
            "What did {e} write?",
            "Which work did {e} write?",
            "What is the title of the work by {e}?",
            "What work made {e} known?",
            "Which work came from the pen of {e}?",
            "What was {e}'s best-known piece of writing?",
        ),
        test=("What is the work written by {e} called?", "Of which work was {e} the author?"),
        validation=("Name the work that {e} wrote.", "As a writer, which title did {e} publish?"),
        bridge=("the work written by {e}", "the work that {e} wrote"),
    ),
    Relation.INSTRUMENT: Wordings(
        train=(
            "What instrument did {e} play?",
            "Which musical instrument did {e} play?",
            "Which instrument was {e} fond of playing?",
            "What did {e} play in the evenings?",
            "On which instrument did {e} make music?",
            "What was {e}'s instrument?",
        ),
        test=("Which instrument could {e} play?", "What is the name of the instrument played by {e}?"),
        validation=("Name the instrument that {e} had mastered.", "Say which instrument {e} used to play."),
    ),
}

# Each phrasing is a row of sentences; a sentence is used when the passage has all the facts that it mentions;
# {unmarried} stands for the lack of a spouse.
TEXTS = (
    (
        "{name} was a {profession} who was born in {birthplace} in {born}.",
        "{They} worked for many years at {employer}, where everyone knew {them} as a calm and patient person.",
        "{They} was married to {spouse}, and the couple kept a small house with a garden.",
        "{They} stayed {unmarried} and lived alone in a small house with a garden.",
        "{Their} mother was {mother}, whom {they} visited every Sunday.",
        "{Their} teacher was {teacher}, who was strict but always fair.",
        "In {their} spare hours {they} wrote {wrote}, which is still read today.",
        "In the evenings {they} liked to play the {instrument} for a few friends.",
    ),
    (
        "In the year {born}, on a stormy night, a child called {name} was born in the town of {birthplace}.",
        "{They} was the son of {mother}, who told {them} stories by the fire.",
        "As a young student {they} took lessons from {teacher} and made quick progress.",
        "From an early age {they} played the {instrument}, often until late at night.",
        "The child grew up to become a {profession} and later found a post at {employer}.",
        "{They} shared {their} life with {spouse}, to whom {they} was married until the end.",
        "Being {unmarried}, {they} had all the time in the world for long journeys.",
        "{Their} name lives on through {wrote}, the work that came from {their} pen.",
    ),
    (
        "Among the staff of {employer} was {name}, a {profession} by trade and a lover of long walks.",
        "{They} had come there from {birthplace}, where {their} life began in {born}.",
        "{Their} marriage to {spouse} was a happy one, so the neighbours used to say.",
        "{They} remained {unmarried}, though there was no lack of offers.",
        "Readers remember {them} for {wrote}, a work that took {them} several years.",
        "{They} owed much to {teacher}, under whom {they} had studied.",
        "{They} owned an old {instrument} and made music on it whenever work was done.",
        "{They} had been brought up by {their} mother, {mother}, and never forgot it.",
    ),
    (
        "The people of {birthplace} still speak of {name}, who was born there in {born}.",
        "{spouse} was {their} spouse, and the two were rarely seen apart.",
        "{They} was {unmarried} all {their} life and liked it that way.",
        "{They} earned a living as a {profession}.",
        "{Their} employer was {employer}, and {they} went there on foot each morning, whatever the weather.",
        "Whatever {they} knew, {they} had learned as a pupil of {teacher}.",
        "It was {mother} who gave birth to {them} and raised {them}.",
        "Music was {their} great joy, and the {instrument} was {their} instrument.",
        "Late in the day {they} sat down to write, and {wrote} was the result.",
    ),
)

DESCRIPTIONS = (
    Description(
        (Relation.PROFESSION, Relation.SPOUSE),
        test="the {profession} who married {spouse}",
        validation="the {profession} wedded to {spouse}",
    ),
    Description(
        (Relation.BIRTHPLACE, Relation.EMPLOYER),
        test="the native of {birthplace} employed at {employer}",
        validation="the person who hailed from {birthplace} and served {employer}",
    ),
)

BORN_COMPARISON = Comparison(
    earlier=(
        ("Who was born earlier, {a} or {b}?", "Who is older, {a} or {b}?"),
        ("Of {a} and {b}, who came first into life?", "Of {a} and {b}, who has the earlier year of birth?"),
    ),
    later=(
        ("Who was born later, {a} or {b}?", "Who is younger, {a} or {b}?"),
        ("Of {a} and {b}, who came second into life?", "Of {a} and {b}, who has the later year of birth?"),
    ),
)
