"""What every error message of the pack keeps to."""

import re


def one_sentence_of_advice(error):
    """The text of a pytest.raises, which is no traceback in disguise."""
    text = str(error.value)
    assert "\n" not in text and not re.search(r"NoneType|object has no|assert", text)
    return text
