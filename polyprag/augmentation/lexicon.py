"""English words that augmentation without a language model is built on."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NUMBER_WORDS = _words("one two three four five six seven eight nine ten eleven twelve")
"""The numbers from 1 to 12."""

FUNCTION_WORDS = frozenset(
    _words(
        "a about according after all also although an and any are as at be because been before being both but by can "
        "could despite did do does during each either every few following for from had has have he her hers him his "
        "how however i if in into is it its itself just like may me might more most much must my near neither no nor "
        "not of off on once only or other our out over own per same she should since so some such than that the their "
        "them then there these they this those though through thus to too under unlike until up upon very was we were "
        "what when where which while who whom whose why will with within without would yes yet you your"
    )
)
"""Words that carry no fact."""

MONTHS = _words("January February March April May June July August September October November December")

WORK_KINDS = _words(
    "film movie song single album EP book novel novella play musical opera series show sitcom comic manga game "
    "documentary painting poem western comedy drama thriller soundtrack comedy-drama magazine newspaper episode"
)
"""What people make and others perform; the last word of its definition."""

GENRES = frozenset(_words("western comedy drama thriller documentary comedy-drama sitcom musical opera"))
"""Kinds of work that are genres themselves."""

PLACE_KINDS = _words(
    "city town village county municipality commune district region province state country island river lake mountain "
    "hamlet suburb parish settlement neighbourhood neighborhood borough township community territory capital"
)

GROUP_KINDS = _words(
    "band group company organisation organization university school college club team party station church museum "
    "agency institute institution corporation airline railway line stadium building bridge castle palace league "
    "tournament festival award fort hospital theatre theater library park airport programme program"
)

PERSON_NOUNS = frozenset(
    _words(
        "king queen prince princess duke duchess count countess earl baron nobleman noblewoman politician actor "
        "actress singer director producer writer author poet novelist composer musician footballer player athlete "
        "swimmer runner skater cyclist boxer wrestler coach manager lawyer judge priest bishop archbishop cardinal "
        "pope saint general officer soldier commander admiral scientist physicist chemist mathematician engineer "
        "inventor architect painter sculptor artist photographer historian philosopher professor teacher scholar "
        "journalist editor screenwriter filmmaker cinematographer playwright dramatist businessman businesswoman "
        "entrepreneur executive businessperson diplomat ambassador minister president governor mayor senator "
        "congressman member economist physician doctor surgeon nurse psychologist sociologist linguist biologist "
        "botanist geologist astronomer explorer missionary theologian rabbi monk nun emperor empress sultan ruler "
        "chief warrior model dancer choreographer comedian presenter broadcaster guitarist pianist drummer bassist "
        "violinist conductor rapper songwriter lyricist designer illustrator cartoonist animator activist "
        "revolutionary reformer feminist suffragist philanthropist publisher goalkeeper midfielder defender forward "
        "striker cricketer golfer gymnast fencer rower sailor jockey driver racer steeplechaser sprinter judoka "
        "weightlifter archer marksman pilot astronaut aviator navigator knight lord lady baronet monarch heir son "
        "daughter wife husband brother sister father mother programmer developer critic essayist translator "
        "jurist attorney barrister caliph khan tsar shah chieftain peer singer-songwriter aristocrat educator referee "
        "commentator trainer gangster outlaw criminal veteran pirate soloist librarian "
        "curator chef farmer merchant banker trader landowner socialite practitioner librettist organist"
    )
)
"""What people are; the last word of their definition."""

RANKS = _words(
    "King Queen Prince Princess Duke Duchess Count Countess Earl Baron Baroness Lord Lady Emperor Margrave Elector"
)
"""Titles that follow a name after a comma: "Albrecht, Duke of Württemberg"."""

CALENDAR = (*MONTHS, *_words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday BC AD BCE CE"))
"""Words in capitals that are no names."""

HONORIFICS = frozenset(
    _words(
        "king queen prince princess duke duchess count countess earl baron president pope general saint archbishop "
        "bishop cardinal senator governor minister professor doctor captain colonel admiral emperor empress sultan "
        "lord lady chief mayor"
    )
)
"""What may be the first word of a person's name."""

MALE_TITLES = frozenset(_words("King Prince Duke Count Earl Baron Sir Lord Emperor Sultan Archduke Marquess Margrave"))

PLAIN_MODIFIERS = frozenset(
    _words(
        "short feature feature-length television silent debut upcoming language new second third studio live lost "
        "low-budget independent big-budget upcoming"
    )
)
"""What a work may be called beside its genre."""

PERSONAL_VERBS = frozenset(
    _words(
        "wrote died married directed invented discovered composed painted studied taught sang graduated proposed spoke "
        "co-wrote authored proved formulated resigned retired"
    )
)
"""Past tenses whose subject is a person."""

FAMILY = _words(
    "father mother wife husband spouse son daughter brother sister grandfather grandmother uncle aunt cousin nephew "
    "niece stepfather stepmother half-brother half-sister twin"
)
PEOPLE_OF = frozenset(
    (
        *FAMILY,
        *_words(
            "successor predecessor mayor president director founder owner chairman chairwoman leader coach teacher "
            "mentor partner author composer producer editor principal headmaster chancellor ruler patron manager "
            "parents grandparents children sons daughters brothers sisters founders"
        ),
    )
)
"""Nouns that, said of somebody or something, stand for a person."""

DEMONYMS = (
    *_words(
        "Afghan African Albanian Algerian American Angolan Argentine Argentinian Armenian Australian Austrian "
        "Azerbaijani Bahraini Bangladeshi Belarusian Belgian Bolivian Bosnian Brazilian British Bulgarian Burmese "
        "Cambodian Cameroonian Canadian Chilean Chinese Colombian Congolese Croatian Cuban Cypriot Czech Danish Dutch "
        "Ecuadorian Egyptian Emirati English Estonian Ethiopian European Filipino Finnish Flemish French Georgian "
        "German Ghanaian Greek Guatemalan Guyanese Haitian Honduran Hungarian Icelandic Indian Indonesian Iranian "
        "Iraqi Irish Israeli Italian Ivorian Jamaican Japanese Jordanian Kazakh Kazakhstani Kenyan Korean Kuwaiti "
        "Kyrgyz Latvian Lebanese Liberian Libyan Lithuanian Luxembourgish Macedonian Malaysian Maltese Mexican "
        "Moldovan Mongolian Montenegrin Moroccan Namibian Nepalese Nepali Nicaraguan Nigerian Norwegian Pakistani "
        "Palestinian Panamanian Paraguayan Persian Peruvian Polish Portuguese Qatari Romanian Russian Rwandan "
        "Salvadoran Saudi Scottish Senegalese Serbian Sicilian Singaporean Slovak Slovene Slovenian Somali Soviet "
        "Spanish Sudanese Surinamese Swedish Swiss Syrian Taiwanese Tanzanian Thai Tunisian Turkish Ugandan Ukrainian "
        "Uruguayan Uzbek Venezuelan Vietnamese Welsh Yugoslav Yemeni Zambian Zimbabwean"
    ),
    *("Costa Rican", "Puerto Rican", "Sri Lankan", "New Zealand", "South African", "South Korean", "North Korean"),
    *("Hong Kong", "East German", "West German", "Saudi Arabian", "Northern Irish"),
)
"""Adjectives of countries and nations."""

_IRREGULAR = """
be was been; become became become; begin began begun; bring brought brought; build built built; buy bought bought;
choose chose chosen; come came come; draw drew drawn; fight fought fought; find found found; get got got;
give gave given; go went gone; grow grew grown; hold held held; keep kept kept; know knew known; lead led led;
leave left left; lose lost lost; make made made; meet met met; overthrow overthrew overthrown; put put put;
read read read; rise rose risen; run ran run; see saw seen; sell sold sold; send sent sent; set set set;
sing sang sung; spend spent spent; stand stood stood; sue sued sued; take took taken; teach taught taught;
win won won; write wrote written; co-write co-wrote co-written; rebuild rebuilt rebuilt; shoot shot shot;
broadcast broadcast broadcast; spread spread spread; strike struck struck; undertake undertook undertaken;
withdraw withdrew withdrawn; travel travelled travelled; speak spoke spoken; fall fell fallen; split split split
"""
_REGULAR = _words(
    "abandon abolish accept achieve acquire adapt adopt advocate allow announce appear appoint approve arrange arrest "
    "arrive ask assassinate attack attend award ban base belong bury capture cause celebrate change charge claim "
    "close co-found collaborate collect command commission compete complete compose conduct connect conquer consecrate "
    "construct contain continue contribute convert cover create crown date debut declare decide dedicate defeat define "
    "demolish demonstrate deploy depict describe design destroy develop devise die direct discover dissolve divide "
    "distribute divorce edit educate elect elevate employ enact end enrol enroll enter erect establish estimate "
    "execute exhibit explore express extend feature film finish form formulate found gain graduate guide help honour "
    "honor host "
    "identify illustrate imprison improve include increase inaugurate incorporate induct influence inherit inhabit "
    "inspire install intend interview introduce invade invent invest invite involve join kill knight launch live "
    "locate manage manufacture marry merge migrate mount move murder name nominate note obtain occupy open operate "
    "oppose ordain order organise organize own paint participate pass patent perform pioneer place plan play praise "
    "predict premiere present process produce promote propose prove provide publish purchase rank raise reach receive "
    "recognise recognize record recover reduce refuse reign reject release relocate remain remove rename renovate "
    "replace report represent rescue resign restore retire return reveal rule schedule score screen serve settle sign "
    "stage star start stop study succeed suggest support surrender survive test tour train transfer "
    "transform translate travel trigger turn unite unveil use visit volunteer vote work"
)
_DOUBLED = frozenset(_words("ban stop transfer enrol plan star"))


def _past(base: str) -> str:
    if base in _DOUBLED:
        return f"{base}{base[-1]}ed"
    if base.endswith("e"):
        return f"{base}d"
    return f"{base[:-1]}ied" if base.endswith("y") and base[-2] not in "aeou" else f"{base}ed"


_FORMS = [line.split() for line in _IRREGULAR.replace("\n", " ").split(";")]
PAST = {past: base for base, past, _ in _FORMS} | {_past(base): base for base in _REGULAR}
"""Past tense to base form."""

PRESENT = _words(
    "stars features follows tells includes contains consists lies borders serves lives works plays holds covers runs "
    "comes stands depicts represents belongs begins ends takes uses forms flows connects hosts provides offers operates"
)
"""Verbs in the present tense that a predicate may begin with, beside "is", "are" and "has"."""

PARTICIPLES = {done: past for _, past, done in _FORMS} | {_past(base): _past(base) for base in _REGULAR}
"""Past participle to past tense."""
