import resource
import sys

import pytest

from mixer import storage
from mixer.data.sources import digits, open_source


@pytest.mark.skipif(sys.platform != "linux", reason="limits files as a full disk does")
def test_digits_on_a_full_disk_fail_with_one_line_and_are_written_later(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(storage.Unwritable, match=r"digits/1.0.0 cannot be written: File too"):
            digits.prepare(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "digits").iterdir()] == []
    digits.prepare(tmp_path)
    assert len(open_source("digits", "train", tmp_path)) == 1437
