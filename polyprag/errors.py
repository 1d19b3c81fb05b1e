"""The error family: every mistake a user can make ends in one of these, one line and exit status 2."""


class PolyPragError(Exception):
    """Base of all errors that polyprag raises on purpose; the message is one line with place and remedy."""


class ConfigError(PolyPragError):
    """A configuration key or value cannot be used."""


class DataError(PolyPragError):
    """A corpus, question or augmentation file cannot be used."""


class ModelError(PolyPragError):
    """A base model cannot be found, loaded or wrapped."""


class RetrievalError(PolyPragError):
    """A retrieval backend cannot be reached, or refuses what is asked of it."""


class StoreError(PolyPragError):
    """A knowledge store is damaged, foreign, or belongs to another base model."""


class TrainingError(PolyPragError):
    """Training cannot go on, for instance because the loss is not finite."""


class SweepError(PolyPragError):
    """A sweep cannot start, or some of its runs have failed."""


class AdapterError(PolyPragError):
    """A one-to-one adapter does not fit its model or changes nothing."""


class Interrupted(PolyPragError):  # noqa: N818 - it is no mistake
    """A signal asked the program to stop, and it left its work in a state that can be taken up again.

    Args:
        signum: the signal's number; the exit status is 128 more.
        message: what was saved and how to go on.
    """

    def __init__(self, signum: int, message: str = "interrupted; add --resume auto to go on") -> None:
        super().__init__(message)
        self.signum = signum
