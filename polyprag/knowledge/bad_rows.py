"""Rows that cannot be used: an error for each, and the choice to leave them out and count them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from polyprag.config import OnBadRow
from polyprag.errors import DataError

logger = logging.getLogger(__name__)


class RowError(DataError):
    """A single row cannot be used; the rows around it can.

    Args:
        message: one line with place, complaint and remedy.
        reason: a short phrase without names or values, by which rows that were left out are counted.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class BadRows:
    """What happens to rows that cannot be used, and how many were left out.

    Args:
        on_bad_row: let the error of such a row through, or leave the row out and count it.

    Attributes:
        counts: rows that were left out, by reason.
    """

    def __init__(self, on_bad_row: OnBadRow = OnBadRow.FAIL) -> None:
        self.on_bad_row = on_bad_row
        self.counts: Counter[str] = Counter()

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Surrounds the work on one row; the first error of each reason that is passed over is logged.

        Raises:
            RowError: the row cannot be used, and such rows are not left out.
        """
        try:
            yield
        except RowError as error:
            if self.on_bad_row is OnBadRow.FAIL:
                raise
            self.leave_out(error)

    def leave_out(self, error: RowError) -> None:
        """Count a row as left out, whatever `on_bad_row` says."""
        if not self.counts[error.reason]:
            logger.warning("left out: %s", error)
        self.counts[error.reason] += 1
