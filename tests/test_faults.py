"""The edits of `faults.py` fit the code as it is, so that `make soak` puts back what it names."""

from pathlib import Path

import pytest
from faults import FAULTS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_put_back_and_its_tests_are_there(fault):
    assert (ROOT / fault.path).read_text().count(fault.now) == 1
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert not name or f"def {name}(" in (ROOT / "tests" / file).read_text()
