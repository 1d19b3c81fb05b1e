"""The closed word pools of the demo world and the syllables that its made-up names are built from."""

from __future__ import annotations

import random
from collections.abc import Iterator


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Pools whose words follow "a" hold no word that begins with a vowel.
PROFESSIONS = _words(
    "baker barber beekeeper blacksmith bookbinder botanist bricklayer butcher carpenter cartographer chemist clerk "
    "clockmaker cobbler cook cooper dentist diver doctor falconer farmer ferryman fisherman gardener geologist "
    "glassblower goldsmith hatter herbalist judge lawyer librarian locksmith mason miller miner nurse painter "
    "perfumer pharmacist plumber potter printer roofer sailmaker sculptor shepherd shipwright surgeon surveyor "
    "tailor tanner translator weaver wheelwright woodcutter"
)
INSTRUMENTS = _words(
    "accordion bagpipes banjo bassoon cello clarinet cornet dulcimer fiddle flute guitar harmonica harp harpsichord "
    "horn lute lyre mandolin oboe organ piano recorder trombone trumpet tuba viola xylophone zither"
)
ANIMALS = _words(
    "badger bat bear beaver boar bull crane crow deer dolphin falcon fox frog goat goose hare hedgehog heron horse "
    "lion lynx magpie mole peacock pelican pike ram raven salmon seal snake squirrel stork swan toad tortoise "
    "trout whale wolf"
)
PRODUCTS = _words(
    "baskets bells bread bricks butter buttons candles carpets cheese chocolate cider clocks gloves hats honey jam "
    "knives lace lamps leather linen mirrors mustard paper pottery ribbons ropes saddles salt silk soap spoons "
    "sugar tea tiles timber tobacco vinegar wine wool"
)
SUBJECTS = _words(
    "acoustics algebra anatomy archaeology architecture astronomy botany chemistry engineering ethics forestry "
    "geography geology geometry grammar history hydraulics law logic mechanics medicine metallurgy meteorology music "
    "mythology navigation optics philosophy physics rhetoric statistics theology zoology"
)
COLOURS = _words("black blue brown crimson golden green grey orange pink purple red silver turquoise white yellow")
COLLECTIBLES = _words(
    "bones butterflies buttons coins combs compasses crystals dolls drums eggs fans feathers fossils globes helmets "
    "kites lanterns letters manuscripts maps masks medals meteorites microscopes mosses pipes puppets seeds shells "
    "spiders stamps swords tapestries telescopes umbrellas vases"
)
GENRES = _words(
    "ballad chronicle comedy fable fantasy farce legend memoir mystery novel parable pastoral play poem romance saga "
    "satire thriller tragedy travelogue"
)
RIVERS = _words(
    "Ashel Brune Calder Dovar Elsk Farrin Gleam Hollin Irrin Jarn Kelm Lisker Mirrow Nessle Osk Pellin Quarn Rusk "
    "Sarne Tillow Ulver Varl Wendle Yarrin Zelt"
)
INSTITUTIONS = ("Academy", "College", "Gallery", "Hall", "Institute", "Library", "Museum", "School")
TITLE_NOUNS = _words(
    "Anchor Bell Bridge Candle Clock Crown Door Feather Garden Ghost Island Key Lantern Letter Mirror Mountain "
    "Orchard Ring Road Rose Sailor Shadow Song Star Stone Storm Tower Voyage Widow Winter"
)

_FIRST_STARTS = _words(
    "Al Bel Cor Dal Edl Fen Gar Hal Il Jol Kel Lin Mar Nol Or Pel Quin Ros Sel Tam Ul Vor Wil Yor Zel"
)
WOMEN = tuple(start + end for start in _FIRST_STARTS for end in ("a", "ia", "ina", "ette", "inda", "eth", "ora", "wen"))
MEN = tuple(start + end for start in _FIRST_STARTS for end in ("o", "an", "ric", "mund", "us", "ard", "ik", "bert"))

_VOWELS = "aeiou"
_STARTS = tuple(
    onset + vowel
    for onset in _words("B Br D Dr F Fl G Gl Gr H K Kr L M N P Pr R S Sk St T Th Tr V W Z")
    for vowel in _VOWELS
)
_MIDDLES = tuple(onset + vowel for onset in _words("b d f g k l m n p r s t v z") for vowel in _VOWELS)
SURNAME_ENDS = _words(
    "bbard chford ckwell ddick dgrave ffley ggins lbrook lcott ldane lfrey lgar lkern llinge lmsey lpin ltash lvert "
    "lwick mbry mmick mpton ndrake ndish ngate nkley nsell nstrop ntham nvers pley ppard rbeck rdlow rfitt rgrove "
    "rkham rmond rnaby rpwell rquist rsden rthing rvane skell ssander tterby zzard"
)
PLACE_ENDS = _words(
    "bborough cksund ddenfell ffholm gmoor lbury lchester ldmark lfjord lhaven lmere lsby lstead lthorpe lvik mbridge "
    "mhurst ndale nfurt ngrad nholt nport nstadt ntown pstow rbach rdwold rford rglen rhythe rkirk rmarsh "
    "rness rshaven rstrand rwater sbeach skerry tminster"
)
INSTITUTION_ENDS = _words(
    "ckbourne ckham ddern ffhurst gbourne lbourne lcombe ldean lford lham lmont lpen lstone lton mbourne nbrook ncroft "
    "ndean nfold ngrove nhurst nstead nwell pham rcroft rdean rhurst rleigh rlow rstone rwick tmoor"
)
WORK_ENDS = _words(
    "beth dara droon gwyn lantis lluna lmora lora lune lyra meth mira ndara nessa nthe phira rael resh rion rlin "
    "rune sande shan thiel vara veth vonne xos zara zmir"
)


def made_up_names(ends: tuple[str, ...], count: int, rng: random.Random) -> list[str]:
    """Distinct pronounceable names.

    A name is a start, a middle where two parts are too few, and one of `ends`. Starts and middles close with a single
    vowel and every part opens with a consonant, so a name can be taken apart in one way only and no two are alike.

    Args:
        ends: last parts, each beginning with a consonant; disjoint sets of ends give disjoint sets of names.
        count: how many names.
        rng: chooses them.

    Returns:
        `count` names, all different.
    """
    middles = ("",) if count <= len(_STARTS) * len(ends) // 2 else _MIDDLES
    chosen = rng.sample(range(len(_STARTS) * len(middles) * len(ends)), count)
    return list(_spelled(chosen, middles, ends))


def _spelled(numbers: list[int], middles: tuple[str, ...], ends: tuple[str, ...]) -> Iterator[str]:
    for number in numbers:
        rest, end = divmod(number, len(ends))
        start, middle = divmod(rest, len(middles))
        yield _STARTS[start] + middles[middle] + ends[end]
