"""The error family: every mistake a user can make ends in one of these, one line and exit status 2."""


class PolyPragError(Exception):
    """Base of all errors that polyprag raises on purpose; the message is one line with place and remedy."""


class ConfigError(PolyPragError):
    """A configuration key or value cannot be used."""


class DataError(PolyPragError):
    """A corpus, question or augmentation file cannot be used."""


class ModelError(PolyPragError):
    """A base model cannot be found, loaded or wrapped."""


class StoreError(PolyPragError):
    """A knowledge store is damaged, foreign, or belongs to another base model."""


class TrainingError(PolyPragError):
    """Training cannot go on, for instance because the loss is not finite."""


class AdapterError(PolyPragError):
    """A one-to-one adapter does not fit its model or changes nothing."""
