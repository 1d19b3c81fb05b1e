"""Gold answers as published files hold them."""

from __future__ import annotations

import json
import math

from polyprag.knowledge.rows import Row


def texts_in(value: object) -> list[str]:
    """The texts of a value that should be a list of them, or one; numbers become texts, all else is passed over.

    Lists of aliases hold nulls and blanks here and there, which are no answers.
    """
    items = value if isinstance(value, (list, tuple)) else [value]
    numbers_too = (str(item) if _is_number(item) else item for item in items)
    return [item.strip() for item in numbers_too if isinstance(item, str) and item.strip()]


def texts_of(row: Row, key: str) -> list[str]:
    """The texts of a list that a row holds as such or as a string of JSON; none where it is missing or blank.

    Raises:
        RowError: the string holds no JSON list.
    """
    value = row.values.get(key)
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise row.error(
                f'"{key}" must be a JSON list; correct it, or remove the row', "broken JSON list"
            ) from error
        if not isinstance(value, list):
            raise row.error(f'"{key}" must be a JSON list; put it in square brackets', "broken JSON list")
    return texts_in(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
