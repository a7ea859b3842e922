"""What can go wrong without being a bug of ours: bad input, and a check that does not hold."""


class InputError(ValueError):
    r"""What the user gave cannot be used; the text is one line that says what, which rule, and the value.

    The command line prints it and exits with status 2, without a traceback. Anything else that is
    raised is a bug of ours and keeps its traceback.

    >>> str(InputError("name must be a word, not 'two\nlines'"))
    "name must be a word, not 'two lines'"
    """

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())


class VerificationError(Exception):
    """A check ran to its end and does not hold; the text is one line that names what failed.

    The command line prints it and exits with status 1: the input was fine, the thing checked is not.
    """
