"""What tests of ``answer_dataset`` need to run here."""

from __future__ import annotations

import pytest

__all__ = ["ON_RAY_DATA"]

ON_RAY_DATA = [
    pytest.mark.ray,
    pytest.mark.enable_socket,
    # Ray Data sets what it has deprecated itself.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    # It would like more blocks than there are, where the rows are few.
    pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors"),
]
