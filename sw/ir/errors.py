"""The one exception that a user can cause."""


class InputError(ValueError):
    """What the user gave cannot be used; the text is one line that says what, which rule, and the value.

    The command line prints it and exits with status 2, without a traceback. Anything else that is
    raised is a bug of ours and keeps its traceback.
    """
